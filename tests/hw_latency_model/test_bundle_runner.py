"""`run.py` of a bundle: masks and overlays on this machine, under Python 3.6, and with stand-ins of TensorRT."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_board.tree import HERE, FakeBoard
from PIL import Image
from referee_python import need_referee_python
from test_solution import HW, MEAN, STD, trained, write_images

from exports import BundleInputs, get_profile, read_bundle, write_bundle
from exports.onnx.parity import upsampled_classes
from hw_latency_model.board.runner_archive import runner_archive
from search_spaces._common.palette import spread_palette


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = np.random.default_rng(1).normal(size=(2, 3, *HW)).astype(np.float32)
    inputs = BundleInputs(
        network=trained(),
        palette=spread_palette(14),
        images=images,
        labels=None,
        profile=get_profile("jetson-jetpack-6"),
        facts={},
        config_yaml="study: {}\n",
        runner=runner_archive(),
    )
    return write_bundle(tmp_path_factory.mktemp("bundles") / "bundle", inputs).dir


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "bundle"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = write_images(tmp_path / "images", 2)
    Image.open(folder / "test_0000.png").resize((200, 150)).save(folder / "small.jpg")
    return folder


def run(
    python: str, bundle: Path, images: Path | None, out: Path, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    source = ["--images", str(images)] if images else []
    command = [python, str(bundle / "run.py"), *source, "--out", str(out), *options]
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, cwd=bundle.parent, env={**inherited, **environment}
    )


def assert_masks(bundle: Path, images: Path, out: Path, overlay: bool = False) -> None:
    palette = np.asarray(read_bundle(bundle).manifest["classes"]["palette"])
    network = trained()
    for path in images.iterdir():
        rgb = Image.open(path).convert("RGB")
        small = rgb.resize((HW[1], HW[0]), Image.Resampling.BICUBIC, reducing_gap=3.0)
        unit = (np.asarray(small, np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
        with torch.no_grad():
            logits = network.net(torch.from_numpy(unit.transpose(2, 0, 1)[None])).numpy()
        mask = Image.open(out / f"{path.stem}.png")
        assert (mask.mode, mask.size) == ("P", rgb.size)
        assert (np.asarray(mask) == upsampled_classes(logits, (rgb.height, rgb.width))).mean() > 0.99
        if overlay:
            expected = (np.asarray(rgb, np.uint16) + palette[np.asarray(mask)]) // 2
            assert np.abs(np.asarray(Image.open(out / f"{path.stem}-overlay.png")).astype(int) - expected).max() == 0
    assert len(list(out.iterdir())) == len(list(images.iterdir())) * (2 if overlay else 1)


def test_masks_and_overlays_by_onnx_runtime(bundle: Path, images: Path, tmp_path: Path):
    done = run(sys.executable, bundle, images, tmp_path / "out", "--overlay")
    assert done.returncode == 0, done.stderr
    assert re.match(
        r"3 images by onnxruntime in fp16: network [\d.]+ ms an image \([\d.]+ frames/s\), all", done.stdout
    )
    assert "power not measured" in done.stdout
    assert_masks(bundle, images, tmp_path / "out", overlay=True)


@pytest.mark.slow
@pytest.mark.timeout(2000)  # may install the referee's software first
def test_torch_under_python_36_runs_it(bundle: Path, images: Path, tmp_path: Path):
    (images / "small.jpg").unlink()  # Pillow 8 and 13 decode JPEG differently, by up to 21 of 255
    done = run(need_referee_python(), bundle, images, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "2 images by torch" in done.stdout
    assert_masks(bundle, images, tmp_path / "out")
    source = [
        "--camera",
        str(images / "test_%04d.png"),
    ]  # OpenCV plays numbered images as a video; the first one warms up
    done = run(need_referee_python(), bundle, None, tmp_path / "video", *source)
    assert done.returncode == 0 and "1 images by torch" in done.stdout, done.stderr
    shown, played = (Image.open(tmp_path / name) for name in ("out/test_0001.png", "video/frame-000000.png"))
    assert np.array_equal(np.asarray(shown), np.asarray(played))


@pytest.mark.parametrize("version", ["7.1.3", "8.2.1.9", "8.6.2", "10.3.0", "11.0.0"])
def test_the_plan_is_built_once_and_again_for_another_tensorrt(
    bundle: Path, images: Path, tmp_path: Path, board: FakeBoard, version: str
):
    shape = json.loads((bundle / "manifest.json").read_text())["output"]["shape"]
    typed = version.startswith("11")  # takes the precision from the file
    for name, answer in (("model.onnx", 3 if typed else 11), ("model-fp16.onnx", 11 if typed else 3)):
        (bundle / name).write_text(json.dumps({"ms": 5.0, "shapes": [[1, 3, *HW], shape], "answer": answer}))
    (images / "small.jpg").unlink()
    environment = {"PYTHONPATH": str(HERE / "site"), "FAKE_BOARD_ROOT": str(board.root)}
    for turn, installed in enumerate((version, version, "8.0.1.6")):
        done = run(sys.executable, bundle, images, tmp_path / "out", FAKE_TRT_VERSION=installed, **environment)
        assert done.returncode == 0, done.stderr
        assert "2 images by tensorrt in fp16" in done.stdout
        assert ("building the TensorRT plan" in done.stderr) == (turn != 1)
        assert ("built again: it was built by TensorRT" in done.stderr) == (turn == 2 and not typed)
        answer = 3 if typed and turn == 2 else 11
        assert set(np.unique(Image.open(tmp_path / "out" / "test_0000.png"))) == {answer}


CV2 = """
import os
import numpy
from PIL import Image

