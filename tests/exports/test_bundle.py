"""Bundles: an engineer with the folder and nothing else can run the network; a damaged folder is recognised."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

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
from exports.bundle.preview import _FONTS, _groups, has_glyphs, legend_entries, write_preview
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
    names |= {"model-fp16.onnx", "graph.json", "weights.safetensors", "SHA256SUMS"}
    assert {path.name for path in original.iterdir()} == names
    assert {path.name for path in original.parent.iterdir()} == {"trial_7"}
    manifest = bundle.manifest
    assert set(manifest["files"]) == names - {"manifest.json", "SHA256SUMS"}
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


def test_the_preview_shows_wrong_pixels_and_the_worst_of_the_other_images(tmp_path):
    class Session:
        """Predicts class 1 where the image is bright, else class 0."""

        def run(self, image):
            bright = image[:, :1] > 0
            return np.concatenate([~bright, bright], axis=1).astype(np.float32)

    images = np.full((6, 3, *HW), -1.0, np.float32)
    labels = [np.zeros(HW, np.uint8) for _ in range(6)]
    for index, share in ((3, 4), (4, 2), (5, 8)):  # of the width that is labelled otherwise than predicted
        labels[index][:, : HW[1] // share] = 1
    labels[0][:10] = 255
    given = inputs(images=images[:4], labels=labels[:4])
    given = replace(given, further_images=images[4:], further_labels=labels[4:])
    found = _groups(Session(), given, 2)
    assert [words for words, _ in found] == ["", ": the worst of 4 others"]
    assert [row.wrong for row in found[0][1]] == [0.0, 0.0], "the ignore index is not wrong"
    assert [row.wrong for row in found[1][1]] == [0.5, 0.25]
    write_preview(tmp_path / "p.png", Session(), given, rows=2)
    with Image.open(tmp_path / "p.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    panel_px = 320 * round(320 * HW[0] / HW[1])
    red = (pixels == (200, 30, 40)).all(axis=1).sum()
    assert red == pytest.approx(0.75 * panel_px, rel=0.05)


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


FACTS = {
    "study": "demo",
    "trial": 7,
    "val_miou": 0.41234,
    "latency_ms": 3.21,
    "latency_low_ms": 2.9,
    "latency_high_ms": 3.6,
    "latency_coverage": 0.97,
    "device": "jetson-nano",
    "score": {
        "val_miou": 0.41234,
        "epoch": 10,
        "epochs_total": 10,
        "macs": 5,
        "params": 98_765,
        "train_s": 61.2,
        "class_iou": [0.5, None, 0.25, 0.75],
        "initial_weights": "hub",
        "precision": "fp16",
        "float_miou": 0.42,
        "val_dice": None,
        "corruption_miou": {"fog": 0.31},
    },
    "costs": {"energy_mj": {"value": 12.5, "low": 11.0, "high": 14.0}},
}
MEASURED = {
    "device": "jetson-nano",
    "precision": "fp16",
    "latency_ms_p50": 3.456,
    "latency_ms_p90": 3.7,
    "runs": 60,
    "started_at": "2026-01-02T03:04:05+00:00",
}


def rows_of(text: str) -> dict[str, str]:
    """The tables of a README, by the first cell of their rows."""
    return {cells[1].strip(): cells[2].strip() for line in text.splitlines() if len(cells := line.split("|")) > 3}


def test_the_readme_is_a_model_card_in_words_and_units(tmp_path):
    names = ("sky", "a|b", "<i>road</i>", "person_1")
    write_bundle(tmp_path / "bundle", inputs(facts=FACTS, class_names=names))
    text = (tmp_path / "bundle" / "README.md").read_text()
    assert "{'" not in text and "| None" not in text and "<i>" not in text
    rows = rows_of(text)
    assert rows["trial"] == "7 of the study demo"
    assert rows["mIoU on the validation split"] == "0.4123"
    assert rows["mIoU before quantization"] == "0.4200"
    assert rows["mIoU under fog"] == "0.3100"
    assert rows["training"] == "10 of 10 epochs, 61 s, from hub weights"
    assert rows["predicted latency (jetson-nano, batch 1)"].startswith("3.21 ms, 90 % interval 2.9 to 3.6 ms, 97%")
    assert rows["predicted energy (mJ)"] == "12.5, interval 11 to 14"
    assert rows["measured latency (batch 1)"] == "not measured"
    exported = read_bundle(tmp_path / "bundle").manifest["network"]["params"]
    assert rows["parameters"].startswith(f"{exported:,} in model.onnx (98,765 in training: export folds")
    assert text.count("98,765") == 1
    assert "| 0 | sky | 0.500 |" in text and "| 1 | a\\|b | – |" in text and "| 3 | person\\_1 | 0.750 |" in text


def test_one_parameter_count_where_both_are_the_same(original, tmp_path):
    exported = read_bundle(original).manifest["network"]["params"]
    score = {**FACTS["score"], "params": exported}
    write_bundle(tmp_path / "bundle", inputs(facts={**FACTS, "score": score}))
    assert rows_of((tmp_path / "bundle" / "README.md").read_text())["parameters"] == f"{exported:,}"


def test_a_measurement_is_part_of_the_readme_and_survives_another_export(tmp_path):
    folder, checkpoint = tmp_path / "bundle", tmp_path / "last.pt"
    checkpoint.write_bytes(b"weights")
    write_bundle(folder, inputs(checkpoint=checkpoint))
    add_measurement(folder, MEASURED)
    expected = "3.46 ms median (3.7 ms p90): jetson-nano, fp16, 60 runs, 2026-01-02"
    assert rows_of((folder / "README.md").read_text())["measured latency (batch 1)"] == expected
    read_bundle(folder)
    write_bundle(folder, inputs(checkpoint=checkpoint))
    assert read_bundle(folder).measurements == (MEASURED,)
    assert rows_of((folder / "README.md").read_text())["measured latency (batch 1)"] == expected
    write_bundle(folder, inputs(checkpoint=checkpoint, measurements=[MEASURED]))
    assert read_bundle(folder).measurements == (MEASURED,), "the same measurement is not listed twice"
    checkpoint.write_bytes(b"other weights")
    write_bundle(folder, inputs(checkpoint=checkpoint))
    assert read_bundle(folder).measurements == (), "another network was measured"


def installed(font: str) -> bool:
    try:
        ImageFont.truetype(font, 12)
    except OSError:
        return False
    return True


def test_class_names_are_drawn_in_a_font_that_has_their_letters():
    texts, fonts = legend_entries(["road", "Straße", "дорога", "\U0002f80c"])
    assert texts[0] == "road"
    assert texts[1] == "Straße" or not any(installed(name) for name in _FONTS), "a bare machine has no font with an ß"
    for index, (text, font) in enumerate(zip(texts, fonts, strict=True)):
        assert has_glyphs(font, text) or text == f"class {index}"
    assert texts[3] == "class 3", "no common font has this letter"


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


def flip(name, at):
    def damage(folder):
        content = bytearray((folder / name).read_bytes())
        content[at] ^= 32
        (folder / name).write_bytes(content)

    return damage


DAMAGE = {
    "weights flipped": (flip("weights.safetensors", -1), r"weights\.safetensors.*checksum"),
    "manifest flipped": (lambda f: change_manifest(f, facts={}), r"manifest\.json or SHA256SUMS"),
    "checksums flipped": (flip("SHA256SUMS", 64), r"manifest\.json or SHA256SUMS"),
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
from dataclasses import replace
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
