"""The command line as a user types it: real processes, real studies, and what goes wrong for a newcomer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import launching
import pytest
from child_signals import default_signals

from hw_latency_model import CandidateKernels, LatencyModel, LocalCpuDevice, MeasurementStore
from objectives.trial_record import TrialRecord
from search_spaces import open_space
from trial_runner.cli.main import main
from trial_runner.config.load import load_config

HEAVY = ("torch", "ray", "timm", "optuna", "onnx", "onnxruntime", "tensorrt", "plotly", "sklearn")


def paretoseg(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trial_runner.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def assert_sentence(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """It failed as a user should see it: status 2, one message with these parts, no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("paretoseg: ") and "Traceback" not in done.stderr + done.stdout, done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, latency_model_path: Path) -> tuple[Path, str]:
    """A tiny study run to its end in this process's backend, with its front measured; and what launch printed."""
    folder = tmp_path_factory.mktemp("finished")
    study = folder / "study.yaml"
    study.write_text(
        launching.TINY.format(
            model=latency_model_path,
            budget_ms=1000.0,
            measure="true",
            epochs=3,
            trials=4,
            rungs=[1],
            backend="inprocess",
        )
    )
    done = paretoseg("launch", study)
    assert done.returncode == 0, done.stdout + done.stderr
    return study, done.stdout


def imported_modules(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize("arguments", [["--help"], ["launch", "--help"], ["front", "--help"]])
def test_help_answers_without_importing_anything_heavy(arguments: list[str]):
    code = f"from trial_runner.cli.main import main\ntry:\n    main({arguments!r})\nexcept SystemExit:\n    pass"
    loaded = imported_modules(code)
    assert "trial_runner" in loaded
    assert not loaded & set(HEAVY)


def test_launch_prints_the_front_and_where_things_lie_and_links_the_report_last(finished: tuple[Path, str]):
    study, text = finished
    assert "all 4 trials are done" in text and "Pareto front within 1000 ms" in text
    last = text.strip().splitlines()[-1]
    report = Path(last.partition("file://")[2])
    assert last.startswith("report:") and report.is_file() and report.parent == study.parent / "out"
    assert "<html" in report.read_text()[:1000].lower()
    assert (study.parent / "out" / "front.csv").read_text().startswith("trial,")
    kept = [record.number for record in launching.records(study) if record.outcome in ("finished", "stopped")]
    assert kept and all((study.parent / f"out/trials/{number:05d}/kernels.json").is_file() for number in kept)


def test_front_as_json_has_what_scripts_read(finished: tuple[Path, str], tmp_path: Path):
    study, _ = finished
    done = paretoseg("front", study, "--json", cwd=tmp_path)
    rows = json.loads(done.stdout)
    assert rows
    for row in rows:
        assert {
            "trial",
            "params",
            "val_miou",
            "latency_ms",
            "latency_low_ms",
            "latency_high_ms",
            "measured_ms",
            "bundle",
        } <= row.keys()
        assert row["latency_low_ms"] <= row["latency_ms"] <= row["latency_high_ms"]
        assert row["measured_ms"] > 0 and (Path(row["bundle"]) / "manifest.json").is_file()
    assert [row["latency_ms"] for row in rows] == sorted(row["latency_ms"] for row in rows)
    assert [row["val_miou"] for row in rows] == sorted(row["val_miou"] for row in rows)


def test_the_front_was_exported_with_parity_its_measurement_and_the_resolved_study(finished: tuple[Path, str]):
    from exports import read_bundle

    study, _ = finished
    row = json.loads(paretoseg("front", study, "--json").stdout)[0]
    bundle = read_bundle(Path(row["bundle"]))
    assert bundle.manifest["parity"]["passed"] is True
    assert bundle.measurements[0]["latency_ms_p50"] == row["measured_ms"]
    assert "trials: 4" in (Path(row["bundle"]) / "study.yaml").read_text()


def test_the_latency_model_learns_from_the_measured_front(finished: tuple[Path, str], latency_model_path: Path):
    study, text = finished
    front = [record for record in launching.records(study) if record.measured_ms is not None]
    assert f"the latency model has learnt from {len(front)} measured network" in text
    model = LatencyModel.load(latency_model_path, fingerprint=LocalCpuDevice().fingerprint())
    with MeasurementStore(latency_model_path.with_name("measurements.sqlite")) as store:
        stored = {item.latency_ms_p50: item for item in store.all(model.device, model.fingerprint)}
    for record in front:
        item = stored[record.measured_ms]
        assert item.family == record.params["family"] and item.kernels
        # It was shown this very measurement: the estimate now lies near it, noise and slow minutes allowed for.
        assert model.predict(item.kernels).low_ms / 2 < record.measured_ms < 2 * model.predict(item.kernels).high_ms


def test_launching_a_finished_study_again_trains_nothing(finished: tuple[Path, str]):
    study, _ = finished

    def trained() -> list[TrialRecord]:
        """Records with the predictions that measurements are compared with: the latency model has learnt from them since."""
        return [
            replace(r, estimate=r.judged_estimate if r.measurement else None, blind_estimate=None)
            for r in launching.records(study)
        ]

    before = trained()
    done = paretoseg("launch", study)
    assert done.returncode == 0 and "all 4 trials are done" in done.stdout
    assert trained() == before


def test_report_and_export_repeat_what_launch_did(finished: tuple[Path, str], tmp_path: Path):
    study, _ = finished
    assert paretoseg("report", study).stdout.startswith("file://")
    done = paretoseg("export", study, "--out", tmp_path / "bundles")
    folders = [Path(line) for line in done.stdout.split()]
    assert folders and all(
        (folder / "model.onnx").is_file() and folder.parent == tmp_path / "bundles" for folder in folders
    )


def test_predict_reads_any_exported_network(finished: tuple[Path, str], latency_model_path: Path):
    study, _ = finished
    row = json.loads(paretoseg("front", study, "--json").stdout)[0]
    onnx = Path(row["bundle"]) / "model.onnx"
    done = paretoseg("predict", onnx, "--model", latency_model_path, "--json")
    answer = json.loads(done.stdout)
    # The model has learnt from the front since: what it says now of the file is what it says of the candidate.
    config = load_config(study)
    space = open_space(config.space)
    candidate = next(record.candidate for record in launching.records(study) if record.number == row["trial"])
    now = LatencyModel.load(latency_model_path).predict(CandidateKernels(space, 14)(candidate))
    assert answer["latency_ms"] == pytest.approx(now.latency_ms, rel=1e-6)
    assert answer["low_ms"] < answer["latency_ms"] < answer["high_ms"] and answer["coverage"] == 1.0
    assert len(answer["kernels"]) > 5
    assert "90% interval" in paretoseg("predict", onnx, "--model", latency_model_path).stdout


def test_dashboard_serves_the_study_with_its_artifacts(finished: tuple[Path, str]):
    import socket
    import time

    study, _ = finished
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "trial_runner.cli.main", "dashboard", str(study), "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=default_signals,
        env={**os.environ, "PARETOSEG_DASHBOARD_TOKEN": "a-token-of-the-tests"},
    )
    token = "?token=a-token-of-the-tests"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies{token}", timeout=5) as answer:
                    studies = json.load(answer)
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.5)
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/api/studies/{studies['study_summaries'][0]['study_id']}{token}", timeout=5
        ) as answer:
            detail = json.load(answer)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        launching.kill_tree(process.pid)
        process.wait(10)
    assert detail["name"] == "tiny" and any(trial["artifacts"] for trial in detail["trials"])


