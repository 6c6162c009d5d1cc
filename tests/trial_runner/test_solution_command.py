"""`paretoseg solution`: the submission of a trained trial, from the command line to the class maps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import launching
import numpy as np
import pytest
import torch
from PIL import Image

from exports import read_bundle, read_network
from exports.onnx.parity import upsampled_classes
from trial_runner.cli.main import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, latency_model_path: Path) -> Path:
    study = tmp_path_factory.mktemp("finished") / "study.yaml"
    tiny = {"budget_ms": 1000.0, "measure": "false", "epochs": 2, "trials": 2, "rungs": [], "backend": "inprocess"}
    study.write_text(launching.TINY.format(model=latency_model_path, **tiny))
    launching.finish(study)
    return study


def write_images(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((512, 512), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


def test_a_trial_becomes_a_solution(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    record = next(record for record in launching.records(finished) if record.bundle)
    archive, images = tmp_path / "solution.pyz", write_images(tmp_path / "images")
    assert main(["solution", str(finished), "--trial", str(record.number), "--out", str(archive)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("Dice") == 5 and printed.count("chosen") == 1 and str(archive) in printed
    with zipfile.ZipFile(archive) as opened:
        settings = json.loads(opened.read("data/settings.json"))
    assert f"at least {settings['least_region_pixels']} pixels" in next(
        line for line in printed.splitlines() if "chosen" in line
    )
    assert main(["solution", str(finished), "--trial", str(record.number), "--least-region", "0"]) == 0
    plain = finished.parent / "out" / f"solution-{record.number:05d}.pyz"
    command = [sys.executable, str(plain), "-i", str(images), "-o", str(tmp_path / "maps")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0 and float(done.stdout) > 0, done.stderr
    network = read_network(read_bundle(Path(record.bundle or "")).checkpoint_path)
    for path in images.iterdir():
        small = Image.open(path).resize(network.input_hw[::-1], Image.Resampling.BICUBIC, reducing_gap=3.0)
        unit = (np.asarray(small, np.float32) / 255 - np.float32(network.mean)) / np.float32(network.std)
        with torch.no_grad():
            logits = network.delivered()(torch.from_numpy(unit.transpose(2, 0, 1)[None])).numpy()
        assert (np.asarray(Image.open(tmp_path / "maps" / path.name)) == upsampled_classes(logits, (512, 512))).all()


def test_mistakes_are_answered_with_a_sentence(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    number = next(record.number for record in launching.records(finished) if record.bundle)
    out = ["--out", str(tmp_path / "solution.pyz"), "--least-region", "0"]
    assert main(["solution", str(finished), "--trial", "99", *out]) == 2
    assert "no trial 99" in capsys.readouterr().err
    assert main(["solution", str(finished), "--trial", str(number), "--batch", "0", *out]) == 2
    assert "a batch is at least 1 image" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
