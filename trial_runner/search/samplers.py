"""Optuna samplers for multi-objective studies with pruned trials."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from objectives.objective import MIOU, Objective
from objectives.optuna_private import study_view
from objectives.trial_record import DUPLICATE_OF, OUTCOME, PARENT_TRIAL, Outcome
from search_spaces._common.errors import UserError
from search_spaces._common.references import check_arguments, parameters_of, resolve_callable
from trial_runner.config.study import HUB, KNOWN_COST, SAMPLERS, SearchSection
from trial_runner.search.candidate_costs import seconds_by_latency
from trial_runner.search.known_cost import EarlierTrials, KnownCosts, KnownCostSampler
from trial_runner.search.known_cost.evidence import CurveEvidence
from trial_runner.study.stored_space import StoredSpace


def without_curves(study: optuna.Study) -> optuna.Study:
    """Return a view of a study for samplers: pruned and paused trials without intermediate values, and no final trainings.

    TPE would rank pruned trials by a single direction and raise; final trainings ran for longer than the proposals they
    would be compared with.
    """

    def shown(trials: list[FrozenTrial]) -> list[FrozenTrial]:
        return [
            _without_curve(trial) if trial.state == TrialState.PRUNED else trial
            for trial in map(_stopped, trials)
            if PARENT_TRIAL not in trial.user_attrs
        ]

    return study_view(study, shown)


def own_trainings(study: optuna.Study) -> optuna.Study:
    """Return a view of a study without final trainings and without trials that took over the result of an earlier one."""
    hidden = {PARENT_TRIAL, DUPLICATE_OF}
    return study_view(
        study, lambda trials: [_stopped(trial) for trial in trials if not hidden & trial.user_attrs.keys()]
    )


def _stopped(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial that was stopped but may be resumed as a pruned one; any other as it is."""
    if trial.state != TrialState.RUNNING or trial.user_attrs.get(OUTCOME) != Outcome.STOPPED:
        return trial
    stopped = copy.copy(trial)
    stopped.state = TrialState.PRUNED
    return stopped


def _without_curve(trial: FrozenTrial) -> FrozenTrial:
    bare = copy.copy(trial)
    bare.intermediate_values = {}
    return bare


