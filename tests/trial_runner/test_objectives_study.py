"""A study of other objectives than mIoU and latency, from its YAML to its front: values, budgets, rungs, front, table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import launching
import optuna
import pytest
from driving import driver_of, records_of
from rich.console import Console

from objectives.objective import get_objective
from objectives.pareto import pareto_front
from objectives.rung_reliability import Rung
from objectives.trial_record import CostEstimate
from objectives.trial_score import TrialScore
from search_spaces import open_space
from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate
from trial_runner.cli.main import main
from trial_runner.config.compatibility import changed_objectives
from trial_runner.config.load import ConfigError, dump_config, load_config
from trial_runner.config.study import FinalTrainingSection, StudyConfig
from trial_runner.front.table import front_records, front_rows, print_front, write_csv
from trial_runner.search.driver import StudyDriver
from trial_runner.search.final_training import next_to_continue
from trial_runner.study.objectives import (
    note_class_names,
    objectives_of,
    open_configured,
    stored_objectives,
)
from trial_runner.study.storage import StorageError
from trial_runner.training.trial_spec import Progress

CLASSES = ("road", "person")
TEXT = """
study: {name: s, storage: "sqlite:///study.db", output_dir: out}
data: {kind: synthetic}
space: {families: [lcnet], decoders: [fpn], widths: [0.25, 0.5, 0.75, 1.0], resolutions_px: [[32, 64]], prune_ratios: [0.0]}
device: {latency_model: model.json, latency_budget_ms: 1000}
objectives: [val_miou, "class_iou:person", {name: energy_mj, budget: 80}]
training: {epochs: 4}
search: {trials: 6, startup_trials: 2, early_stopping: {rungs_epochs: [2], min_trials: 2, reduction_factor: 2.0}}
"""


class Energy:
    """100 mJ times the width, give or take a tenth: at 80 mJ a width of 1 is refused, one of .75 may do."""

    def costs(self, candidate: Candidate) -> dict[str, CostEstimate]:
        mj = 100.0 * float(candidate.params["width"])
        return {"energy_mj": CostEstimate(mj, 0.9 * mj, 1.1 * mj)}

    def violation_reason(self, costs: dict[str, CostEstimate]) -> str | None:
        return "too much energy" if costs["energy_mj"].low > 80 else None


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    (tmp_path / "study.yaml").write_text(TEXT)
    return load_config(tmp_path / "study.yaml")


def start(config: StudyConfig, seed: int = 0) -> StudyDriver:
    note_class_names(open_configured(config, create=True), CLASSES)
    return driver_of(config, seed=seed, costs=Energy())


def score(epoch: int, miou: float, person: float | None) -> TrialScore:
    return TrialScore(miou, epoch, 4, 1000, 100, 1.0, (miou, person))


def run_one(driver: StudyDriver, miou: float, person: float | None, *, until: int = 4) -> int:
    spec = driver.ask()
    assert spec is not None
    for epoch in range(1, until + 1):
        reading = score(epoch, miou, person)
        curve = tuple((e, miou) for e in range(1, epoch + 1))
        if driver.progress(spec.number, Progress(epoch, miou, curve, reading)):
            break
    driver.finish(spec.number)
    return spec.number


def test_optuna_is_told_every_value_and_every_budget(config: StudyConfig):
    number = run_one(start(config), 0.5, 0.2)
    study = open_configured(config)
    trial, record = study.trials[number], records_of(config)[number]
    assert study.metric_names == ["val_miou", "class_iou:person", "energy_mj"]
    assert trial.values == [0.5, 0.2, record.costs["energy_mj"].value]
    violations = list(trial.constraints.values())
    assert violations == [pytest.approx(record.latency_ms - 1000), pytest.approx(trial.values[2] - 80)]


def test_a_candidate_over_another_budget_is_refused_and_told_by_how_much(config: StudyConfig):
    driver = start(config)
    space = open_space(config.space)
    open_configured(config).enqueue_trial(dict(space.default().params))
    run_one(driver, 0.5, 0.2)
    refused = next(record for record in records_of(config) if record.outcome == "refused")
    assert refused.reason == "too much energy" and refused.params["width"] == 1.0
    assert list(open_configured(config).trials[refused.number].constraints.values())[1] == pytest.approx(20.0)


def test_a_budget_that_is_only_known_after_training_is_told_then(config: StudyConfig):
    asked = [item.model_copy(update={"budget": 0.4}) if item.name == "val_miou" else item for item in config.objectives]
    limited = config.model_copy(update={"objectives": asked})
    driver = start(limited)
    done, stopped = run_one(driver, 0.3, 0.2), run_one(driver, 0.3, 0.2, until=1)
    trials = open_configured(limited).trials
    assert list(trials[done].constraints.values())[1] == pytest.approx(0.1)
    assert list(trials[stopped].constraints.values())[1] == 0.0, "a first epoch says nothing of the budget"
    members = front_records(records_of(limited), 1000.0, objectives_of(limited, CLASSES))
    assert members == [], "0.3 is below the budget"


def test_rungs_compare_all_objectives_and_a_new_start_remembers_them(config: StudyConfig):
    driver = start(config)
    good = run_one(driver, 0.6, 0.5)
    found = records_of(config)[good]
    assert [(epoch, reading.class_iou) for epoch, reading in found.rung_scores] == [(2, (0.6, 0.5))]
    width = float(found.params["width"])
    again = start(config, seed=5)
    assert again._rule._seen[Rung(2), None] == {good: (0.6, 0.5, 100.0 * width)}
    # As good in mIoU and larger, but better in the class: it goes on.
    assert again._rule.stop(90, Rung(2), (0.6, 0.6, 100.0)) is None
    assert again._rule.stop(91, Rung(2), (0.1, 0.1, 100.0)) is not None


def test_a_trial_without_a_value_for_an_objective_fails_with_the_reason(config: StudyConfig):
    number = run_one(start(config), 0.5, None)
    record = records_of(config)[number]
    assert record.outcome == "failed" and "IoU of person" in record.reason


def test_a_start_that_died_between_outcome_and_state_is_put_right(config: StudyConfig):
    driver = start(config)
    spec = driver.ask()
    study = open_configured(config)
    trial_id = study.trials[spec.number]._trial_id
    study._storage.set_trial_user_attr(trial_id, "score", score(4, 0.7, 0.3).to_dict())
    study._storage.set_trial_user_attr(trial_id, "outcome", "finished")
    start(config)
    assert open_configured(config).trials[spec.number].values[:2] == [0.7, 0.3]


def test_a_repeated_proposal_takes_over_all_values(config: StudyConfig):
    driver = start(config)
    number = run_one(driver, 0.5, 0.2)
    study = open_configured(config)
    study.enqueue_trial(study.trials[number].params)
    start(config, seed=3).ask()
    repeated = next(r for r in records_of(config) if r.duplicate_of == number)
    trials = open_configured(config).trials
    assert trials[repeated.number].values == trials[number].values


def test_front_table_csv_and_json_show_the_objectives(config: StudyConfig, tmp_path: Path):
    driver = start(config)
    for miou, person in ((0.5, 0.1), (0.4, 0.3), (0.6, 0.6), (0.2, 0.0)):
        run_one(driver, miou, person)
    study = open_configured(config)
    objectives = stored_objectives(config, study)
    members = front_records(records_of(config), 1000.0, objectives)
    assert members and {r.number for r in members} == set(
        pareto_front(records_of(config), objectives=objectives).numbers
    )
    rows = front_rows(members, objectives)
    first = members[0]
    assert rows[0]["objectives"] == {
        "val_miou": first.val_miou,
        "class_iou:person": first.score.class_iou[1],
        "energy_mj": first.costs["energy_mj"].value,
    }
    assert rows[0]["latency_ms"] == first.latency_ms
    json.dumps(rows)
    write_csv(members, tmp_path / "front.csv", objectives)
    with (tmp_path / "front.csv").open() as handle:
        table = list(csv.DictReader(handle))
    assert [float(row["energy_mj"]) for row in table] == [r.costs["energy_mj"].value for r in members]
    out = io.StringIO()
    print_front(members, 1000.0, Console(file=out, width=240), objectives)
    assert "IoU of person" in out.getvalue() and "within 1000 ms, energy of an image 80 mJ" in out.getvalue()


def test_final_trainings_go_to_the_best_and_to_what_widens_the_front_most(config: StudyConfig):
    driver = start(config)
    for miou, person in ((0.5, 0.1), (0.4, 0.3), (0.6, 0.2)):
        run_one(driver, miou, person)
    objectives = stored_objectives(config, open_configured(config))
    found = records_of(config)
    section = FinalTrainingSection(members=2)
    best = next_to_continue(found, 1000.0, section, objectives)
    assert best is not None and best.record.val_miou == max(r.val_miou for r in found if r.complete)


def test_a_study_is_not_gone_on_with_under_other_objectives(config: StudyConfig):
    start(config)
    for names in (["val_miou", "latency_ms"], ["val_miou", "class_iou:road", "energy_mj"]):
        other = config.model_copy(
            update={"objectives": [type(config.objectives[0]).model_validate(name) for name in names]}
        )
        with pytest.raises(
            StorageError, match=r"has other objectives than val_miou, .*namely val_miou, class_iou:person"
        ):
            open_configured(other)


def test_a_study_of_an_older_release_opens_with_the_default(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/study.db"
    (tmp_path / "study.yaml").write_text(
        TEXT.replace('objectives: [val_miou, "class_iou:person", {name: energy_mj, budget: 80}]\n', "")
    )
    optuna.create_study(storage=url, study_name="s", directions=["maximize", "minimize"])
    config = load_config(tmp_path / "study.yaml")
    study = open_configured(config)
    assert [o.name for o in stored_objectives(config, study)] == ["val_miou", "latency_ms"]
    assert stored_objectives(config, study)[1].budget == 1000


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("[val_miou]", "at least 2 items"),
        ("[val_miou, latency]", "did you mean 'latency_ms'"),
        ("[val_miou, val_miou]", "must be different ones"),
        ("[val_miou, {name: latency_ms, budget: 5}]", r"is device\.latency_budget_ms"),
        ("[val_miou, {name: macs, bugdet: 5}]", "did you mean budget"),
    ],
)
def test_a_mistake_in_the_list_is_answered_with_a_sentence(tmp_path: Path, line: str, sentence: str):
    path = tmp_path / "study.yaml"
    path.write_text(TEXT)
    with pytest.raises(ConfigError, match=sentence):
        load_config(path, [f"objectives={line}"])


def test_the_list_survives_the_resolved_configuration(config: StudyConfig, tmp_path: Path):
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config
    with pytest.raises(UserError, match="names no class of the data"):
        objectives_of(config, ("road", "car"))
    assert objectives_of(config, CLASSES)[2] == get_objective("energy_mj", budget=80)


def test_budgets_may_change_but_not_come_and_go(config: StudyConfig):
    stored = config.model_dump(mode="json")
    looser = load_config_like(config, ["val_miou", "class_iou:person", {"name": "energy_mj", "budget": 90}])
    assert changed_objectives(stored, looser) is None
    without = load_config_like(config, ["val_miou", "class_iou:person", "energy_mj"])
    assert changed_objectives(stored, without) == "set of objectives with a budget (energy_mj, now none)"
    robust = load_config_like(config, ["val_miou", "robust_miou"])
    before = robust.model_dump(mode="json") | {"robustness": {"corruptions": ["fog"], "severity": 1, "images": 3}}
    assert "robustness" in str(changed_objectives(before, robust))
    old = {key: value for key, value in stored.items() if key not in ("objectives", "robustness")}
    assert changed_objectives(old, load_config_like(config, ["val_miou", "latency_ms"])) is None


def load_config_like(config: StudyConfig, objectives: list[object]) -> StudyConfig:
    return StudyConfig.model_validate({**config.model_dump(mode="json"), "objectives": objectives})


@pytest.mark.slow
def test_a_launch_with_four_objectives_ends_in_a_front_of_them(
    write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    path = write_study(trials=3, epochs=2)
    path.write_text(
        path.read_text()
        + "objectives: [val_miou, val_dice, robust_miou, {name: parameters, budget: 5000000}]\n"
        + "robustness: {corruptions: [fog, jpeg], images: 3}\n"
    )
    launching.finish(path)
    assert main(["front", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    for row in rows:
        assert row["objectives"]["parameters"] == row["parameters"]
        assert row["objectives"]["val_miou"] == row["val_miou"]
        assert 0 <= row["objectives"]["robust_miou"] <= 1 and 0 <= row["objectives"]["val_dice"] <= 1
    record = next(r for r in launching.records(path) if r.complete)
    assert set(record.score.corruption_miou) == {"fog", "jpeg"}
    text = (path.parent / "out" / "report.html").read_text()
    assert "What each member trades" in text or len(rows) < 2
    assert main(["evaluate", record.bundle or rows[0]["bundle"], "--robust", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["corruption_miou"]) == {"fog", "jpeg"}
