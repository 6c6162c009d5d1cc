"""The command line as it was before the restructuring: help, exit statuses, and the keys of what is printed as JSON."""

from __future__ import annotations

import subprocess
from importlib import import_module
from pathlib import Path

import pytest
from golden_kit import (
    FIXTURES,
    HELP_COLUMNS,
    PARSERS,
    PLAIN_HELP,
    ROOT,
    console_script,
    environment,
    help_file,
    help_text,
    paretoseg,
)

PACKAGES = ("search_spaces", "exports", "hw_latency_model", "objectives", "dashboards", "trial_runner")
STUDY = FIXTURES / "study" / "study.yaml"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_golden_tests_look_at_this_checkout(package: str):
    file = import_module(package).__file__
    assert file is not None and Path(file).is_relative_to(ROOT)


@pytest.mark.skipif(not PLAIN_HELP, reason="argparse of Python 3.13 and later folds help otherwise")
@pytest.mark.parametrize("words", PARSERS, ids=["-".join(("paretoseg", *words)) for words in PARSERS])
def test_help_reads_as_before(words: tuple[str, ...]):
    assert help_text(words) == help_file(words).read_text()


@pytest.mark.skipif(not PLAIN_HELP, reason="argparse of Python 3.13 and later folds help otherwise")
def test_a_process_of_its_own_is_the_same_command():
    with environment(PYTHONPATH=str(ROOT), COLUMNS=HELP_COLUMNS):
        done = subprocess.run([*console_script(), "--help"], capture_output=True, text=True, timeout=60)
        wrong = subprocess.run([*console_script(), "front", "none.yaml"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout == help_file(()).read_text()
    assert wrong.returncode == 2 and wrong.stderr.startswith("paretoseg: cannot read the study file none.yaml")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["lunch"],
        ["launch"],
        ["front"],
        ["front", "study.yaml", "--jsn"],
        ["refit", "study.yaml"],
        ["refit", "study.yaml", "--trial", "one"],
        ["evaluate", "bundle", "--split", "training"],
        ["measurements"],
        ["measurements", "show"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_the_usage(arguments: list[str]):
    done = paretoseg(*arguments)
    assert done.status == 2 and done.out == "" and done.err.startswith("usage: paretoseg"), done


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["front", "none.yaml"], "cannot read the study file none.yaml"),
        (["launch", "none.yaml"], "cannot read the study file none.yaml"),
        (["report", "none.yaml"], "cannot read the study file none.yaml"),
        (["front", "list.yaml"], "must hold the sections study, data, device"),
        (["front", "broken.yaml"], "is not valid YAML"),
        (["front", STUDY, "--set", "trainning.epochs=3"], "trainning is not a known key; did you mean training?"),
        (["front", STUDY, "--set", "search.sampler=tpee"], "search.sampler"),
        (["front", STUDY, "--set", "training.epochs"], "--set takes section.key=value"),
        (["refit", STUDY, "--trial", "0", "--set", "space.name=encoder_decodr"], "encoder_decoder"),
        (["front", STUDY, "--set", "study.storage=sqlite:///none.db"], "there is no study at"),
        (["front", STUDY, "--set", "study.name=other"], "holds no study other; it holds: golden"),
        (["export", STUDY, "--trial", "99"], "has no trial 99"),
        (["refit", STUDY, "--trial", "99"], "has no trial 99"),
        (["predict", "none.onnx"], "there is no ONNX file at none.onnx"),
        (["evaluate", "none"], "none"),
        (["measurements", "list", "--store", "none.sqlite"], "there is no measurement store at none.sqlite"),
        (["latency-report", "--model", "none.json"], "there is no latency model at none.json"),
        (["latency-report", "--model", "a.json", "--device", "b"], "--device and --model"),
        (["calibrate", "--minutes", "0", "--out", "model"], "--minutes must be above 0"),
        (["calibrate", "--hours", "1"], "--hours and --results are for a DEVICE.yaml"),
        (["calibrate", "none.yaml"], "cannot read the file none.yaml"),
        (["front", ROOT / "configs/devices/this-machine.yaml"], "describes a device, not a study"),
    ],
    ids=lambda value: " ".join(str(word).rpartition("/")[2] for word in value) if isinstance(value, list) else "",
)
def test_a_mistake_ends_with_2_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], told: str
):
    monkeypatch.chdir(tmp_path)
    Path("list.yaml").write_text("[1, 2]\n")
    Path("broken.yaml").write_text("study: {name: [\n")
    fresh = [_copy(word, tmp_path) if word == STUDY else word for word in arguments]
    done = paretoseg(*fresh)
    assert done.status == 2 and done.out == "", done
    assert done.err.startswith("paretoseg: ") and told in done.err and "Traceback" not in done.err, done.err


def test_a_failed_check_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    wrong = ["--set", "data.kind=camvid", "--set", "data.root=nowhere", "--set", "device.latency_model=none.json"]
    done = paretoseg("doctor", _copy(STUDY, tmp_path), *wrong)
    failed = [line for line in done.out.splitlines() if line.startswith("FAIL")]
    assert done.status == 1 and done.out.splitlines()[-1] == f"{len(failed)} to put right before a launch" and failed


def _copy(study: Path, folder: Path) -> Path:
    for path in study.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / study.name
