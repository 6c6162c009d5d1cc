"""Ended trials as runs of other tools: what they hold, and what happens without the tool or when it fails."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

import pytest
from test_front_table import record

from objectives.objective import OBJECTIVES
from objectives.trial_record import Outcome
from search_spaces._common.errors import UserError
from trial_runner.config.load import load_config
from trial_runner.doctor import _tracking
from trial_runner.tracking.sinks import TOOLS, TrialSinks, check_tracking, open_sinks, tracked

FIXTURES = Path(__file__).resolve().parents[1] / "golden" / "fixtures"


def trained(number: int) -> Any:
    from dataclasses import replace

    return replace(record(number, "lcnet"), curve=((1, 0.2), (2, 0.3), (3, 0.4)))


def events(folder: Path) -> list[Any]:
    """The events of all files below a folder, read by the format: length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            found.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 16 + length
    return found


def test_tensorboard_gets_the_curve_the_parameters_and_the_final_values(tmp_path: Path):
    sinks = open_sinks(["tensorboard"], "study", tmp_path, OBJECTIVES, print)
    sinks.ended(trained(7))
    sinks.close()
    values = [
        (value.tag, event.step, value)
        for event in events(tmp_path / "tensorboard/trial-00007")
        for value in event.summary.value
    ]
    curve = {step: value.simple_value for tag, step, value in values if tag == "curve/val_miou"}
    assert curve == pytest.approx({1: 0.2, 2: 0.3, 3: 0.4})
    final = {tag: value.simple_value for tag, _, value in values if tag.startswith("final/")}
    assert final["final/val_miou"] == pytest.approx(0.407) and final["final/latency_ms"] == pytest.approx(17.5)
    assert any(b"lcnet" in value.SerializeToString() for _, _, value in values)


def test_trials_that_trained_nothing_are_left_out(tmp_path: Path):
    from dataclasses import replace

    sinks = open_sinks(["tensorboard"], "study", tmp_path, OBJECTIVES, print)
    sinks.ended(replace(trained(1), score=None, outcome=Outcome.INFEASIBLE))
    sinks.ended(replace(trained(2), duplicate_of=1, outcome=Outcome.DUPLICATE))
    assert not (tmp_path / "tensorboard").exists()


def test_a_tool_that_fails_is_dropped_with_a_line_and_the_others_go_on():
    class Sink:
        errors: tuple[type[Exception], ...] = (OSError,)

        def __init__(self, error: Exception | None) -> None:
            self.error, self.written = error, []

        def write(self, trial: Any) -> None:
            if self.error:
                raise self.error
            self.written.append(trial.name)

        def close(self) -> None: ...

    said: list[str] = []
    bad, good = Sink(ConnectionError("no route to host")), Sink(None)
    sinks = TrialSinks({"mlflow": bad, "tensorboard": good}, OBJECTIVES, said.append)
    for number in (1, 2):
        sinks.ended(trained(number))
    assert good.written == ["trial-00001", "trial-00002"]
    assert said == ["tracking: mlflow takes no more trials in this launch (no route to host); the study goes on"]
    with pytest.raises(ValueError):
        TrialSinks({"wandb": Sink(ValueError("a fault of ours"))}, OBJECTIVES, said.append).ended(trained(3))


def test_a_tool_that_is_not_installed_is_refused_before_a_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else find(name))
    config = load_config(FIXTURES / "study" / "study.yaml", ["study.tracking=[tensorboard, mlflow]"])
    with pytest.raises(UserError, match=r"mlflow, which is not installed\. Run: pip install 'paretoseg\[mlflow\]'"):
        _tracking(config)
    with pytest.raises(UserError, match=r"study\.tracking"):
        load_config(FIXTURES / "study" / "study.yaml", ["study.tracking=[tensorbord]"])
    check_tracking([])


def test_every_tool_is_an_extra_of_the_package():
    import tomllib

    extras = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for tool in TOOLS.values():
        assert any(requirement.startswith(tool.module) and "<" in requirement for requirement in extras[tool.extra])


def test_unknown_values_are_left_out():
    from dataclasses import replace

    trial = tracked(replace(trained(3), estimate=None), OBJECTIVES)
    assert "latency_ms" not in trial.metrics and trial.metrics["epochs"] == 10 and trial.params["family"] == "lcnet"


def test_mlflow_keeps_a_run_for_each_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sinks = open_sinks(["mlflow"], "study", tmp_path, OBJECTIVES, pytest.fail)
    sinks.ended(trained(7))
    client = mlflow.tracking.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["family"] == "lcnet"
    assert [point.value for point in client.get_metric_history(run.info.run_id, "curve_val_miou")] == [0.2, 0.3, 0.4]


def test_wandb_keeps_offline_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    sinks = open_sinks(["wandb"], "study", tmp_path, OBJECTIVES, pytest.fail)
    sinks.ended(trained(7))
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
