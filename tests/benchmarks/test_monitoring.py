"""The study that monitoring is measured on: what a launch stores, with every outcome."""

from __future__ import annotations

from benchmarks._long_study import CLASSES, make_long_study
from objectives.pareto import pareto_front
from objectives.schedule import schedule
from objectives.trial_record import Outcome, hides_objects, read_study
from trial_runner.config.load import load_config
from trial_runner.study.objectives import open_configured

TEXT = """
study: {name: s, storage: "sqlite:///study.db", output_dir: out}
data: {kind: synthetic}
space: {families: [lcnet, resnet10t], widths: [0.25, 1.0], resolutions_px: [[32, 64], [96, 128]], prune_ratios: [0.0, 0.5]}
device: {latency_model: model.json, latency_budget_ms: 6}
training: {epochs: 4}
search: {trials: 6, early_stopping: {rungs_epochs: [2]}}
"""


def test_a_long_study_is_read_as_one_that_ran(tmp_path):
    (tmp_path / "study.yaml").write_text(TEXT)
    config = load_config(tmp_path / "study.yaml")
    make_long_study(config, 60)
    study = open_configured(config)
    records = read_study(study)
    assert [record.number for record in records] == list(range(60)) and hides_objects(study)
    assert {record.outcome for record in records} == {
        *(Outcome.FINISHED, Outcome.STOPPED, Outcome.INFEASIBLE, Outcome.FAILED),
    }
    finished = [record for record in records if record.complete]
    assert all(len(record.curve) == 4 and len(record.score.class_iou) == len(CLASSES) for record in finished)
    assert all(record.latency_ms <= 6 for record in finished) and len(pareto_front(records)) > 1
    assert (schedule(records).places, study.trials[7].params.keys()) == (4, records[7].params.keys())
    assert len(load_config(tmp_path / "out" / "study.yaml").space.families) == 2
