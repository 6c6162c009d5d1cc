from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from objectives.trial_record import set_constraints
from trial_runner.config.compatibility import with_stored_sampler
from trial_runner.config.load import load_config
from trial_runner.config.study import SearchSection
from trial_runner.search.samplers import make_sampler


def study_with_stopped_trials(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """Six finished, six stopped with a curve, six refused: what a real study holds after a while."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for index in range(18):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("latency", x - 0.9 if index % 3 < 2 else 1.0)
        if index % 3 == 0:
            study.tell(trial, (x, x))
        else:
            if index % 3 == 1:
                study._storage.set_trial_intermediate_value(trial._trial_id, 1, x)
            study._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED)
    return study


@pytest.mark.parametrize("name", ["known_cost", "tpe", "nsga2", "gp", "random"])
def test_every_sampler_goes_on_in_a_study_that_holds_stopped_trials(name: str):
    sampler = make_sampler(SearchSection.model_validate({"sampler": name, "startup_trials": 4}), seed=0)
    study = study_with_stopped_trials(sampler)
    trial = study.ask()
    assert 0 <= trial.suggest_float("x", 0, 1) <= 1


def test_plain_tpe_fails_there_which_is_why_ours_is_wrapped():
    with pytest.raises(RuntimeError):
        study = study_with_stopped_trials(optuna.samplers.TPESampler(multivariate=True, n_startup_trials=4))
        study.ask().suggest_float("x", 0, 1)


def test_the_curves_stay_in_the_study():
    sampler = make_sampler(SearchSection(sampler="tpe", startup_trials=4), seed=0)
    study = study_with_stopped_trials(sampler)
    study.ask().suggest_float("x", 0, 1)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert sum(bool(trial.intermediate_values) for trial in pruned) == 6


def test_proposals_repeat_with_the_seed_and_differ_between_seeds():
    def first(seed: int) -> float:
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=make_sampler(SearchSection(), seed))
        return study.ask().suggest_float("x", 0, 1)

    assert first(1) == first(1) != first(2)


@pytest.mark.parametrize("name", ["known_cost", "tpe", "nsga2", "gp", "random"])
def test_three_objectives_and_two_budgets_are_searched_by_every_sampler(name: str):
    sampler = make_sampler(SearchSection.model_validate({"sampler": name, "startup_trials": 4}), seed=0)
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"], sampler=sampler)
    for index in range(14):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        set_constraints(study, trial._trial_id, [x - 0.9, 0.1 - x])
        if index % 4 == 3:
            study._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED)
        else:
            study.tell(trial, (x, x, x * x))
    assert all(len(trial.constraints) == 2 for trial in study.trials)


def test_a_study_keeps_the_sampler_it_began_with_where_the_yaml_names_none(write_study: Callable[..., Path]):
    path = write_study()
    lines = [line for line in path.read_text().splitlines() if "sampler:" not in line]
    path.write_text("\n".join(lines))
    config = load_config(path)
    assert config.search.sampler == "known_cost"
    assert with_stored_sampler({"search": {"sampler": "nsga2"}}, config).search.sampler == "nsga2"
    assert with_stored_sampler({"search": {}}, config).search.sampler == "tpe"
    assert with_stored_sampler(None, config).search.sampler == "known_cost"
    named = load_config(path, ["search.sampler=random"])
    assert with_stored_sampler({"search": {"sampler": "nsga2"}}, named).search.sampler == "random"