def test_export_of_what_cannot_be_exported_says_so(finished: tuple[Path, str]):
    study, _ = finished
    assert_sentence(paretoseg("export", study, "--trial", 99), "has no trial 99")
    unfinished = next((r.number for r in launching.records(study) if not r.complete), None)
    if unfinished is not None:
        assert_sentence(paretoseg("export", study, "--trial", unfinished), "was not trained to the end")


def test_doctor_finds_what_a_launch_would_stumble_over(write_study: Callable[..., Path], finished: tuple[Path, str]):
    study, _ = finished
    done = paretoseg("doctor", study)
    assert done.returncode == 0 and "all is well" in done.stdout, done.stdout
    done = paretoseg(
        "doctor",
        study,
        "--set",
        "data.kind=camvid",
        "--set",
        "data.root=nowhere",
        "--set",
        "device.latency_model=none.json",
    )
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert len(failed) == 3 and "nowhere" in failed[0] and "paretoseg calibrate" in failed[1], done.stdout
    assert "another data.kind" in failed[2], "the study of that name cannot go on with it"


MISTAKES: list[tuple[list[str], tuple[str, ...]]] = [
    (["--set", "space.families=[resnet10]"], ("resnet10", "resnet10t")),
    (["--set", "space.decoders=[fpm]"], ("fpm", "fpn")),
    (["--set", "space.resolutions_px=[[33, 64]]"], ("32",)),
    (["--set", "space.name=encoder_decodr"], ("encoder_decoder",)),
    (["--set", "device.name=jetson-nan"], ("jetson-nano",)),
    (["--set", "device.latency_model=none.json"], ("none.json", "paretoseg calibrate")),
    (["--set", "device.precision=fp16"], ("fp16", "fp32")),
    (["--set", "data.kind=camvid", "--set", "data.root=nowhere"], ("nowhere",)),
    (["--set", "study.storage=postgresql+psycopg2://me:s3cret@127.0.0.1:1/db"], ("127.0.0.1:1",)),
    (["--set", "study.output_dir=/proc/nowhere"], ("/proc/nowhere", "cannot write")),
    (["--set", "trainning.epochs=3"], ("did you mean training?",)),
]


