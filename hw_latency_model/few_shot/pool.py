"""Pool of networks to measure or predict: features, and latencies on other devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.kernels import Block, Rows
from hw_latency_model.few_shot.lookup import fit_terms, log_lookup
from search_spaces._common.errors import UserError

Array = NDArray[np.float64]

MIN_SOURCE_NETWORKS = 20
_LOOKUP_ROWS = 1500
_SOURCE_STRENGTH = 0.003
_IMPUTE_RIDGE = 0.01
_CLIP = 4.0


@dataclass(frozen=True)
class NetworkPool:
    """Networks that may be measured or predicted, one row each.

    Attributes:
        views: arrays (n, d_i) of features, each a complete description of the networks.
        prior_terms: (n, k), ≥ 0: additive terms of the time: counts, bytes, MACs, kernel prior times in ms...
        sources_ms: (n, m) latencies on other devices in ms, NaN where unknown.
        groups: (n,) 0 for ordinary networks; other numbers for networks that a device may treat differently, e.g. because
            the output does not depend on the input.
        work: (n,) multiply-accumulates or what grows with them, the simplest predictor; None where it is not known.
    """

    views: tuple[Array, ...]
    prior_terms: Array
    sources_ms: Array
    groups: NDArray[np.intp]
    work: Array | None = None

    @classmethod
    def of(
        cls,
        features: Array | Sequence[Array],
        prior_terms: Array,
        sources_ms: Array | None = None,
        groups: NDArray[np.intp] | None = None,
        work: Array | None = None,
    ) -> NetworkPool:
        """Check shapes and values.

        Raises:
            UserError: the arrays differ in length, are empty, or have invalid values.
        """
        views = (features,) if isinstance(features, np.ndarray) else tuple(features)
        count = len(prior_terms)
        sources = np.full((count, 0), np.nan) if sources_ms is None else np.asarray(sources_ms, dtype=np.float64)
        labels = np.zeros(count, dtype=np.intp) if groups is None else np.asarray(groups, dtype=np.intp)
        lengths = {len(array) for array in (*views, sources, labels, prior_terms, *(() if work is None else (work,)))}
        if lengths != {count} or not count:
            raise UserError(
                f"features, prior terms, sources and groups need one row per network; found {sorted(lengths)} rows."
            )
        if not np.isfinite(prior_terms).all() or prior_terms.min() < 0.0:
            raise UserError("prior terms must be finite and ≥ 0, because costs add up; leave out or shift the others.")
        if not all(np.isfinite(view).all() for view in views):
            raise UserError("features must be finite; replace missing ones by a value and a feature that says so.")
        return cls(tuple(np.asarray(view, dtype=np.float64) for view in views), prior_terms, sources, labels, work)

    def __len__(self) -> int:
        return len(self.prior_terms)


@dataclass(frozen=True)
class PreparedPool:
    """Pool with scaled features, imputed sources, and the residuals of the sources' own look-ups.

    Attributes:
        views: features, each column with mean 0 and standard deviation 1 in group 0.
        terms: (n, k) prior terms, each divided by its mean.
        logs: (n, m) log latencies of usable sources; unknown ones imputed by ridge regression.
        known: (n, m) mask of measured entries.
        source_terms: (n, m) latencies of the sources, each divided by its mean.
        source_logs: (n, m) logs, scaled like the views.
        rest: (n, m) residuals of the logs after the source's own look-up.
        source_rest: (n, m) residuals, scaled like the views.
        groups: as in the pool.
        work: as in the pool, divided by its mean; None where it is not known or does not vary.
    """

    views: tuple[Array, ...]
    terms: Array
    logs: Array
    known: NDArray[np.bool_]
    source_terms: Array
    source_logs: Array
    rest: Array
    source_rest: Array
    groups: NDArray[np.intp]
    work: Array | None = None

    @classmethod
    def of(cls, pool: NetworkPool) -> PreparedPool:
        ordinary = pool.groups == 0
        if not ordinary.any():
            raise UserError("no network belongs to group 0, the ordinary ones; number the groups anew.")
        views = tuple(view for view in (scaled(view, ordinary) for view in pool.views) if view.shape[1])
        means = pool.prior_terms[ordinary].mean(axis=0)
        terms = pool.prior_terms[:, means > 0.0] / means[means > 0.0]
        with np.errstate(invalid="ignore"):
            known = np.isfinite(pool.sources_ms) & (pool.sources_ms > 0.0)
        usable = (known & ordinary[:, None]).sum(axis=0) >= min(MIN_SOURCE_NETWORKS, len(pool))
        known = known[:, usable]
        raw = np.log(np.where(known, pool.sources_ms[:, usable], 1.0))
        logs = _complete(raw, known, np.hstack([*views, scaled(np.log1p(terms), ordinary)]))
        varies = logs[ordinary].std(axis=0) > 1e-6
        logs, known = logs[:, varies], known[:, varies]
        rest = np.stack([_unexplained(terms, column, ordinary) for column in logs.T], axis=1) if logs.size else logs
        latencies = np.exp(logs)
        return cls(
            views,
            terms,
            logs,
            known,
            latencies / latencies[ordinary].mean(axis=0),
            scaled(logs, ordinary),
            rest,
            scaled(rest + 1e-6 * logs, ordinary),
            pool.groups,
            None if pool.work is None or np.ptp(pool.work) == 0.0 else pool.work / pool.work.mean(),
        )

    @property
    def sources(self) -> int:
        return int(self.logs.shape[1])

    @property
    def ordinary(self) -> NDArray[np.bool_]:
        return np.asarray(self.groups == 0)

    def without_source(self, column: int) -> PreparedPool:
        """Copy without that source."""
        return self._with_sources(np.arange(self.sources) != column)

    def without_sources(self) -> PreparedPool:
        """Copy without any source."""
        return self._with_sources(np.zeros(self.sources, dtype=np.bool_))

    def _with_sources(self, keep: NDArray[np.bool_]) -> PreparedPool:
        names = ("logs", "known", "source_terms", "source_logs", "rest", "source_rest")
        return replace(self, **{name: getattr(self, name)[:, keep] for name in names})

    def take(self, rows: Rows) -> PreparedPool:
        """Subset of the networks, with the scaling of the whole pool."""
        names = ("terms", "logs", "known", "source_terms", "source_logs", "rest", "source_rest", "groups")
        part = {name: getattr(self, name)[rows] for name in names}
        work = None if self.work is None else self.work[rows]
        return replace(self, views=tuple(view[rows] for view in self.views), work=work, **part)

    @property
    def lookup_terms(self) -> Array:
        """Terms of the look-up, (n, k + m): prior terms, then the sources' latencies over their mean."""
        return np.hstack([self.terms, self.source_terms])

    def expected_log(self) -> Array:
        """Expected log of the networks' relative times before any measurement, (n,): mean of the sources, otherwise of the terms."""
        if self.sources:
            return np.asarray((self.logs - self.logs[self.ordinary].mean(axis=0)).mean(axis=1), dtype=np.float64)
        return np.asarray(np.log(np.maximum(self.terms.mean(axis=1), 0.1)), dtype=np.float64)

    def blocks(self, log_scale: Array) -> tuple[Block, ...]:
        """Build the kernels of a process over log latency; ``log_scale`` (n,) approximates it."""
        ordinary = self.ordinary
        result = []
        for index, view in enumerate(self.views):
            result += [Block(f"view {index}", "linear", view), Block(f"view {index}", "smooth", view)]
        relative = np.exp(np.clip(log_scale[ordinary].mean() - log_scale, -2.0, 2.0))[:, None]
        result.append(Block("terms", "linear", centred(self.terms * relative, ordinary)))
        if self.sources:
            result += [Block("rest", "linear", self.source_rest), Block("rest", "smooth", self.source_rest)]
            result.append(Block("sources", "linear", self.source_logs))
        return tuple(result)

    def group_blocks(self) -> tuple[Block, ...]:
        """Build a kernel that separates the groups; none if all networks are in group 0."""
        if self.ordinary.all():
            return ()
        special = np.unique(self.groups[~self.ordinary])
        member = (self.groups[:, None] == special[None, :]).astype(np.float64)
        return (Block("groups", "linear", member * np.sqrt(len(special))),)


