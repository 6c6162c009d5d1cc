"""Bundles: an engineer with the folder and nothing else can run the network; a damaged folder is recognised."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from exports import (
    BundleInputs,
    ExportError,
    TrainedNetwork,
    add_measurement,
    get_profile,
    load_network,
    read_bundle,
    write_bundle,
)
from exports.onnx.parity import upsampled_classes
from search_spaces import get_space
from search_spaces._common.errors import UserError
from search_spaces._common.palette import spread_palette

HW = (64, 96)
CLASSES = ("sky", "road", "building|damaged", "person")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPACE = get_space("encoder_decoder", {"resolutions_px": [list(HW)]})


def made(family="mobilenetv3_small", **params):
    """A pruned candidate and its network, with batch norm statistics as after training."""
    chosen = {"family": family, "decoder": "lraspp", "width": 0.5, "resolution": "64x96", "prune_ratio": 0.25}
    candidate = SPACE.candidate({**SPACE.default().params, **chosen, **params})
    net = SPACE.build_pruned(candidate, len(CLASSES))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.randn(4, 3, *HW, generator=generator))
    return candidate, net


def pixels(count=2, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 12, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(item).resize((HW[1], HW[0]), Image.Resampling.BICUBIC)) for item in coarse]


def normalised(images):
    unit = np.stack(images).astype(np.float32) / 255
    return ((unit - np.float32(MEAN)) / np.float32(STD)).transpose(0, 3, 1, 2).astype(np.float32)


def arguments(**changes):
    candidate, net = made()
    rng = np.random.default_rng(1)
    labels = [rng.integers(0, 4, size, dtype=np.uint8) for size in ((100, 150), (64, 96))]
    labels[0][:10] = 255
    given = {
        "net": net,
        "candidate": candidate,
        "input_hw": HW,
        "class_names": CLASSES,
        "mean": MEAN,
        "std": STD,
        "ignore_index": 255,
        "precision": "fp16",
        "images": normalised(pixels()),
        "labels": labels,
        "profile": get_profile("jetson-nano"),
        "facts": {"study": "demo", "trial": 7, "val_miou": 0.5, "latency": {"latency_ms": 3.2}},
        "config_yaml": "study: demo\n",
        "checkpoint": None,
    }
    given.update(changes)
    given.setdefault("palette", spread_palette(len(given["class_names"])))
    return given


def inputs(**changes):
    given = arguments(**changes)
    names = ("net", "candidate", "input_hw", "class_names", "mean", "std", "ignore_index", "precision")
    return BundleInputs(TrainedNetwork(**{name: given.pop(name) for name in names}), **given)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "trial_7"
    write_bundle(folder, inputs())
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "bundle")


def test_a_bundle_holds_what_a_board_needs(original):
    bundle = read_bundle(original)
    names = {"model.onnx", "model.pt", "manifest.json", "study.yaml", "README.md", "preview.png"}
    assert {path.name for path in original.iterdir()} == names
    assert {path.name for path in original.parent.iterdir()} == {"trial_7"}
    manifest = bundle.manifest
    assert set(manifest["files"]) == names - {"manifest.json"}
    assert manifest["schema_version"] == 1
    assert (manifest["input"]["height_px"], manifest["input"]["width_px"]) == HW == bundle.input_hw
    assert (manifest["input"]["layout"], manifest["input"]["colour_order"]) == ("NCHW", "RGB")
    assert manifest["input"]["mean"] == list(MEAN)
    assert manifest["output"]["shape"][1] == 4
    assert manifest["output"]["stride"] * manifest["output"]["shape"][2] == HW[0]
    assert manifest["classes"]["ignore_index"] == 255
    assert len(manifest["classes"]["palette"]) == 4
    assert bundle.class_names == CLASSES
    assert manifest["parity"]["passed"] is True
    assert manifest["parity"]["miou_onnx"] == pytest.approx(manifest["parity"]["miou_torch"], abs=1e-3)
    assert manifest["lint"]["profile"] == "jetson-nano"
    assert manifest["facts"]["trial"] == 7
    assert {"torch", "onnx", "onnxruntime"} <= set(manifest["versions"])
    assert bundle.candidate == made()[0]
    assert (original / "study.yaml").read_text() == "study: demo\n"
    with Image.open(original / "preview.png") as picture:
        assert picture.width > 3 * 300


def test_the_weights_rebuild_the_network_with_torch_alone(original):
    content = torch.load(original / "model.pt", weights_only=True)
    assert (content["num_classes"], content["input_hw"]) == (4, list(HW))
    _, net = made()
    images = torch.from_numpy(normalised(pixels()))
    with torch.no_grad():
        assert torch.equal(load_network(read_bundle(original))(images), net.eval()(images))


def test_the_program_in_the_readme_runs(original, tmp_path):
    """The image is larger than the input, so the whole way is tested: resize, normalise, run, upsample, argmax."""
    program = re.search(r"```python\n(.*?)```", (original / "README.md").read_text(), re.DOTALL).group(1)
    (tmp_path / "run.py").write_text(program)
    image = Image.fromarray(pixels(1, seed=5)[0]).resize((180, 120), Image.Resampling.BICUBIC)
    image.save(tmp_path / "image.png")
    done = subprocess.run(
        [sys.executable, "run.py", str(original), "image.png", "mask.png"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    small = np.asarray(image.resize((HW[1], HW[0]), Image.Resampling.BICUBIC, reducing_gap=3.0))
    with torch.no_grad():
        logits = made()[1].eval()(torch.from_numpy(normalised([small]))).numpy()
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (180, 120)
        assert mask.mode == "P"
        assert (np.asarray(mask) == upsampled_classes(logits, (120, 180))).mean() > 0.999
    read_bundle(original)


def test_the_readme_tells_the_board_command_and_escapes_tables(original):
    text = (original / "README.md").read_text()
    assert "trtexec --onnx=model.onnx --fp16 --workspace=512 --saveEngine=model.plan" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows), rows


def test_a_measurement_joins_later(folder):
    add_measurement(folder, {"device": "local-cpu", "latency_ms_p50": 3.4})
    bundle = add_measurement(folder, {"device": "jetson-nano", "latency_ms_p50": 9.0})
    assert [item["latency_ms_p50"] for item in bundle.measurements] == [3.4, 9.0]
    assert read_bundle(folder).measurements == bundle.measurements
    with pytest.raises(ValueError, match="JSON"):
        add_measurement(folder, {"latency_ms_p50": float("nan")})


def change_manifest(folder, **values):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def flip_a_byte(folder):
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


DAMAGE = {
    "changed": (flip_a_byte, r"model\.onnx.*checksum"),
    "truncated": (lambda f: (f / "model.pt").write_bytes(b"half"), r"model\.pt.*checksum"),
    "missing": (lambda f: (f / "preview.png").unlink(), r"preview\.png is missing"),
    "extra": (lambda f: (f / "other.onnx").write_bytes(b"x"), r"other\.onnx does not belong"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "not an export bundle"),
    "half a manifest": (lambda f: (f / "manifest.json").write_text('{"schema_'), r"manifest\.json is damaged"),
    "not a manifest": (lambda f: (f / "manifest.json").write_text("[]"), "no schema_version"),
    "newer": (lambda f: change_manifest(f, schema_version=2), "schema version 2, this paretoseg reads up to 1"),
    "outside": (lambda f: change_manifest(f, files={"../x": {"sha256": "", "bytes": 0}}), "outside the bundle"),
    "no folder": (shutil.rmtree, "there is no bundle at"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_bundle_is_recognised(folder, kind):
    damage, words = DAMAGE[kind]
    damage(folder)
    with pytest.raises(UserError, match=words):
        read_bundle(folder)


def test_an_engine_built_beside_it_is_no_damage(folder):
    (folder / "model.plan").write_bytes(b"engine")
    (folder / ".DS_Store").write_bytes(b"")
    read_bundle(folder)


def test_a_diverged_network_is_not_written(tmp_path):
    given = inputs()
    with torch.no_grad():
        next(given.network.net.decoder.parameters()).fill_(float("nan"))
    with pytest.raises(ExportError, match=r"candidate [0-9a-f]{16} \(mobilenetv3_small, lraspp\) is not exported.*NaN"):
        write_bundle(tmp_path / "bundle", given)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_older_bundle(folder):
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="class_names 2"):
        write_bundle(folder, inputs(class_names=("a", "b"), labels=None))
    assert (folder / "manifest.json").read_bytes() == before
    read_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"facts": {"miou": float("nan")}}, "JSON"),
        ({"palette": ((0, 0, 0),)}, "4 classes and 1 colours"),
        ({"input_hw": (32, 32)}, "input is"),
    ],
)
def test_wrong_use_is_a_value_error(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        write_bundle(tmp_path / "bundle", inputs(**changes))
    assert not list(tmp_path.iterdir())


def test_checkpoint_origin_palette_and_missing_labels(tmp_path):
    (tmp_path / "epoch9.pt").write_bytes(b"weights")
    palette = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))
    given = inputs(checkpoint=tmp_path / "epoch9.pt", palette=palette, labels=None, profile=get_profile("local-cpu"))
    bundle = write_bundle(tmp_path / "bundle", given)
    assert bundle.manifest["checkpoint"]["name"] == "epoch9.pt"
    assert bundle.manifest["classes"]["palette"] == [list(colour) for colour in palette]
    assert bundle.manifest["parity"]["miou_torch"] is None
    assert "trtexec" not in (tmp_path / "bundle" / "README.md").read_text()


WRITER = """
import sys
from pathlib import Path
from exports.bundle.lock import replaced_folder
for turn in range(100):
    with replaced_folder(Path(sys.argv[1])) as staging:
        for part in ("a", "b"):
            (staging / part).write_text(f"{sys.argv[2]} {turn}")