class CurvelessSampler(BaseSampler):
    """Delegates to another sampler, which sees the study through a view.

    Args:
        inner: the sampler.
        view: of the study, by default `without_curves`.
        space: the space as the study stores it; the inner sampler sees params under the names of their dimensions.
    """

    def __init__(
        self,
        inner: BaseSampler,
        view: Callable[[optuna.Study], optuna.Study] = without_curves,
        space: StoredSpace | None = None,
    ) -> None:
        self._inner, self._view, self._space = inner, view, space

    def __str__(self) -> str:
        return str(self._inner)

    def reseed_rng(self) -> None:
        self._inner.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        found = self._inner.infer_relative_search_space(self._seen(study), trial)
        return {self._stored(name): distribution for name, distribution in found.items()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        wanted = {self._dimension(stored): distribution for stored, distribution in search_space.items()}
        found = self._inner.sample_relative(self._seen(study), trial, wanted)
        return {self._stored(name): value for name, value in found.items()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        name = self._dimension(param_name)
        return self._inner.sample_independent(self._seen(study), trial, name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(self._seen(study), trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(self._seen(study), trial, state, values)

    def _seen(self, study: optuna.Study) -> optuna.Study:
        view = self._view(study)
        return view if self._space is None else study_view(view, self._space.shown)

    def _stored(self, name: str) -> str:
        return name if self._space is None else self._space.names.get(name, name)

    def _dimension(self, stored: str) -> str:
        return stored if self._space is None else self._space.dimension_of(stored)


@dataclass(frozen=True)
class StudyFacts:
    """Facts of a study that the sampler ``known_cost`` uses.

    Attributes:
        space: distributions of the search space.
        costs: of its candidates.
        objectives: in the study's order.
        epochs: of a training.
        earlier: trials of earlier studies on this space.
    """

    space: Mapping[str, BaseDistribution]
    costs: KnownCosts
    objectives: Sequence[Objective]
    epochs: int
    earlier: Sequence[EarlierTrials] = ()


def make_sampler(
    config: SearchSection, seed: int, facts: StudyFacts | None = None, space: StoredSpace | None = None
) -> BaseSampler:
    """Return the sampler of a study.

    Args:
        seed: should differ between launches: a resumed study must not repeat its proposals.
        facts: for the sampler ``known_cost``, which without them knows no costs and treats every objective as unknown.
        space: the space as the study stores it; None where it was never edited.
    """
    if config.sampler == KNOWN_COST:
        return CurvelessSampler(_known_cost(config, seed, facts), own_trainings, space)
    if config.sampler not in SAMPLERS:
        return CurvelessSampler(_custom_sampler(config.sampler, config.sampler_options, seed), space=space)
    if config.sampler == "random":
        return RandomSampler(seed=seed)
    if config.sampler == "nsga2":
        return CurvelessSampler(NSGAIISampler(population_size=max(config.startup_trials, 4), seed=seed), space=space)
    if config.sampler == "gp":
        return CurvelessSampler(GPSampler(n_startup_trials=config.startup_trials, seed=seed), space=space)
    return CurvelessSampler(
        TPESampler(multivariate=True, n_startup_trials=config.startup_trials, seed=seed, n_ei_candidates=48),
        space=space,
    )


def _known_cost(config: SearchSection, seed: int, facts: StudyFacts | None) -> KnownCostSampler:
    if facts is None:
        return KnownCostSampler(n_startup_trials=config.startup_trials, seed=seed)
    objectives = list(facts.objectives)
    unknown = [at for at in range(len(objectives)) if at not in facts.costs.objectives]
    references: dict[int, float] = {}
    for at in unknown:
        budget = objectives[at].budget
        if budget is not None or objectives[at].direction == "maximize":
            references[at] = budget or 0.0
    slopes = {at: float(objectives[at].direction == "maximize" and not objectives[at].unit) for at in unknown}
    read = next((at for at in unknown if objectives[at].name == MIOU.name), None)
    return KnownCostSampler(
        facts.costs,
        search_space=facts.space,
        references=references,
        evidence=CurveEvidence(slopes, len(objectives), read),
        seconds=seconds_by_latency(facts.epochs) if config.time_budget_minutes else None,
        earlier=facts.earlier,
        consider_constraints=False,  # the violations are those of the budgets, which the references are
        n_startup_trials=config.startup_trials,
        seed=seed,
    )


def _custom_sampler(reference: str, options: Mapping[str, Any], seed: int) -> BaseSampler:
    """Make the sampler of ``module:name`` (a class or function; ``seed`` is passed if it is a parameter) or of OptunaHub."""
    factory = _from_hub(reference) if reference.startswith(f"{HUB}:") else resolve_callable(reference, "search.sampler")
    what = f"sampler {reference!r}"
    given = dict(options)
    if "seed" in parameters_of(factory):
        given.setdefault("seed", seed)
    check_arguments(what, factory, given)
    made = factory(**given)
    if not isinstance(made, BaseSampler):
        raise UserError(
            f"search.sampler {reference} must give an optuna.samplers.BaseSampler, but gave a {type(made).__name__}."
        )
    return made


def _from_hub(reference: str) -> Any:
    """Return the sampler class of an OptunaHub package: ``optunahub:auto_sampler``, or ``optunahub:PACKAGE.CLASS`` of several."""
    package, _, wanted = reference.partition(":")[2].partition(".")
    try:
        import optunahub
    except ModuleNotFoundError as error:
        raise UserError(
            f"search.sampler is {reference}, but OptunaHub is not installed. Run: pip install optunahub"
        ) from error
    module = optunahub.load_module(f"samplers/{package}")
    offered = {name: getattr(module, name) for name in getattr(module, "__all__", vars(module))}
    classes = {name: item for name, item in offered.items() if isinstance(item, type) and issubclass(item, BaseSampler)}
    if wanted not in classes and (wanted or len(classes) != 1):
        raise UserError(
            f"search.sampler is {reference}, but the package has the samplers {', '.join(classes) or 'none'}. "
            f"Write {HUB}:{package}.CLASS with one of them."
        )
    return classes[wanted] if wanted else next(iter(classes.values()))
