"""Sampler that spends trials only on what is unknown before training."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from objectives.pareto import non_dominated_rank
from trial_runner.search.known_cost.acquisition import boxes, expected_hypervolume_improvement
from trial_runner.search.known_cost.costs import CostCache, KnownCosts
from trial_runner.search.known_cost.earlier import EarlierSurrogates, EarlierTrials
from trial_runner.search.known_cost.encoding import Key, Params, SpaceEncoding, draw, infer_conditions, union_space
from trial_runner.search.known_cost.history import History, ReadsCurves, read_history
from trial_runner.search.known_cost.pool import CandidatePool
from trial_runner.search.known_cost.surrogate import Inputs, Surrogate, distances

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

_FITTED = 150
"""Most observations that hyperparameters are fitted to."""
_CONDITIONED = 400
"""Most observations that predictions are conditioned on."""
_REFIT_ALWAYS, _REFIT_EVERY, _RESTART_EVERY = 20, 5, 15
_MARGIN = 0.1
"""Share of its observed range by which an uncertain objective's reference lies beyond the worst value, where none is given."""
_SMALL_COST = 0.01
"""Added to costs before the logarithm is taken, as a share of their median: a cost of zero is no outlier then."""
_STARTS_COMPARED = 200
_OUTLIER = 5.0
"""Values worse than the median by more than so many standard deviations (1.4826 times the median absolute deviation) count as
that bad: a diverged training says no more than that it is bad. Without it one such value hides all other differences."""


@dataclass(frozen=True)
class _Candidates:
    """Candidates that may be proposed.

    Attributes:
        rows: n full assignments.
        costs: (n, c), c = 0 without known costs.
        inputs: of the surrogates.
    """

    rows: list[Params]
    costs: Array
    inputs: Inputs


