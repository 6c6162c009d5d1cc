"""Every objective by its name: direction, unit, budget, and the value that a record tells."""

from __future__ import annotations

import math
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState
from sample_measurement import sample_measurement

from objectives import trial_record as tr
from objectives.objective import (
    LATENCY,
    METRICS,
    MIOU,
    OBJECTIVES,
    budget_texts,
    get_objective,
    intermediate_values,
)
from objectives.pareto import pareto_front, reference_point
from objectives.trial_record import CostEstimate
from objectives.trial_score import TrialScore
from search_spaces._common.errors import UserError

CLASSES = ("road", "person", "car")
SCORE = TrialScore(0.4, 4, 4, 100, 10, 1.0, (0.7, None, 0.1), val_dice=0.5, corruption_miou={"fog": 0.2, "jpeg": 0.4})


@pytest.fixture
def record():
    study = optuna.create_study(
        directions=[item.direction for item in OBJECTIVES], sampler=optuna.samplers.RandomSampler()
    )
    trial = study.ask()
    trial.set_user_attr(tr.ESTIMATE, {"latency_ms": 20.0, "low_ms": 18.0, "high_ms": 25.0, "coverage": 1.0})
    costs = {"energy_mj": (40.0, 30.0, 50.0), "macs": (5e7, 5e7, 5e7), "parameters": (3e6, 3e6, 3e6)}
    written = {name: CostEstimate(*values).to_dict() for name, values in costs.items()}
    trial.set_user_attr(tr.COSTS, written)
    trial.set_user_attr(tr.SCORE, SCORE.to_dict())
    trial.set_user_attr(tr.RUNG_SCORES, [replace(SCORE, val_miou=0.3, epoch=2, corruption_miou=None).to_dict()])
    for epoch, value in ((1, 0.25), (2, 0.3), (4, 0.4)):
        study._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
    study.tell(trial, [0.4, 20.0])
    tr.store_later_facts(study, 0, measurement=sample_measurement(25.0, energy_mj=60.0))
    return tr.read_study(study)[0]


@pytest.mark.parametrize(
    ("name", "value", "direction"),
    [
        ("val_miou", 0.4, "maximize"),
        ("class_iou:road", 0.7, "maximize"),
        ("val_dice", 0.5, "maximize"),
        ("lpcvc_score", 0.5 / 0.020, "maximize"),
        ("robust_miou", 0.3, "maximize"),
        ("latency_ms", 20.0, "minimize"),
        ("energy_mj", 40.0, "minimize"),
        ("macs", 5e7, "minimize"),
        ("parameters", 3e6, "minimize"),
    ],
)
def test_a_record_tells_each_objective_in_its_unit(record, name: str, value: float, direction: str):
    objective = get_objective(name, class_names=CLASSES)
    assert objective.value(record) == pytest.approx(value)
    assert objective.direction == direction


def test_what_a_record_does_not_tell_is_nan_and_stands_on_no_front(record):
    memory, person = get_objective("memory_peak_mb"), get_objective("class_iou:person", class_names=CLASSES)
    assert math.isnan(memory.value(record)) and math.isnan(person.value(record))
    assert math.isnan(get_objective("class_iou:road").value(record)), "the order of the classes is not known"
    assert pareto_front([record], objectives=(MIOU, memory)).records == ()
    assert memory.text(math.nan) == "–"


def test_unknown_names_and_classes_are_answered_with_those_there_are():
    with pytest.raises(UserError, match=r"did you mean 'latency_ms'.*class_iou:CLASS"):
        get_objective("latency")
    with pytest.raises(UserError, match="unknown objective 'class_iou'"):
        get_objective("class_iou")
    with pytest.raises(UserError, match="unknown objective 'macs:road'"):
        get_objective("macs:road")
    with pytest.raises(UserError, match="names no class of the data, which are: road, person, car"):
        get_objective("class_iou:tree", class_names=CLASSES)


def test_a_budget_is_broken_on_the_bad_side_and_judged_by_what_was_measured(record):
    assert get_objective("val_miou", budget=0.5).violation(0.4) == pytest.approx(0.1)
    assert get_objective("macs", budget=4e7).violation(5e7) == pytest.approx(1e7)
    assert get_objective("macs").violation(5e7) == 0.0
    energy = get_objective("energy_mj", budget=50.0)
    assert energy.violation(energy.value(record)) < 0 and not energy.holds(record), "60 mJ were measured"
    assert LATENCY.with_budget(22.0).measured_or_predicted(record) == 25.0
    assert not get_objective("memory_peak_mb", budget=10.0).holds(record), "unknown keeps no budget"


def test_the_corner_is_each_budget_else_zero_or_the_worst(record):
    objectives = [get_objective(name) for name in ("val_miou", "macs", "latency_ms")]
    assert reference_point([record], objectives=objectives) == (0.0, 5e7, 20.0)
    limited = [get_objective("val_miou", budget=0.2), get_objective("macs", budget=9e7)]
    assert reference_point([record], objectives=limited) == (0.2, 9e7)
    front = pareto_front([record], objectives=limited)
    assert front.hypervolume == pytest.approx(0.2 * 4e7)


def test_at_a_rung_a_trial_is_read_as_it_stood_and_miou_stands_in_for_what_only_the_end_tells(record):
    objectives = [get_objective(name, class_names=CLASSES) for name in ("robust_miou", "class_iou:car", "macs")]
    assert intermediate_values(objectives, record.at(2)) == (0.3, 0.1, 5e7)
    only_curve = intermediate_values(objectives, record.at(1))
    assert only_curve[0] == 0.25 and math.isnan(only_curve[1])
    assert record.at(3) is None
    assert intermediate_values(OBJECTIVES, record.at(1)) == (0.25, 20.0)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [("val_miou", 0.5123, "0.512"), ("latency_ms", 4.821, "4.82 ms"), ("latency_ms", 48.21, "48.2 ms"),
     ("macs", 6.84e7, "68.4 M"), ("parameters", 812.0, "812"), ("energy_mj", 0.0421, "0.0421 mJ")],
)  # fmt: skip
def test_values_read_with_their_unit(name: str, value: float, shown: str):
    assert METRICS[name].text(value) == shown


def test_budgets_read_with_their_names():
    assert budget_texts([get_objective("val_miou", budget=0.4), LATENCY, get_objective("macs", budget=5e7)]) == [
        "mIoU 0.400",
        "MACs 50 M",
    ]


def test_a_trial_of_an_older_release_still_reads(record):
    study = optuna.create_study(directions=[item.direction for item in OBJECTIVES])
    trial = study.ask()
    old = {"val_miou": 0.3, "epoch": 2, "epochs_total": 2, "macs": 1, "params": 1, "train_s": 1.0, "class_iou": [0.3]}
    trial.set_user_attr(tr.SCORE, old)
    trial.set_user_attr(tr.ESTIMATE, {"latency_ms": 5.0, "low_ms": 4.0, "high_ms": 6.0, "coverage": 1.0})
    study.tell(trial, state=TrialState.PRUNED)
    (old_record,) = tr.read_study(study)
    assert (old_record.costs, old_record.rung_scores, old_record.val_dice, old_record.robust_miou) == (
        {},
        (),
        None,
        None,
    )
