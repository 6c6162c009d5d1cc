"""The table of trainings and the simulator that replays searches on it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.segmentation_table.costs import StoredCosts, costs_of_all
from benchmarks.segmentation_table.curves import TableCurves
from benchmarks.segmentation_table.replay import BUDGET_MS, CLASSES, study_config
from benchmarks.segmentation_table.rules import AccuracyASHA, Unavailable, rules
from benchmarks.segmentation_table.simulator import Landscape, Point, SimulatedBackend, hypervolumes, replay
from benchmarks.segmentation_table.table import read_table
from benchmarks.segmentation_table.train import EPOCHS, draw
from hw_latency_model.bundled.load import load_bundled
from objectives.rung_reliability import Rung
from search_spaces import open_space
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.training.stage_cache import shared_stages
from trial_runner.training.trial_spec import Progress, TrialSpec

SPACE = open_space(study_config().space)
CHOICES = {item.name: getattr(item, "choices", ()) for item in SPACE.dimensions}


def made_up_rows(count: int) -> list[dict[str, Any]]:
    """Rows whose final mIoU follows work and learning rate, with a little noise; every sixth candidate on two seeds."""
    rng = np.random.default_rng(0)
    rows = []
    for number, candidate in enumerate(draw(SPACE, count, 1)):
        params = candidate.params
        height, width = SPACE.input_hw(candidate)
        macs = 3000.0 * height * width * params["width"] ** 2
        expected = 0.2 + 0.05 * np.log10(macs / 1e7) - 0.05 * abs(np.log10(params["learning_rate"]) + 2.5)
        for repeat in range(2 if number % 6 == 0 else 1):
            final = expected + rng.normal(0, 0.005)
            miou = list(final * np.array([0.5, 0.7, 0.8, 0.9, 0.95, 1.0]))
            row = {"candidate": number, "seed": 1 + repeat, "params": dict(params), "failure": None, "miou": miou}
            row |= {"seconds": list(np.arange(1, EPOCHS + 1) * (1 + macs / 1e8)), "macs": macs, "parameters": 1e6}
            if repeat:
                row["continued"] = {"miou": list(final + np.linspace(0.01, 0.03, EPOCHS)), "seconds": row["seconds"]}
            rows.append(row)
    return rows


ROWS = made_up_rows(72)


@pytest.fixture(scope="module")
def curves() -> TableCurves:
    return TableCurves(ROWS, CHOICES["family"], CHOICES["decoder"])


@pytest.fixture(scope="module")
def landscape(curves: TableCurves) -> Landscape:
    gate = LatencyConstraint(SPACE, CLASSES, load_bundled("jetson-nano", "fp16"), BUDGET_MS)
    return Landscape(SPACE, gate, curves)


def config(**search: Any) -> StudyConfig:
    values = study_config().model_dump(mode="json")
    values["device"]["latency_budget_ms"] = BUDGET_MS
    return StudyConfig.model_validate({**values, "search": {"sampler": "random", "trials": 1000, **search}})


def test_the_drawn_candidates_cover_every_value_of_the_space_about_equally() -> None:
    drawn = [candidate.params for candidate in draw(SPACE, 240, 1)]
    for name in ("family", "decoder", "width", "resolution", "prune_ratio"):
        counts = [sum(params[name] == value for params in drawn) for value in CHOICES[name]]
        assert min(counts) >= 0.8 * 240 / len(counts), name
    assert drawn[0] == SPACE.default().params


def test_a_training_that_was_cut_off_is_left_out_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1])[:40])
    assert [row["candidate"] for row in read_table(path)] == [0]
    assert path.read_text() == json.dumps(ROWS[0]) + "\n"


def test_curves_are_interpolated_with_the_errors_that_are_stated(curves: TableCurves) -> None:
    assert curves.errors.final_rank > 0.9 and curves.errors.final_rmse < 0.02
    assert 0.002 < curves.errors.noise < 0.01
    row = ROWS[3]
    answers = [curves.train(row["params"], row, seed) for seed in range(200)]
    finals = np.array([answer.miou[-1] for answer in answers])
    assert finals.std() == pytest.approx(max(curves.errors.final_rmse, curves.errors.noise), rel=0.2)
    assert abs(finals.mean() - row["miou"][-1]) < 0.03
    assert answers[0].seconds[0] == pytest.approx(row["seconds"][0], rel=0.1)
    again = curves.train(row["params"], row, 0)
    assert (again.miou == answers[0].miou).all()


def test_networks_that_hardly_differ_are_hardly_apart(curves: TableCurves, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "_noise", 0.0)
    monkeypatch.setattr(curves, "_spread", 0.1)
    row = ROWS[3]
    near = {**row["params"], "learning_rate": row["params"]["learning_rate"] * 1.02}
    other = {**row["params"], "family": ROWS[4]["params"]["family"]}
    gaps = np.array(
        [
            [
                abs(curves.train(params, row, seed).miou[-1] - curves.train(row["params"], row, seed).miou[-1])
                for seed in range(40)
            ]
            for params in (near, other)
        ]
    )
    assert gaps[0].max() < 0.01 and gaps[1].mean() > 0.03


def test_final_trainings_gain_what_the_continued_trainings_gained(curves: TableCurves) -> None:
    answers = [curves.continue_training(0.2, EPOCHS, 3.0, 2 * EPOCHS, key) for key in range(200)]
    assert np.mean([answer.miou[EPOCHS - 1] for answer in answers]) == pytest.approx(0.23, abs=0.01)
    for answer in answers:
        assert answer.miou[-1] >= answer.miou[EPOCHS - 1] >= 0.2 and list(answer.seconds) == [3.0] * 2 * EPOCHS
    again = curves.continue_training(0.2, EPOCHS, 3.0, 2 * EPOCHS, 0)
    assert (again.miou == answers[0].miou).all()


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_train_at_the_same_time_until_the_budget_is_spent(landscape: Landscape, workers: int) -> None:
    found = replay(config(time_budget_minutes=2), landscape, workers, 3)
    ends = [point.seconds for point in found.points]
    assert ends == sorted(ends)
    assert 100 < found.now_s < 180
    assert found.busy_s > 0.8 * workers * 120
    assert replay(config(time_budget_minutes=2), landscape, workers, 3).points == found.points


def test_a_rule_stops_trainings_and_final_trainings_follow_the_search(landscape: Landscape) -> None:
    rungs = {"rungs_epochs": [1], "reduction_factor": 2.0, "min_trials": 2}
    final = {"members": 2, "epochs": EPOCHS, "time_share": 0.4}
    plain = replay(config(time_budget_minutes=4), landscape, 2, 1)
    found = replay(config(time_budget_minutes=4, early_stopping=rungs, final_training=final), landscape, 2, 1)
    assert plain.epochs == EPOCHS * len(plain.points)
    assert found.epochs < 0.8 * EPOCHS * found.trainings and len(found.points) < found.trainings
    continued = [point for point in found.points if point.continued]
    assert continued and min(point.seconds for point in continued) > 0.5 * 240
    assert not any(point.continued for point in plain.points)


def test_hypervolume_counts_what_was_there_within_the_latency_budget() -> None:
    points = [Point(1.0, 0.5, 2.0), Point(2.0, 0.6, 4.0), Point(3.0, 0.9, 9.0)]
    assert hypervolumes(points, 6.0, [0.5, 1.0, 5.0]) == pytest.approx([0.0, 0.5 * 4, 0.5 * 4 + 0.1 * 2])


def test_costs_of_all_architectures_are_those_of_the_latency_constraint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = study_config().space.model_dump(mode="json")
    small = StudyConfig.model_validate(
        {**study_config().model_dump(mode="json"), "space": {**values, "families": ["lcnet"], "decoders": ["lraspp"]}}
    )
    space, model = open_space(small.space), load_bundled("jetson-nano", "fp16")
    found = costs_of_all(space, CLASSES, model, tmp_path / "costs.json", 1)
    plain, stored = (
        LatencyConstraint(space, CLASSES, model, BUDGET_MS),
        StoredCosts(space, CLASSES, model, BUDGET_MS, found),
    )
    rng = np.random.default_rng(0)
    for candidate in [space.sample(rng) for _ in range(5)]:
        expected, estimate = plain.estimate(candidate), stored.estimate(candidate)
        assert (estimate.latency_ms, estimate.low_ms) == pytest.approx((expected.latency_ms, expected.low_ms))
        assert stored.macs(candidate) == plain.macs(candidate)
        assert stored.weight_bytes(candidate) == plain.weight_bytes(candidate)
    monkeypatch.setattr("benchmarks.segmentation_table.costs._costs_of", None)
    assert costs_of_all(space, CLASSES, model, tmp_path / "costs.json", 1) == found, "read from the file"


def test_asha_by_accuracy_stops_a_fast_network_that_the_own_rule_keeps() -> None:
    rule = AccuracyASHA([1])
    for number, miou in enumerate([0.5, 0.6, 0.7]):
        rule.stop(number, Rung(1), (miou, 5.0))
    assert rule.stop(3, Rung(1), (0.4, 0.5)) == "3 of 4 had a higher mIoU"
    assert rule.stop(4, Rung(1), (0.8, 9.0)) is None


def test_a_rule_whose_package_is_missing_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "syne_tune.optimizer.schedulers.asha", None)
    monkeypatch.setitem(sys.modules, "optunahub", None)
    for name in ("mo-asha", "multi_metric_pruner"):
        with pytest.raises(Unavailable, match=r"pip install 'paretoseg\[benchmarks\]'"):
            rules(EPOCHS, None)[name]()


class GivenTrials:
    """Driver of a list of trials that stops none."""

    def __init__(self, specs: list[TrialSpec]) -> None:
        self.ask = iter([*specs, None, None]).__next__

    def progress(self, number: int, progress: Progress) -> bool:
        return False

    def finish(self, number: int) -> None:
        pass


def test_a_training_takes_over_the_epochs_that_an_earlier_one_shares_with_it(landscape: Landscape) -> None:
    study, nowhere = config(time_budget_minutes=1), Path("/nonexistent")
    params = SPACE.default().params
    pruned = {**params, "prune_ratio": 0.5}
    other = {**pruned, "learning_rate": params["learning_rate"] / 2}
    specs = [
        TrialSpec(number, SPACE.candidate(item), study, nowhere, nowhere)
        for number, item in enumerate((params, pruned, other))
    ]
    shared = shared_stages(specs[1])[0].epoch
    assert shared > 0
    for cached in (False, True):
        backend = SimulatedBackend(landscape, 1, 1, stage_cache=cached)
        backend.run(GivenTrials(specs))  # type: ignore[arg-type]
        assert backend.epochs == 3 * EPOCHS - (shared if cached else 0)
        assert len(backend.points) == 3
