"""Bundles and network files that somebody made to break or to run something: one sentence, and nothing is executed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch
import yaml

from trial_runner.cli.main import main

BUNDLE = Path(__file__).parents[1] / "golden/fixtures/bundle.zip"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle as `paretoseg export` wrote it, in a folder that a test may change."""
    with ZipFile(BUNDLE) as archive:
        archive.extractall(tmp_path / "bundle")
    return tmp_path / "bundle"


def sign(folder: Path) -> None:
    """Write the checksums of changed files into the manifest, as the sender of a hostile bundle does."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (folder / "manifest.json").write_text(json.dumps(manifest))


def refused(capsys: Capture, *words: object) -> str:
    """The sentence of a command that refuses: exit status 2, no traceback, nothing long."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err and len(err) < 1500 and not out, (out, err)
    return err


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": 5},
        {"candidate": {"space": "encoder_decoder"}},
        {"candidate": {"space": "encoder_decoder", "space_version": 1, "params": 7}},
        {"files": []},
        {"files": {"model.pt": {"bytes": "many", "sha256": "0"}}},
        {"files": {"model.pt": None}},
        {"files": {"../model.pt": {"bytes": 1, "sha256": "0"}}},
        {"files": {"a\0b": {"bytes": 1, "sha256": "0"}}},
        {"classes": {"names": [1, 2]}},
        {"classes": None},
        {"input": {"height_px": -64, "width_px": 96}},
        {"input": {"height_px": 64}},
        {"measurements": "none"},
        {"measurements": [{"latency_ms_p50": "fast"}]},
        {"facts": {"latency_ms": "fast"}},
        {"schema_version": True},
    ],
    ids=str,
)
def test_a_manifest_of_another_form_is_refused(bundle: Path, change: dict[str, Any], capsys: Capture) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(change))
    assert "manifest.json" in refused(capsys, "evaluate", bundle)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, '"\\ud800"', "[" * 50_000, "NaN", "1e999"])
def test_a_manifest_with_numbers_or_text_that_nothing_holds_is_refused(
    bundle: Path, text: str, capsys: Capture
) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version"', f'"more": {text}, "schema_version"', 1))
    assert "manifest.json" in refused(capsys, "evaluate", bundle)


def test_a_manifest_is_measured_before_it_is_read(bundle: Path, capsys: Capture) -> None:
    path = bundle / "manifest.json"
    path.unlink()
    with path.open("wb") as file:
        file.truncate(10**12)
    assert "MB" in refused(capsys, "evaluate", bundle)
    path.unlink()
    os.mkfifo(path)
    assert "regular file" in refused(capsys, "evaluate", bundle)


def sparse(path: Path) -> None:
    """Make a file of a terabyte that takes no space."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(10**12)


def test_the_other_files_of_a_bundle_are_measured_before_they_are_read(bundle: Path, capsys: Capture) -> None:
    model, checksums = bundle / "model.onnx", bundle / "SHA256SUMS"
    original = model.read_bytes()
    sparse(model)
    edit_manifest(bundle, lambda manifest: manifest["files"]["model.onnx"].update(bytes=10**12))
    assert "manifest.json is damaged: files" in refused(capsys, "evaluate", bundle)
    model.write_bytes(original)
    sign(bundle)
    sparse(checksums)
    assert "MB" in refused(capsys, "evaluate", bundle)
    checksums.unlink()
    os.mkfifo(checksums)
    assert "regular file" in refused(capsys, "evaluate", bundle)


def test_a_network_file_is_measured_before_it_is_read(bundle: Path, capsys: Capture) -> None:
    sparse(bundle / "model.pt")
    assert "1000000 MB" in refused(capsys, "evaluate", bundle / "model.pt")


def test_the_manifest_beside_an_onnx_file_is_measured_before_it_is_read(bundle: Path, capsys: Capture) -> None:
    for change in (sparse, lambda path: path.write_text('{"precision": 5}')):
        change(bundle / "manifest.json")
        capsys.readouterr()
        assert main(["predict", str(bundle / "model.onnx"), "--device", "jetson-nano"]) == 0
        assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"num_classes": 10**9},
        {"num_classes": "3"},
        {"class_names": 3},
        {"input_hw": [64]},
        {"input_hw": [2**40, 2**40]},
        {"input_hw": "64x96"},
        {"mean": [1e308, 0.0, 0.0]},
        {"std": "none"},
        {"ignore_index": "none"},
        {"candidate": {"space": ["a"], "space_version": 1, "params": {}}},
        {"candidate": {"space": "encoder_decoder", "space_version": 1, "params": {}}},
        {"candidate": {"space": "encoder_decoder", "space_version": 1, "params": {"family": "x", "decoder": []}}},
        {"state_dict": {"weight": 5}},
        {"state_dict": [1]},
        {"quantized": {"graph": torch.zeros(3, dtype=torch.uint8)}},
        {"quantized": 5},
        {"quantized": {"graph": torch.zeros(1, dtype=torch.uint8).expand(10**12), "weight_bits": 8, "state": {}}},
        {"state_dict": {"weight": torch.zeros(1).expand(10**12)}},
        {"precision": ["int8"]},
    ],
    ids=lambda change: str(change)[:60],
)
def test_a_network_file_of_another_form_is_refused(bundle: Path, change: dict[str, Any], capsys: Capture) -> None:
    content = torch.load(bundle / "model.pt", weights_only=True)
    torch.save({**content, **change}, bundle / "model.pt")
    sign(bundle)
    assert "model.pt" in refused(capsys, "evaluate", bundle)


@pytest.mark.parametrize("key", ["space", "data", "data beside the bundle"])
def test_code_that_a_bundle_names_is_not_run(bundle: Path, key: str, capsys: Capture) -> None:
    trap, ran = bundle.parent / "trapped.py", bundle.parent / "ran"
    trap.write_text(f"from pathlib import Path\nPath({str(ran)!r}).write_text('')\ndef opener(root, split): ...\n")
    reference = "trapped:opener" if key.endswith("bundle") else "subprocess:check_call"
    if key == "space":
        content = torch.load(bundle / "model.pt", weights_only=True)
        torch.save({**content, "candidate": {**content["candidate"], "space": reference}}, bundle / "model.pt")
    else:
        study = yaml.safe_load((bundle / "study.yaml").read_text())
        study["study"]["python_path"] = str(bundle.parent)
        study["data"] = {"kind": reference, "options": {} if "bundle" in key else {"args": ["touch", str(ran)]}}
        (bundle / "study.yaml").write_text(yaml.safe_dump(study))
    sign(bundle)
    said = refused(capsys, "evaluate", bundle)
    assert reference in said and not ran.exists()
    if key != "space":
        assert "--run-code" in said


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\ndata: 5\n",
        "data: {kind: synthetic}\nstudy: {seed: many}\n",
        "data: {kind: synthetic, train_images: many}\nstudy: {seed: 1}\n",
        "data: {kind: synthetic}\nstudy: {seed: 1}\nrobustness: 5\n",
        "- 1\n",
        "\0",
        "x: !!python/object/apply:os.system ['touch ran']\n",
    ],
)
def test_a_study_of_another_form_in_a_bundle_is_refused(bundle: Path, text: str, capsys: Capture) -> None:
    (bundle / "study.yaml").write_text(text)
    sign(bundle)
    assert "study.yaml" in refused(capsys, "evaluate", bundle)