CAP_GSTREAMER = 1800

class VideoCapture:
    def __init__(self, source, backend=None):
        wanted = {"0": (0, None), "pipeline": ("nvarguscamerasrc ! appsink", CAP_GSTREAMER)}
        self.opened = (source, backend) in wanted.values()
        folder = os.environ["FAKE_CAMERA"]
        self.paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith("png")] * 2

    def isOpened(self):
        return self.opened

    def read(self):
        if not self.paths:
            return False, None
        return True, numpy.asarray(Image.open(self.paths.pop(0)).convert("RGB"))[:, :, ::-1]

    def release(self):
        self.paths = []
"""


def test_a_camera_is_segmented_by_opencv(bundle: Path, images: Path, tmp_path: Path):
    """Four frames, of which the first warms up; OpenCV is a stand-in, which gives BGR as the real one does."""
    (images / "small.jpg").unlink()
    site = tmp_path / "site"
    site.mkdir()
    done = run(sys.executable, bundle, None, tmp_path / "out", "--camera")
    assert done.returncode == 2 and "--camera needs OpenCV, which is not installed" in done.stderr
    (site / "cv2.py").write_text(CV2)
    environment = {"PYTHONPATH": str(site), "FAKE_CAMERA": str(images)}
    for source in ("0", "nvarguscamerasrc ! appsink"):
        done = run(sys.executable, bundle, None, tmp_path / source[:1], "--camera", source, "--overlay", **environment)
        assert done.returncode == 0 and "3 images by onnxruntime" in done.stdout, done.stderr
        assert len(list((tmp_path / source[:1]).iterdir())) == 6
    (tmp_path / "0" / "frame-000000.png").rename(tmp_path / "0" / "test_0001.png")
    (tmp_path / "0" / "frame-000001.png").rename(tmp_path / "0" / "test_0000.png")
    for path in (tmp_path / "0").glob("frame-*"):
        path.unlink()
    assert_masks(bundle, images, tmp_path / "0")
    done = run(sys.executable, bundle, None, tmp_path / "9", "--camera", "9", **environment)
    assert done.returncode == 2 and "OpenCV does not open the camera 9; give its number" in done.stderr


def test_mistakes_are_answered_with_a_sentence(bundle: Path, images: Path, tmp_path: Path):
    done = run(sys.executable, bundle, tmp_path / "nowhere", tmp_path / "out")
    assert done.returncode == 2 and "there is no folder" in done.stderr and "Traceback" not in done.stderr
    done = run(sys.executable, bundle, images, tmp_path / "out", "--backend", "tensorrt")
    assert done.returncode == 2 and "tensorrt is not installed" in done.stderr
    (images / "small.jpg").write_bytes(b"no image")
    done = run(sys.executable, bundle, images, tmp_path / "out")
    assert done.returncode == 2 and "small.jpg cannot be read as an image" in done.stderr


def test_the_readme_tells_the_way_to_the_board(original: Path):
    text = (original / "README.md").read_text()
    assert "python3 run.py --images IMAGES --out MASKS --overlay" in text and "sha256sum -c SHA256SUMS" in text
    assert "l4t-jetpack:r36" in (original / "Dockerfile").read_text()
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=original, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