def scaled(values: Array, ordinary: NDArray[np.bool_]) -> Array:
    """Standardise the columns that vary within group 0, clipped at four standard deviations."""
    mean, std = values[ordinary].mean(axis=0), values[ordinary].std(axis=0)
    varies = std > 1e-9
    return np.asarray(np.clip((values[:, varies] - mean[varies]) / std[varies], -_CLIP, _CLIP), dtype=np.float64)


def centred(values: Array, ordinary: NDArray[np.bool_]) -> Array:
    """Centre the columns on group 0 and divide them by one common scale with mean square 1."""
    moved = values - values[ordinary].mean(axis=0)
    return np.asarray(moved / max(float(np.sqrt((moved[ordinary] ** 2).mean())), 1e-9), dtype=np.float64)


def _complete(logs: Array, known: NDArray[np.bool_], features: Array) -> Array:
    """Impute unknown entries (n, m) by ridge regression of the known ones on features (n, d)."""
    result = logs.copy()
    design = np.hstack([features, np.ones((len(features), 1))])
    for column in range(logs.shape[1]):
        have = known[:, column]
        if have.all() or not have.any():
            continue
        part, centre = design[have], logs[have, column].mean()
        pull = _IMPUTE_RIDGE * have.sum() * np.eye(design.shape[1])
        weights = np.linalg.solve(part.T @ part + pull, part.T @ (logs[have, column] - centre))
        low, high = logs[have, column].min(), logs[have, column].max()
        result[~have, column] = np.clip(design[~have] @ weights + centre, low, high)
    return result


def _unexplained(terms: Array, logs: Array, ordinary: NDArray[np.bool_]) -> Array:
    rows: Rows = np.flatnonzero(ordinary)
    rows = np.random.default_rng(0).permutation(rows)[:_LOOKUP_ROWS]
    latency_ms = np.exp(logs)
    costs = fit_terms(terms[rows], latency_ms[rows], np.full(terms.shape[1], _SOURCE_STRENGTH))
    return np.asarray(logs - log_lookup(terms, costs, float(latency_ms[ordinary].min())), dtype=np.float64)