"""


def test_processes_may_replace_a_folder_at_once(tmp_path, repo_root):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "bundle")]
    writers = [subprocess.Popen([*command, name], cwd=repo_root, stderr=subprocess.PIPE, text=True) for name in "xyz"]
    for writer in writers:
        _, errors = writer.communicate(timeout=240)
        assert (writer.returncode, errors) == (0, "")
    assert (tmp_path / "bundle" / "a").read_text() == (tmp_path / "bundle" / "b").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def together(*works):
    with ThreadPoolExecutor(len(works)) as threads:
        for future in [threads.submit(work) for work in works]:
            future.result()


def test_measurements_added_at_once_all_stay(folder):
    def add(name):
        for turn in range(15):
            add_measurement(folder, {"writer": name, "turn": turn})

    together(*(partial(add, name) for name in "xyz"))
    assert len(read_bundle(folder).measurements) == 45


@pytest.mark.parametrize(
    ("family", "decoder"), [("repvgg_a0", "fpn"), ("mobilenetv2", "lraspp"), ("resnet10t", "fpn"), ("lcnet", "lraspp")]
)
def test_families_pass_parity_and_the_nano_check(tmp_path, family, decoder):
    candidate, net = made(family, decoder=decoder, prune_ratio=0.5)
    bundle = write_bundle(tmp_path / family, inputs(net=net, candidate=candidate))
    assert bundle.manifest["parity"]["max_rel_error"] < 1e-4
    assert bundle.manifest["lint"]["summary"] == "nothing known against running on jetson-nano"
    assert bundle.manifest["network"]["macs"] > 0
