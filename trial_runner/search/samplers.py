"""The Optuna samplers a study may choose, made fit for multi-objective studies with trials that were stopped early."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from objectives.trial_record import CONTINUES
from trial_runner.config.study import SearchSection


class _StudyWithoutCurves(optuna.Study):
    """A study whose stopped trials show no intermediate values: TPE ranks them by a single direction and would raise.

    Final trainings are not in it: they were trained for longer than the proposals they would be compared with.
    """

    @classmethod
    def of(cls, study: optuna.Study) -> _StudyWithoutCurves:
        view = copy.copy(study)
        view.__class__ = cls
        assert isinstance(view, cls)
        return view

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy, states, use_cache)
        return [
            _without_curve(trial) if trial.state == TrialState.PRUNED else trial
            for trial in trials
            if CONTINUES not in trial.user_attrs
        ]


def _without_curve(trial: FrozenTrial) -> FrozenTrial:
    bare = copy.copy(trial)
    bare.intermediate_values = {}
    return bare


class CurvelessSampler(BaseSampler):
    """Passes everything on to another sampler, with the study's view that has no curves."""

    def __init__(self, inner: BaseSampler) -> None:
        self._inner = inner

    def __str__(self) -> str:
        return str(self._inner)

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(_StudyWithoutCurves.of(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(_StudyWithoutCurves.of(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(_StudyWithoutCurves.of(study), trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(_StudyWithoutCurves.of(study), trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(_StudyWithoutCurves.of(study), trial, state, values)


def make_sampler(config: SearchSection, seed: int) -> BaseSampler:
    """The sampler of a study. ``seed`` should differ from start to start: a resumed study must not repeat its proposals."""
    if config.sampler == "random":
        return RandomSampler(seed=seed)
    if config.sampler == "nsga2":
        return CurvelessSampler(NSGAIISampler(population_size=max(config.startup_trials, 4), seed=seed))
    if config.sampler == "gp":
        return CurvelessSampler(GPSampler(n_startup_trials=config.startup_trials, seed=seed))
    return CurvelessSampler(
        TPESampler(multivariate=True, n_startup_trials=config.startup_trials, seed=seed, n_ei_candidates=48)
    )
