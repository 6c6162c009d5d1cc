"""Reads of a whole study against Optuna's own."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

import objectives.optuna_reads as reads


@pytest.mark.parametrize("few", [1, 200])
def test_trials_are_those_that_optuna_reads(tmp_path, monkeypatch, few):
    monkeypatch.setattr(reads, "_FEW_TRIALS", few)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=url, study_name="a", directions=["maximize", "minimize"])
    other = optuna.create_study(storage=url, study_name="b")
    for number in range(7):
        other.ask().suggest_float("other", 0, 1)
        trial = study.ask()
        trial.suggest_categorical("family", ["resnet18", None, 0.5, True])
        trial.suggest_float("rate", 1e-4, 1.0, log=True)
        trial.set_user_attr("note", {"of": number})
        study._storage.set_trial_system_attr(trial._trial_id, "constraints", [0.1 * number])
        for step, value in enumerate((0.5, math.inf, -math.inf, 0.25)[: number % 5]):
            study._storage.set_trial_intermediate_value(trial._trial_id, step, value)
        if number in (1, 4):
            study.tell(trial, [0.5 + number, math.inf])
        elif number in (2, 5):
            study._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED)
    plain, fast = RDBStorage(url), reads.FastReadStorage(url)
    for states in (None, (TrialState.RUNNING,), (TrialState.COMPLETE, TrialState.PRUNED), (TrialState.FAIL,)):
        assert fast.get_all_trials(study._study_id, states=states) == plain.get_all_trials(
            study._study_id, states=states
        )
    later = (None, {study.trials[0]._trial_id}, study.trials[3]._trial_id)
    assert fast._get_trials(study._study_id, *later) == plain._get_trials(study._study_id, *later)
    assert len(optuna.load_study(study_name="b", storage=fast).get_trials()) == 7
    with pytest.raises(KeyError):
        fast.get_all_trials(999)
