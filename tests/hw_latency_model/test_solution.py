"""`solution.pyz`: what the referee sees of it, under its own software, this Python and stand-ins of TensorRT."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fake_board.tree import HERE, FakeBoard
from PIL import Image
from referee_python import need_referee_python

from exports import TrainedNetwork, quantize
from exports.bundle.inputs import CheckImages
from exports.onnx.parity import upsampled_classes
from exports.quantization.net import HalfNet
from hw_latency_model.agent.errors import JobError
from hw_latency_model.board.solution import write_solution
from hw_latency_model.onboard.images import class_map, resize_bicubic, resize_without_pillow
from hw_latency_model.onboard.plan import check_plan, plan_header
from hw_latency_model.onboard.regions import without_small_regions
from search_spaces import UserError, get_space

HW = (96, 128)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUMBER = re.compile(r"\A\d+\.\d+\n\Z")


def trained(family: str = "mobilenetv3_small", decoder: str = "lraspp", classes: int = 14, **params) -> TrainedNetwork:
    space = get_space("encoder_decoder", {"resolutions_px": [list(HW)]})
    chosen = {"family": family, "decoder": decoder, "width": 0.5, "resolution": "96x128", **params}
    candidate = space.candidate({**space.default().params, **chosen})
    torch.manual_seed(3)
    net = space.build_pruned(candidate, classes)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.randn(4, 3, *HW))
    names = tuple(f"class {index}" for index in range(classes))
    return TrainedNetwork(net.eval(), candidate, HW, names, 255, MEAN, STD, precision="fp16")


def write_images(folder: Path, count: int = 5) -> Path:
    folder.mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    for index, item in enumerate(coarse):
        Image.fromarray(item).resize((512, 512), Image.Resampling.BICUBIC).save(folder / f"test_{index:04d}.png")
    return folder


def expected(network: TrainedNetwork, path: Path) -> np.ndarray:
    small = Image.open(path).convert("RGB").resize((HW[1], HW[0]), Image.Resampling.BICUBIC, reducing_gap=3.0)
    unit = (np.asarray(small, np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    with torch.no_grad():
        logits = network.delivered()(torch.from_numpy(unit.transpose(2, 0, 1)[None])).numpy()
    return upsampled_classes(logits, (512, 512))


def referee(
    python: str, archive: Path, images: Path, maps: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the contract's command, from another folder."""
    command = [python, "-W", "ignore", str(archive), "-i", str(images), "-o", str(maps)]
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, cwd=images.parent, env={**inherited, **environment}
    )


def agreement(network: TrainedNetwork, images: Path, maps: Path) -> float:
    same = []
    for path in sorted(images.iterdir()):
        with Image.open(maps / path.name) as found:
            assert (found.mode, found.size) == ("L", (512, 512))
            same.append(np.asarray(found) == expected(network, path))
    assert len(list(maps.iterdir())) == len(same)
    return float(np.mean(same))


