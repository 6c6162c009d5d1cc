"""`paretoseg choose`: the most accurate network that keeps the budget, and its marks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hw_latency_model import LatencyEstimate
from objectives.trial_record import TrialRecord, read_study, store_later_facts
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.front.choose import Choice, budget_probability, choose, mark_chosen
from trial_runner.study.objectives import open_configured


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of an earlier release, whose trials know nothing of choices."""
    stored = Path(__file__).parents[1] / "golden" / "fixtures" / "study"
    return Path(shutil.copytree(stored, tmp_path / "study")) / "study.yaml"


def records_of(study: Path) -> list[TrialRecord]:
    config = load_config(study)
    return read_study(open_configured(config), config.study.output_dir)


@pytest.fixture
def record(study: Path) -> TrialRecord:
    found = next(record for record in records_of(study) if record.complete)
    return replace(found, measurement=None, export_error=None, estimate=LatencyEstimate(10.0, 8.0, 14.0, 1.0))


def test_the_probability_has_the_quantiles_of_the_interval(record: TrialRecord):
    for budget_ms, probability in ((8.0, 0.05), (10.0, 0.5), (14.0, 0.95), (100.0, 1.0), (1.0, 0.0)):
        assert budget_probability(record, budget_ms) == pytest.approx(probability, abs=1e-3)
    exact = replace(record, estimate=LatencyEstimate(10.0, 10.0, 10.0, 1.0))
    assert (budget_probability(exact, 9.9), budget_probability(exact, 10.0)) == (0.0, 1.0)
    assert budget_probability(replace(record, estimate=None), 10.0) is None


def scored(record: TrialRecord, number: int, miou: float, **changes: Any) -> TrialRecord:
    assert record.score is not None
    return replace(record, number=number, score=replace(record.score, val_miou=miou), **changes)


def test_the_most_accurate_that_keeps_the_budget_is_chosen(record: TrialRecord):
    slow = LatencyEstimate(13.0, 12.0, 20.0, 1.0)
    records = [scored(record, 0, 0.3), scored(record, 1, 0.5, estimate=slow), scored(record, 2, 0.4)]
    assert choose(records, 14.0).record.number == 2, "trial 1 keeps 14 ms with a probability of 0.6 only"
    assert choose(records, 14.0, 0.5).record.number == 1
    assert choose([*records, scored(record, 3, 0.9, export_error="no parity")], 14.0).record.number == 2
    assert choose([*records, scored(record, 3, 0.9, engine={"passed": False})], 14.0).record.number == 2
    assert choose([*records, scored(record, 3, 0.9, engine={"passed": True})], 14.0).record.number == 3
    assert choose(records, 1.0) is None


def test_the_choice_is_named_and_marked(study: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["choose", str(study), "--budget-ms", "1000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    records = records_of(study)
    best = max((r for r in records if r.complete), key=lambda r: r.val_miou or 0.0)
    assert (found["trial"], found["val_miou"], found["probability"]) == (best.number, best.val_miou, 1.0)
    assert [r.number for r in records if r.chosen] == [best.number]
    report = load_config(study).study.output_dir / "report.html"
    assert f"Trial {best.number} is chosen to deploy for 1000 ms" in report.read_text()
    slowest = max(r.measured_ms or r.latency_ms or 0.0 for r in records if r.complete)
    assert main(["choose", str(study), "--budget-ms", str(slowest * 10)]) == 0
    assert f"trial {best.number}:" in capsys.readouterr().out


def test_a_budget_that_nothing_keeps_is_told(study: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["choose", str(study), "--budget-ms", "0.000001"]) == 2
    assert "no network keeps 1e-06 ms with a probability of 0.9" in capsys.readouterr().err
    assert main(["choose", str(study), "--budget-ms", "0"]) == 2
    assert not any(record.chosen for record in records_of(study))


def test_each_target_keeps_a_choice_of_its_own(study: Path):
    config = load_config(study)
    opened = open_configured(config)

    def choices() -> dict[int, list[tuple[Any, Any]]]:
        return {
            r.number: [(c.get("target"), c["budget_ms"]) for c in r.choices] for r in records_of(study) if r.choices
        }

    one, other = [record for record in records_of(study) if record.complete][:2]
    mark_chosen(opened, records_of(study), Choice(one, 1.0), 10.0)
    mark_chosen(opened, records_of(study), Choice(one, 0.9), 20.0, "jetson-orin-nano")
    mark_chosen(opened, records_of(study), Choice(other, 0.9), 30.0, "jetson-tx2")
    assert choices() == {one.number: [(None, 10.0), ("jetson-orin-nano", 20.0)], other.number: [("jetson-tx2", 30.0)]}
    mark_chosen(opened, records_of(study), Choice(other, 1.0), 40.0, "jetson-orin-nano")
    assert choices()[one.number] == [(None, 10.0)] and ("jetson-orin-nano", 40.0) in choices()[other.number]
    store_later_facts(opened, one.number, chosen={"budget_ms": 5.0, "probability": 1.0, "target": "jetson-tx2"})
    mark_chosen(opened, records_of(study), Choice(one, 1.0), 50.0)
    assert choices()[one.number] == [(None, 50.0), ("jetson-tx2", 5.0)], "a mark of an earlier release is kept"
