"""`trials`, `trial`, `compare`, `copy` and `delete` on stored studies, and what is answered to misspelt words."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from launching import records

from hw_latency_model.types import KernelSpec
from search_spaces import open_space
from trial_runner.cli.main import build_parser, main
from trial_runner.config.load import load_config
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.constraints.latency_models import load_latency_model
from trial_runner.front.kernel_times import keep_kernels
from trial_runner.front.trial_details import sparkline
from trial_runner.study.lease import DriverLease
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.study.trial_kernels import store_kernels, stored_kernels
from trial_runner.training.trial_spec import TrialSpec

FIXTURES = Path(__file__).resolve().parents[1] / "golden" / "fixtures"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The YAML of a copy of the stored study, which ran to its end."""
    shutil.copytree(FIXTURES / "study", tmp_path / "study")
    return tmp_path / "study" / "study.yaml"


def said(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    """Standard output of a command that ends with ``status``, or its message where that is 2."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == status
    captured = capsys.readouterr()
    return captured.err if status == 2 else captured.out


def test_trials_are_chosen_sorted_and_written(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = json.loads(said(capsys, "trials", study, "--json"))
    stored = records(study)
    assert [row["trial"] for row in rows] == [record.number for record in stored]
    assert all({"outcome", "network", "val_miou", "latency_ms", "family", "reason"} <= row.keys() for row in rows)
    finished = json.loads(said(capsys, "trials", study, "--state", "finished", "--sort", "miou", "--json"))
    scores = [row["val_miou"] for row in finished]
    assert scores and scores == sorted(scores, reverse=True) and {row["outcome"] for row in finished} == {"finished"}
    fastest = json.loads(
        said(capsys, "trials", study, "--state", "finished,stopped", "--sort", "latency", "--limit", 2, "--json")
    )
    assert [row["latency_ms"] for row in fastest] == sorted(
        record.latency_ms for record in stored if record.outcome in ("finished", "stopped") and record.latency_ms
    )[:2]
    for name in ("all.csv", "all.parquet"):
        assert f"{len(rows)} trials written" in said(capsys, "trials", study, "--csv", tmp_path / name)
    with (tmp_path / "all.csv").open() as file:
        assert [int(row["trial"]) for row in csv.DictReader(file)] == [row["trial"] for row in rows]
    import pyarrow.parquet

    read = pyarrow.parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["val_miou"] for row in read] == [row["val_miou"] for row in rows]
    assert ".csv or .parquet files, not to all.xlsx" in said(capsys, "trials", study, "--csv", "all.xlsx", status=2)


def test_the_table_of_trials_fits_a_narrow_terminal(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from rich.console import Console

    import trial_runner.cli.trials as command

    monkeypatch.setattr(command, "console", lambda: Console(highlight=False, width=72))
    lines = said(capsys, "trials", study).splitlines()
    assert all(len(line) <= 72 for line in lines if line[:1] in "┏┃┡│└")
    assert any("not shown at 72 columns" in line for line in lines) and "mIoU" in lines[2]


def test_no_colour_reaches_a_terminal_that_wants_none(study: Path, monkeypatch: pytest.MonkeyPatch):
    from trial_runner.cli.console import console

    monkeypatch.setenv("NO_COLOR", "1")
    assert console().no_color


def test_one_trial_is_told_whole(study: Path, capsys: pytest.CaptureFixture[str]):
    best = max((record for record in records(study) if record.complete), key=lambda record: record.val_miou or 0)
    text = said(capsys, "trial", study, best.number, "--no-kernels")
    assert text.startswith(f"trial {best.number}: trained to the end")
    assert f"mIoU        {best.val_miou:.3f} after" in text and "predicted" in text and "learning_rate" in text
    assert sparkline([value for _, value in best.curve]) in text
    values = json.loads(said(capsys, "trial", study, best.number, "--no-kernels", "--json"))
    assert values["params"] == best.params and values["curve"] == [list(point) for point in best.curve]
    assert values["class_iou"] and values["state"] == "finished"
    refused = next((record for record in records(study) if record.reason), None)
    if refused is not None:
        assert refused.reason in said(capsys, "trial", study, refused.number, "--no-kernels")
    assert "has no trial 99; it has 0 to" in said(capsys, "trial", study, 99, status=2)


def test_the_latency_of_a_trial_by_kind_of_kernel_adds_up(study: Path, capsys: pytest.CaptureFixture[str]):
    nano = ["--set", "device.name=jetson-nano", "--set", "device.latency_model=none/latency_model.json"]
    best = next(record for record in records(study) if record.complete)
    values = json.loads(said(capsys, "trial", study, best.number, "--json", *nano))
    total = sum(kind["latency_ms"] for kind in values["kernels"])
    assert total == pytest.approx(values["estimate_today"]["latency_ms"]) and len(values["kernels"]) > 2
    text = said(capsys, "trial", study, best.number, *nano)
    assert values["kernels"][0]["kind"] in text and "by the latency model as it is now" in text


def test_studies_are_compared_by_one_reference_point(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(study.parent, tmp_path / "other")
    other = tmp_path / "other" / "study.yaml"
    found = json.loads(said(capsys, "compare", study, other, "--json"))
    first, second = found["studies"]
    assert first["hypervolume"] == second["hypervolume"] > 0
    assert first["hypervolume_over_hours"][-1][1] == pytest.approx(first["hypervolume"])
    hours = [point[0] for point in first["hypervolume_over_hours"]]
    assert hours == sorted(hours) and hours[-1] <= first["hours"] + 1e-9
    assert all(member["in_common_front"] for member in first["front"])
    text = said(capsys, "compare", study, other)
    assert str(other)[-10:] in text.replace("\n", "") and "Front of all studies together" in text
    assert "two studies at least" in said(capsys, "compare", study, status=2)


def test_repetitions_of_a_study_are_compared_by_what_a_share_of_them_reaches(
    study: Path, capsys: pytest.CaptureFixture[str]
):
    def repetition(seed: int, epochs: int | None = None) -> Path:
        values = yaml.safe_load(study.read_text())
        values["study"]["seed"] = seed
        values["training"]["epochs"] = epochs or values["training"]["epochs"]
        written = study.with_name(f"seed-{seed}.yaml")
        written.write_text(yaml.safe_dump(values))
        return written

    studies = [repetition(seed) for seed in (11, 12, 13)]
    (spread,) = json.loads(said(capsys, "compare", *studies, repetition(14, epochs=99), "--json"))["repetitions"]
    assert spread["studies"] == 3 and spread["first"] == str(studies[0])
    assert spread["reached_by"].keys() == {"0.25", "0.5", "0.75"} and len(spread["latency_ms"]) > 0
    best = max(record.val_miou for record in records(study) if record.complete)
    assert all(values[-1] == pytest.approx(best) for values in spread["reached_by"].values())
    text = said(capsys, "compare", *studies).replace("\n", " ")
    assert "by the 3 repetitions of" in text and "three quarters" in text
    assert json.loads(said(capsys, "compare", *studies[:2], "--json"))["repetitions"] == []


def test_a_copy_is_a_study_of_its_own_and_deleting_it_leaves_the_first(study: Path, capsys: pytest.CaptureFixture[str]):
    config = load_config(study)
    config.study.output_dir.mkdir(exist_ok=True)
    (config.study.output_dir / "report.html").write_text("report")
    (config.study.output_dir / "mine.txt").write_text("mine")
    name = config.study.name
    assert "copied to the study second" in said(capsys, "copy", study, "second")
    folder = config.study.output_dir.parent / "second"
    assert (folder / "report.html").read_text() == "report" and not (folder / "mine.txt").exists()
    there = ["--set", "study.name=second", "--set", f"study.output_dir={folder}"]
    rows = json.loads(said(capsys, "trials", study, "--json"))
    assert [row["val_miou"] for row in json.loads(said(capsys, "trials", study, "--json", *there))] == [
        r["val_miou"] for r in rows
    ]
    assert "already" in said(capsys, "copy", study, "second", status=2)
    assert "letters, digits" in said(capsys, "copy", study, "../third", status=2)

    assert "Add --yes" in said(capsys, "delete", study, *there, status=2)
    (folder / "own.txt").write_text("kept")
    said(capsys, "delete", study, *there, "--yes", "--files")
    assert sorted(path.name for path in folder.iterdir()) == ["own.txt"]
    assert "holds no study second; it holds: " + name in said(capsys, "trials", study, *there, status=2)
    assert json.loads(said(capsys, "trials", study, "--json")) == rows


def test_a_running_study_is_not_deleted(study: Path, capsys: pytest.CaptureFixture[str]):
    running = open_configured(load_config(study))
    with DriverLease(running):
        message = said(capsys, "delete", study, "--yes", status=2)
        assert "is being driven by" in message
        assert "is being driven by" in said(capsys, "copy", study, "other", status=2)
    assert json.loads(said(capsys, "trials", study, "--json"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lunch"], "did you mean launch?"),
        (["front", "study.yaml", "--jsn"], "did you mean --json?"),
        (["trials", "study.yaml", "--stat", "x", "--sorted=miou"], "did you mean --sort?"),
        (["measurements", "lst"], "did you mean list?"),
        (["completion", "bsh"], "did you mean bash?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_misspelt_word_is_answered_with_the_nearest(words: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2 and told in capsys.readouterr().err


def test_a_misspelt_state_key_study_or_file_is_answered_with_the_nearest(
    study: Path, capsys: pytest.CaptureFixture[str]
):
    assert "did you mean 'finished'?" in said(capsys, "trials", study, "--state", "finish", status=2)
    assert "did you mean 'latency'?" in said(capsys, "trials", study, "--sort", "latncy", status=2)
    assert "Did you mean golden?" in said(capsys, "front", study, "--set", "study.name=goldn", status=2)
    assert f"Did you mean {study}?" in said(capsys, "front", study.with_name("stdy.yaml"), status=2)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_options_choices_and_keys(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    script = tmp_path / "completion"
    script.write_text(said(capsys, "completion", shell))

    def completed(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in ("paretoseg", *words))
        run = f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _paretoseg 2>/dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=True, cwd=tmp_path)
        return set(done.stdout.split())

    assert completed("tri") == {"trial", "trials"} and set(build_parser().parsers_below()) <= completed("")
    assert completed("trials", "study.yaml", "--st") == {"--state"}
    assert completed("measurements", "exp") == {"export"}
    assert "training.epochs=" in completed("launch", "study.yaml", "--set", "training.ep")
    assert shell == "bash" or script.read_text().startswith("#compdef paretoseg")


READING = """
import contextlib, io, sys
from trial_runner.cli.main import main
import trial_runner.front.dashboard
for words in {commands!r}:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            status = main(words)
        except SystemExit as exit_:
            status = exit_.code
    assert status == 0 and said.getvalue(), words
    print(words[0], [name for name in ("torch", "timm", "ray") if name in sys.modules])
"""


def test_commands_that_read_a_study_load_no_torch_and_know_the_latency_by_layer(
    study: Path, capsys: pytest.CaptureFixture[str]
):
    """The import of torch takes seconds, which each of them would take each time."""
    nano = ["--set", "device.name=jetson-nano", "--set", "device.latency_model=none/latency_model.json"]
    config = load_config(study, nano[1::2])
    complete, paths = [record for record in records(study) if record.complete], StudyPaths(config.study.output_dir)
    words = ["trial", str(study), str(complete[0].number), *nano, "--json"]
    built = json.loads(said(capsys, *words))
    gate = LatencyConstraint(open_space(config.space), len(built["class_iou"]), load_latency_model(config), 1.0)
    for record in complete:
        keep_kernels(TrialSpec(record.number, record.candidate, config, paths.trial(record.number), study), gate)
    commands = [
        *(["--version"], ["rescore", "--help"], ["completion", "bash"], words),
        *([name, str(study)] for name in ("front", "trials", "status")),
        ["compare", str(study), str(study)],
        ["choose", str(study), *nano, "--budget-ms", "1000"],
    ]
    source = READING.format(commands=commands)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{command[0]} []" for command in commands]
    assert json.loads(said(capsys, *words)) == built
    assert {"encoder.conv_stem", "decoder.fine_classifier"} <= {layer["layer"] for layer in built["layers"]}


@pytest.mark.parametrize("change", [{"classes": 99}, {"candidate": "another"}, {"kernels": [{}]}, None], ids=str)
def test_kernels_of_another_network_or_a_damaged_file_are_not_a_trials_own(
    change: dict[str, object] | None, study: Path, tmp_path: Path
):
    """A folder may be left from a study that was deleted."""
    candidate = records(study)[0].candidate
    kernels = (KernelSpec("conv", "stem", 5, 1, 2, 3, fused=("relu",), layer="encoder.stem"),)
    store_kernels(tmp_path, candidate, {"a": 8}, 3, "onnxruntime", kernels)
    found = stored_kernels(tmp_path, candidate, {"a": 8}, 3, "onnxruntime")
    assert found == kernels and found[0].label == "encoder.stem"
    assert stored_kernels(tmp_path, candidate, None, 3, "onnxruntime") is None
    file = tmp_path / "kernels.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}) if change else "[")
    assert stored_kernels(tmp_path, candidate, {"a": 8}, 3, "onnxruntime") is None