@pytest.mark.parametrize(("arguments", "parts"), MISTAKES, ids=[" ".join(arguments[1:2]) for arguments, _ in MISTAKES])
def test_a_mistake_is_answered_with_a_sentence(
    write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str], arguments: list[str], parts: Iterable[str]
):
    study = write_study()
    status = main(
        ["launch", str(study), *arguments]
    )  # in this process: a new one for each would import torch each time
    printed = capsys.readouterr()
    assert_sentence(subprocess.CompletedProcess([], status, printed.out, printed.err), *parts)
    assert "s3cret" not in printed.err


def test_a_study_that_does_not_exist_is_named(tmp_path: Path, write_study: Callable[..., Path]):
    assert_sentence(paretoseg("launch", tmp_path / "none.yaml"), "none.yaml")
    assert_sentence(paretoseg("front", write_study()), "there is no study at", "paretoseg launch")
    assert_sentence(paretoseg("predict", tmp_path / "none.onnx"), "none.onnx")


def test_settings_that_would_make_trials_incomparable_are_refused(write_study: Callable[..., Path]):
    study = write_study(trials=1)
    assert paretoseg("launch", study).returncode == 0
    done = paretoseg("launch", study, "--set", "training.epochs=5")
    assert_sentence(done, "training.epochs (2, now 5)", "study.name")
    assert [record.state for record in launching.records(study)] == ["COMPLETE"]


def test_a_loss_that_is_not_finite_fails_trials_with_the_reason_and_keeps_the_study(write_study: Callable[..., Path]):
    study = write_study(trials=8)
    done = paretoseg("launch", study, "--set", "space.learning_rate={low: 1.0e+12, high: 1.0e+13}")
    assert_sentence(done, "5 trials in a row failed", "lower the upper end of space.learning_rate")
    records = launching.records(study)
    assert [record.state for record in records] == ["FAIL"] * 5
    assert all("the loss is" in (record.reason or "") for record in records)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk that can be filled needs root, which CI has")
@pytest.mark.parametrize("backend", ["inprocess", "ray"])
def test_a_full_disk_ends_with_a_sentence_and_the_study_goes_on_afterwards(
    write_study: Callable[..., Path], backend: str
):
    study = write_study(trials=2, backend=backend)
    out = study.parent / "out"
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220m", "tmpfs", str(out)], check=True)
    try:
        filler = out / "filler"
        with filler.open("wb") as handle:
            handle.truncate(0)
            subprocess.run(["fallocate", "-l", "10m", str(filler)], check=True)
        config = launching.load_config(study)
        process = launching.start(study)
        launching.wait_until(study, process, lambda records: True)
        free = os.statvfs(out).f_bavail * os.statvfs(out).f_frsize
        subprocess.run(["fallocate", "-l", str(10_000_000 + free - 100_000), str(filler)], check=True)
        assert process.wait(120) == 2, study.with_name("launch.log").read_text()
        text = study.with_name("launch.log").read_text()
        assert "cannot write" in text and "Free some space" in text and "Traceback" not in text, text
        assert not [record for record in launching.records(study) if record.state in ("RUNNING", "FAIL")]
        filler.unlink()
        launching.finish(study)
        assert config.study.output_dir == out
        launching.assert_whole(launching.records(study), 2, 2)
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)


def test_a_calibration_without_time_is_refused(tmp_path: Path):
    assert_sentence(paretoseg("calibrate", "--minutes", "0", "--out", tmp_path / "model"), "--minutes must be above 0")
    assert not (tmp_path / "model").exists()


def test_a_terminal_that_lacks_our_signs_gets_the_table_all_the_same(finished: tuple[Path, str]):
    done = paretoseg("front", finished[0], PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and "Pareto front within" in done.stdout, done.stderr