@pytest.mark.slow
@pytest.mark.timeout(2000)  # may install the referee's software first
@pytest.mark.parametrize(
    ("family", "decoder"), [("mobilenetv3_small", "lraspp"), ("repvgg_a0", "fpn"), ("mobilenetv2", "fpn")]
)
def test_the_referees_software_gets_the_hosts_prediction(tmp_path: Path, family: str, decoder: str):
    network = trained(family, decoder, prune_ratio=0.25)
    images, archive = write_images(tmp_path / "images"), write_solution(tmp_path / "solution.pyz", network, batch=2)
    done = referee(need_referee_python(), archive, images, tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    assert NUMBER.match(done.stdout)
    assert agreement(network, images, tmp_path / "maps") >= 0.999


def test_stdout_is_one_number_and_the_maps_are_the_hosts(tmp_path: Path):
    network = trained()
    images, archive = write_images(tmp_path / "images"), write_solution(tmp_path / "solution.pyz", network, batch=2)
    done = referee(sys.executable, archive, images, tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    assert NUMBER.match(done.stdout) and float(done.stdout) > 0
    assert "torch runs the network" in done.stderr
    assert agreement(network, images, tmp_path / "maps") >= 0.999


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_trial_of_another_precision_gives_its_own_prediction(tmp_path: Path, precision: str):
    network = replace(trained("resnet10t", "fpn"), precision=precision)
    images = write_images(tmp_path / "images", 2)
    if precision == "int8":
        batches = [torch.randn(2, 3, *HW, generator=torch.Generator().manual_seed(1))]
        network = replace(network, quantized=quantize(network.net, HW, batches))
    archive = write_solution(tmp_path / "solution.pyz", network)
    done = referee(sys.executable, archive, images, tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    assert agreement(network, images, tmp_path / "maps") >= (0.98 if precision == "int8" else 0.99999)


def test_other_classes_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="14 classes apart, this network 12"):
        write_solution(tmp_path / "solution.pyz", trained(classes=12))
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_sentence_and_no_number(tmp_path: Path):
    archive = write_solution(tmp_path / "solution.pyz", trained())
    images = write_images(tmp_path / "images", 2)
    (images / "test_0001.png").write_bytes(b"no image")
    done = referee(sys.executable, archive, images, tmp_path / "maps")
    assert (done.returncode, done.stdout) == (2, "")
    assert "test_0001.png cannot be read as an image" in done.stderr.splitlines()[-1]
    done = referee(sys.executable, archive, tmp_path / "nowhere", tmp_path / "maps")
    assert (done.returncode, done.stdout) == (2, "") and "there is no folder" in done.stderr


class Beyond(torch.nn.Module):
    """A network with values beyond FP16's range."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.clamp(self.net(image) * 1e9, -1e12, 1e12) / 1e9


def test_layers_that_fp16_does_not_suit_stay_in_float32(tmp_path: Path, board: FakeBoard):
    network = trained()
    network = replace(network, net=Beyond(network.net).eval())
    pixels = torch.randn(2, 3, *HW, generator=torch.Generator().manual_seed(1)).numpy()
    checked_on = CheckImages(network, pixels, None)
    archive = write_solution(tmp_path / "solution.pyz", network, checked_on=checked_on)
    with zipfile.ZipFile(archive) as opened:
        kept = json.loads(opened.read("data/settings.json"))["keep_fp32"]
        model = onnx.load_from_string(opened.read("data/network.onnx"))
    nodes = {node.name: node.op_type for node in model.graph.node}
    assert kept and {nodes[name] for name in kept} <= {"Mul", "Clip", "Div"}
    images = write_images(tmp_path / "images", 2)
    done = referee(sys.executable, archive, images, tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    rounded = replace(network, net=HalfNet(model, kept).eval(), precision="fp32")
    assert agreement(rounded, images, tmp_path / "maps") >= 0.999
    stand_ins = with_stand_in_network(archive, nodes=[*kept, "Conv_0"])
    assert build(stand_ins, **stand_in(board.root, "8.2.1.9")).returncode == 0
    with zipfile.ZipFile(stand_ins) as opened:
        assert json.loads(opened.read("data/network.plan")[80:])["float32"] == kept


# --- TensorRT's stand-ins

STAND_INS = ["7.1.3", "8.0.1.6", "8.2.1.9", "8.4.1.5", "8.6.2", "10.3.0", "11.0.0"]


def with_stand_in_network(archive: Path, **facts) -> Path:
    """Replace the ONNX file by the stand-in's: its engine answers with the logits of one class."""
    changed = archive.with_name("stand-in.pyz")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(changed, "w") as new:
        shape = json.loads(old.read("data/settings.json"))["output_shape"]
        model = {"ms": 5.0, "shapes": [[shape[0], 3, *HW], shape], "answer": 11, **facts}
        for entry in old.infolist():
            content = json.dumps(model).encode() if entry.filename == "data/network.onnx" else old.read(entry.filename)
            new.writestr(entry, content)
    return changed


def stand_in(root: Path, version: str) -> dict[str, str]:
    return {"PYTHONPATH": str(HERE / "site"), "FAKE_TRT_VERSION": version, "FAKE_BOARD_ROOT": str(root)}


def build(archive: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(archive), "--build"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


@pytest.mark.parametrize("version", STAND_INS)
def test_the_plan_is_built_and_packed_on_the_board(tmp_path: Path, board: FakeBoard, version: str):
    images = write_images(tmp_path / "images", 3)
    archive = with_stand_in_network(write_solution(tmp_path / "solution.pyz", trained(), batch=2))
    built = build(archive, **stand_in(board.root, version))
    assert (built.returncode, built.stdout) == (0, ""), built.stderr
    done = referee(sys.executable, archive, images, tmp_path / "maps", **stand_in(board.root, version))
    assert done.returncode == 0, done.stderr
    assert NUMBER.match(done.stdout), "the log of TensorRT must not reach stdout"
    assert float(done.stdout) >= 2 * 0.003, "two batches on the GPU's own clock"
    for path in images.iterdir():
        assert set(np.unique(Image.open(tmp_path / "maps" / path.name))) == {11}


def test_a_plan_of_another_board_is_named_and_torch_takes_over(tmp_path: Path, board: FakeBoard):
    network = trained()
    images = write_images(tmp_path / "images", 2)
    archive = with_stand_in_network(write_solution(tmp_path / "solution.pyz", network))
    assert build(archive, **stand_in(board.root, "8.0.1.6")).returncode == 0
    done = referee(sys.executable, archive, images, tmp_path / "maps", **stand_in(board.root, "8.2.1.9"))
    assert done.returncode == 0 and NUMBER.match(done.stdout)
    assert "it was built by TensorRT 8.0.1.6, this board has 8.2.1.9" in done.stderr
    assert agreement(network, images, tmp_path / "maps") >= 0.999


def test_a_plan_of_another_batch_is_named(tmp_path: Path, board: FakeBoard):
    images = write_images(tmp_path / "images", 1)
    solution = write_solution(tmp_path / "solution.pyz", trained())
    archive = with_stand_in_network(solution, shapes=[[4, 3, *HW], [4, 14, 12, 16]])
    assert build(archive, **stand_in(board.root, "8.2.1.9")).returncode == 0
    done = referee(sys.executable, archive, images, tmp_path / "maps", **stand_in(board.root, "8.2.1.9"))
    assert done.returncode == 0 and "built for another input size or batch" in done.stderr


def test_the_header_of_a_real_plan(shared_dir: Path):
    lines = (shared_dir / "fixtures/lpcvc/midea_plan_header_256B.hexdump.txt").read_text().splitlines()
    plan = b"".join(bytes.fromhex(line[9:49].replace(" ", "")) for line in lines)
    assert plan_header(plan) == ((8, 2, 1, 9), (5, 3))
    check_plan(plan, "8.2.1.9", (5, 3))
    with pytest.raises(JobError, match=r"compute capability 5\.3, this one has 7\.2"):
        check_plan(plan, "8.2.1.9", (7, 2))
    with pytest.raises(JobError, match=r"TensorRT 8\.2\.1\.9, this board has 8\.5\.2"):
        check_plan(plan, "8.5.2.2", (5, 3))
    with pytest.raises(JobError, match="no TensorRT plan"):
        plan_header(b"\x08\x07onnx" * 20)


# --- pixels


def test_a_stray_region_takes_the_class_around_it():
    classes = np.zeros((64, 64), np.uint8)
    classes[:, 32:] = 7
    classes[10, 10] = 3
    classes[20:24, 30:36] = 5  # two columns in class 0, four in class 7
    classes[40:50, 5:15] = 9
    kept = without_small_regions(classes, 64)
    assert set(np.unique(kept)) == {0, 7, 9}
    assert kept[10, 10] == 0 and (kept[20:24, 30:36] == 7).all() and (kept == 9).sum() == 100
    assert without_small_regions(classes, 0) is classes
    assert set(np.unique(without_small_regions(classes, 10**6))) == {7}, "one region is left, the largest one's"


def test_regions_touch_at_sides_not_at_corners_or_row_ends():
    classes = np.zeros((8, 8), np.uint8)
    classes[2, 7] = classes[3, 0] = classes[5, 3] = classes[6, 4] = 1
    assert not without_small_regions(classes, 2).any()


@pytest.mark.parametrize("size_hw", [(60, 80), (512, 512), (777, 301)])
def test_images_are_resized_alike_without_pillow(size_hw: tuple[int, int]):
    rgb = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    difference = resize_without_pillow(rgb, HW).astype(int) - resize_bicubic(rgb, HW)
    assert np.abs(difference).max() <= (1 if max(size_hw) < 3 * min(HW) else 24)
    assert np.abs(difference).mean() < 1.5


def test_class_maps_are_those_of_torch():
    logits = np.random.default_rng(0).normal(size=(1, 14, 9, 7)).astype(np.float32)
    assert (class_map(logits[0], (131, 97)) == upsampled_classes(logits, (131, 97))).mean() > 0.9999