class KnownCostSampler(BaseSampler):
    """Expected hypervolume improvement by Gaussian processes, exact in the objectives that are known before a trial.

    A study without known costs is searched too: all its objectives are uncertain then. See docs/search.md.

    Args:
        costs: costs of candidates that are known before training; None if there are none.
        search_space: distributions of all params, so that the first trials can be chosen too; None to learn them from finished trials.
        references: index of an objective to the value from which improvement counts, in the objective's own unit; by default a known
            objective's budget or largest cost, and a little beyond the worst observed value of an uncertain one.
        n_startup_trials: trials spread over the first known cost before a surrogate is fitted.
        pool_size: random candidates compared at each proposal, next to at most as many neighbours of the front.
        renewed: random candidates replaced at each proposal.
        evidence: expected final values of stopped and running trials, and the noise of finished ones, from learning curves.
        seconds: called with the study's trials and the candidates' params and costs; returns the seconds (n,) that each candidate's
            trial would take, or None if that is not known yet. The improvement per second is maximised then.
        earlier: trials of earlier studies; how much they tell of this one is learned from its own trials.
        consider_constraints: whether constraint violations of the trials are modelled, as unknown functions of the params.
        seed: of all random draws.
    """

    def __init__(
        self,
        costs: KnownCosts | None = None,
        *,
        search_space: Mapping[str, BaseDistribution] | None = None,
        references: Mapping[int, float] | None = None,
        n_startup_trials: int = 5,
        pool_size: int = 500,
        renewed: int = 500,
        evidence: ReadsCurves | None = None,
        seconds: Callable[[Sequence[FrozenTrial], Sequence[Params], Array], Array | None] | None = None,
        earlier: Sequence[EarlierTrials] = (),
        consider_constraints: bool = True,
        seed: int | None = None,
    ) -> None:
        self._costs, self._references = costs, dict(references or {})
        self._space = None if search_space is None else dict(sorted(search_space.items()))
        self._startup, self._pool_size = n_startup_trials, pool_size
        self._evidence, self._seconds, self._constraints = evidence, seconds, consider_constraints
        self._rng = np.random.default_rng(seed)
        self._pool = CandidatePool(pool_size, renewed)
        self._cache = CostCache(costs) if costs is not None else None
        self._encoding: SpaceEncoding | None = None
        self._scale: tuple[Array, Array, Array] | None = None
        self._largest: Array | None = None
        self._surrogates: dict[str, _Fitted] = {}
        self._earlier_trials = tuple(earlier)
        self._earlier = EarlierSurrogates(self._earlier_trials)
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.RLock()

    def reseed_rng(self) -> None:
        self._rng = np.random.default_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        if self._space is not None:
            return dict(self._space)
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = study.get_trials(deepcopy=False, states=states)
        return union_space(item.distributions for item in trials)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        with self._lock:
            return draw(param_distribution, self._rng, 1)[0]

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        with self._lock:
            encoding = self._encoding_of(study, search_space)
            history = read_history(study, trial.number, encoding, self._evidence)
            return dict(self._propose(study, encoding, history))

    def _encoding_of(self, study: optuna.Study, space: Mapping[str, BaseDistribution]) -> SpaceEncoding:
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        rows = [item.params for item in study.get_trials(deepcopy=False, states=states)]
        conditions, optional = infer_conditions(space, rows), frozenset[str]()
        if self._space is None:
            optional = frozenset(name for name in space if name not in conditions and any(name not in r for r in rows))
        encoding = SpaceEncoding(dict(space), conditions, optional)
        if encoding != self._encoding:
            self._encoding, self._scale, self._largest = encoding, None, None
            self._surrogates, self._earlier = {}, EarlierSurrogates(self._earlier_trials)
            if self._costs is not None:
                self._cache = CostCache(self._costs)
        return encoding

    def _known(self, encoding: SpaceEncoding) -> CostCache | None:
        """The costs, unless params that they depend on are fixed by another sampler."""
        complete = self._space is None or set(self._space) <= set(encoding.distributions)
        return self._cache if complete else None

    # -- proposals

    def _propose(self, study: optuna.Study, encoding: SpaceEncoding, history: History) -> Params:
        sample = self._pool.sample(encoding, history.tried, self._rng)
        if history.finished < max(self._startup, 2):
            candidates = self._candidates(encoding, sample)
            if candidates is None:
                return encoding.random(self._rng, 1)[0]
            return candidates.rows[self._start(encoding, history, candidates)]
        front = _front_rows(history)
        near = self._pool.neighbours(encoding, front, history.tried, self._rng, self._pool_size)
        candidates = self._candidates(encoding, _alternating(near, sample))
        if candidates is None:
            return encoding.random(self._rng, 1)[0]
        gains = self._gains(study, encoding, history, candidates)
        best = int(gains.argmax())
        if not gains[best] > 0.0:
            best = int(self._rng.integers(len(gains)))
        return candidates.rows[best]

    def _candidates(self, encoding: SpaceEncoding, pool: Mapping[Key, Params]) -> _Candidates | None:
        """The candidates of a pool that keep the budgets of known costs; where none does, the one nearest to it."""
        rows = list(pool.values())
        if not rows:
            return None
        cache = self._known(encoding)
        if cache is None or self._costs is None:
            return _Candidates(rows, np.zeros((len(rows), 0)), self._inputs(encoding, rows, np.zeros((len(rows), 0))))
        rows = cache.within_limit(encoding, rows)
        costs = cache(encoding, rows)
        buildable = np.isfinite(costs).all(axis=1)
        excess = np.zeros(len(rows))
        for column, budget in self._costs.budgets.items():
            excess = np.maximum(excess, costs[:, column] / budget - 1.0)
        kept = np.flatnonzero(buildable & (excess <= 0.0))
        if not len(kept):
            if not buildable.any():
                return None
            kept = np.array([np.where(buildable, excess, np.inf).argmin()])
        rows, costs = [rows[index] for index in kept], costs[kept]
        if self._scale is None:
            self._scale = _scale_of(self._costs.informative(costs))
        largest = costs.max(axis=0)
        self._largest = largest if self._largest is None else np.maximum(self._largest, largest)
        return _Candidates(rows, costs, self._inputs(encoding, rows, costs))

    def _inputs(self, encoding: SpaceEncoding, rows: Sequence[Params], costs: Array) -> Inputs:
        if costs.shape[1] and self._scale is not None and self._costs is not None:
            shift, mean, deviation = self._scale
            costs = self._costs.informative(costs)
            costs = (np.log(np.maximum(costs, 0.0) + shift) - mean) / deviation
        return Inputs.of(encoding.encode(rows), encoding.categorical, costs)

    def _inputs_of_trials(self, encoding: SpaceEncoding, rows: Sequence[Params]) -> Inputs:
        cache = self._known(encoding)
        costs = np.zeros((len(rows), 0))
        if cache is not None and rows:
            costs = cache(encoding, rows)
            costs = np.where(np.isfinite(costs), costs, np.nanmedian(costs, axis=0))
        elif cache is not None and self._largest is not None:
            costs = np.zeros((0, len(self._largest)))
        return self._inputs(encoding, rows, costs)

    def _start(self, encoding: SpaceEncoding, history: History, candidates: _Candidates) -> int:
        """The candidate farthest from those tried, in the part of the range of the first known cost with the fewest of them."""
        tried = [*history.rows, *history.pending]
        inside = np.arange(len(candidates.rows))
        cache = self._known(encoding)
        if cache is not None and self._costs is not None:
            column = next(iter(self._costs.objectives.values()), 0)
            own = candidates.costs[:, column]
            edges = np.quantile(own, np.linspace(0.0, 1.0, self._startup + 1)[1:-1])
            part = np.searchsorted(edges, own)
            used = np.searchsorted(edges, cache(encoding, tried)[:, column]) if tried else np.zeros(0, dtype=np.intp)
            counts = np.bincount(used, minlength=self._startup)[: self._startup]
            inside = np.flatnonzero(part == min(set(part.tolist()), key=lambda item: (counts[item], item)))
        inside = self._rng.permutation(inside)[:_STARTS_COMPARED]
        if not tried:
            return int(inside[0])
        others = self._inputs_of_trials(encoding, tried)
        params = candidates.inputs.params[inside]
        apart = sum(
            distances(Inputs.of(params, encoding.categorical), Inputs.of(others.params, encoding.categorical)),
            np.zeros((len(params), len(tried))),
        )
        return int(inside[apart.min(axis=1).argmax()])

    def _gains(self, study: optuna.Study, encoding: SpaceEncoding, history: History, candidates: _Candidates) -> Array:
        """(n,): the expected gain of each candidate."""
        objectives = self._costs.objectives if self._costs is not None and self._known(encoding) else {}
        signs = np.array([-1.0 if item == StudyDirection.MAXIMIZE else 1.0 for item in study.directions])
        observed = self._inputs_of_trials(encoding, history.rows)
        pending = self._inputs_of_trials(encoding, history.pending)
        count, m = len(candidates.rows), len(signs)
        means, deviations = np.zeros((count, m)), np.zeros((count, m))
        waiting = np.zeros((len(history.pending), m))
        values = history.values.copy()
        for index in range(m):
            if index in objectives:
                column = objectives[index]
                means[:, index] = signs[index] * candidates.costs[:, column]
                if self._costs is not None and column in self._costs.deviations:
                    deviations[:, index] = candidates.costs[:, self._costs.deviations[column]]
                cache = self._known(encoding)
                assert cache is not None
                if history.pending:
                    waiting[:, index] = signs[index] * cache(encoding, history.pending)[:, column]
                if self._costs is not None and self._costs.restate and history.finished:
                    now = signs[index] * cache(encoding, history.rows[: history.finished])[:, column]
                    values[: history.finished, index] = np.where(
                        np.isfinite(now), now, values[: history.finished, index]
                    )
                continue
            told = np.flatnonzero(np.isfinite(values[:, index]))
            values[told, index] = _winsorised(values[told, index])
            sets = [observed[told], pending, candidates.inputs]
            if self._earlier_trials:
                columns = self._earlier.columns(index, encoding, partial(self._inputs_of_trials, encoding), sets)
                sets = [item.informed(column) for item, column in zip(sets, columns, strict=True)]
            found = self._predict(
                f"objective {index}",
                sets[0],
                values[told, index],
                history.noise[told, index],
                sets[1],
                sets[2],
            )
            means[:, index], deviations[:, index], waiting[:, index] = found
        finished = values[: history.finished]
        front = np.concatenate([finished[history.feasible] if self._constraints else finished, waiting])
        reference = self._reference(signs, objectives, finished)
        lows, highs = boxes(front, reference)
        gains = expected_hypervolume_improvement(lows, highs, means, deviations)
        if self._constraints:
            gains = gains * self._feasibility(history, observed, pending, candidates)
        if history.failed:
            gains = gains * self._success(encoding, history, observed, candidates)
        if self._seconds is not None:
            seconds = self._seconds(study.get_trials(deepcopy=False), candidates.rows, candidates.costs)
            gains = gains if seconds is None else gains / np.maximum(seconds, 1e-9)
        return gains

    def _reference(self, signs: Array, objectives: Mapping[int, int], finished: Array) -> Array:
        reference = np.empty(len(signs))
        for index, sign in enumerate(signs):
            worst, best = float(finished[:, index].max()), float(finished[:, index].min())
            if index in self._references:
                reference[index] = sign * self._references[index]
            elif index in objectives and self._costs is not None and sign > 0:
                column = objectives[index]
                assert self._largest is not None
                largest = max(float(self._largest[column]), worst)
                reference[index] = self._costs.budgets.get(column, largest * (1.0 + 1e-9))
            else:
                reference[index] = worst + max(_MARGIN * (worst - best), 1e-9 * abs(worst), 1e-12)
        return reference

    # -- surrogates

    def _predict(
        self, name: str, observed: Inputs, values: Array, noise: Array, pending: Inputs, candidates: Inputs
    ) -> tuple[Array, Array, Array]:
        """Means and deviations of the candidates, and means of the pending trials, in the unit of the values.

        Pending trials count as observed at their mean (kriging believer, Ginsbourger et al., 2010).
        """
        centre, scale = float(values.mean()), float(values.std())
        if not scale > 0.0:
            scale = max(abs(centre), 1.0) * 1e-3
        standard, variance = (values - centre) / scale, noise / scale**2
        kept = self._subset(standard, _CONDITIONED)
        observed, standard, variance = observed[kept], standard[kept], variance[kept]
        state = self._surrogates.setdefault(name, _Fitted(Surrogate()))
        state.refit(observed, standard, variance, self._subset(standard, _FITTED))
        waiting = np.zeros(0)
        posterior = state.surrogate.condition(observed, standard, noise=variance)
        if len(pending):
            waiting, _ = posterior.predict(pending)
            posterior = state.surrogate.condition(
                observed.joined(pending),
                np.concatenate([standard, waiting]),
                noise=np.concatenate([variance, np.zeros(len(waiting))]),
            )
        mean, deviation = posterior.predict(candidates)
        return centre + scale * mean, scale * deviation, centre + scale * waiting

    def _subset(self, standard: Array, most: int) -> Rows:
        """Rows of at most so many values: a third the best ones, a third the last ones, the rest evenly from all others."""
        count = len(standard)
        if count <= most:
            return np.arange(count)
        best = np.argsort(standard, kind="stable")[: most // 3]
        chosen = set(best.tolist()) | set(range(count - most // 3, count))
        others = [index for index in range(count) if index not in chosen]
        even = np.linspace(0, len(others) - 1, most - len(chosen)).round().astype(int)
        return np.array(sorted(chosen | {others[index] for index in even}), dtype=np.intp)

    def _feasibility(self, history: History, observed: Inputs, pending: Inputs, candidates: _Candidates) -> Array:
        """(n,): probability that no constraint is broken, each modelled by its violations."""
        result = np.ones(len(candidates.rows))
        rows = np.arange(history.finished)
        for column in range(history.violations.shape[1]):
            violations = history.violations[:, column]
            if (violations <= 0.0).all() and np.ptp(violations) == 0.0:
                continue
            zero = np.zeros(len(violations))
            mean, deviation, _ = self._predict(
                f"constraint {column}", observed[rows], violations, zero, pending, candidates.inputs
            )
            result *= ndtr(-mean / np.maximum(deviation, 1e-12))
        return result

    def _success(self, encoding: SpaceEncoding, history: History, observed: Inputs, candidates: _Candidates) -> Array:
        """(n,): share of the trials near a candidate that did not fail, with one success as prior."""
        failed = self._inputs_of_trials(encoding, history.failed)
        bad, good = (_closeness(candidates.inputs, item) for item in (failed, observed))
        return (1.0 + good) / (1.0 + good + bad)


class _Fitted:
    """A surrogate and when its hyperparameters were last fitted."""

    def __init__(self, surrogate: Surrogate) -> None:
        self.surrogate = surrogate
        self._at, self._restarted = 0, 0

    def refit(self, inputs: Inputs, values: Array, noise: Array, rows: Rows) -> None:
        count = len(values)
        if self._at and count > _REFIT_ALWAYS and abs(count - self._at) < _REFIT_EVERY:
            return
        restart = not self._restarted or abs(count - self._restarted) >= _RESTART_EVERY
        self.surrogate.fit(inputs[rows], values[rows], noise=noise[rows], restart=restart)
        self._at, self._restarted = count, count if restart else self._restarted


def _alternating(first: Mapping[Key, Params], second: Mapping[Key, Params]) -> dict[Key, Params]:
    """All candidates, of the two in turn: where costs of few new ones are predicted, those are of both."""
    pairs = itertools.zip_longest(first.items(), second.items())
    return dict(item for pair in pairs for item in pair if item is not None)


def _winsorised(values: Array) -> Array:
    """Values (n,), minimised, with outliers on the bad side set to the worst value that is none."""
    median = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - median)))
    return np.minimum(values, median + _OUTLIER * deviation) if deviation > 0.0 else values


def _front_rows(history: History) -> list[Params]:
    feasible = history.feasible if history.feasible.any() else np.ones(history.finished, dtype=np.bool_)
    rows = np.flatnonzero(feasible)
    ranks = non_dominated_rank(history.values[rows])
    return [history.rows[index] for index in rows[ranks == 0]]


def _scale_of(costs: Array) -> tuple[Array, Array, Array]:
    """Offsets of the costs, and mean and standard deviation of the logarithms after them, each ``(c,)``."""
    shift = np.maximum(_SMALL_COST * np.median(costs, axis=0), 1e-12)
    logarithms = np.log(np.maximum(costs, 0.0) + shift)
    deviation = logarithms.std(axis=0)
    return shift, logarithms.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0)


def _closeness(first: Inputs, second: Inputs) -> Array:
    """(n,): sum over the second of exp(-distance), the distance being the number of mismatches or its like."""
    total = np.zeros((len(first), len(second)))
    for apart in distances(first, second):
        total += apart
    return np.asarray(np.exp(-2.0 * total).sum(axis=1))
