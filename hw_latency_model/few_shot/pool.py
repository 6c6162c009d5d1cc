"""The networks among which a few are measured: what is known of them before, and what other devices took for them."""

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
    """All networks that may be measured or predicted, one row each.

    Attributes:
        views: arrays (n, d_i) of features, each a description of the networks in its own right.
        prior_terms: (n, k), ≥ 0: what time adds up from: counts, bytes, MACs, kernel prior times in ms...
        sources_ms: (n, m) latencies on other devices in ms, NaN where unknown.
        groups: (n,) 0 for ordinary networks; other numbers for networks that a device may treat altogether differently,
            e.g. because nothing of the input reaches the output.
    """

    views: tuple[Array, ...]
    prior_terms: Array
    sources_ms: Array
    groups: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        features: Array | Sequence[Array],
        prior_terms: Array,
        sources_ms: Array | None = None,
        groups: NDArray[np.intp] | None = None,
    ) -> NetworkPool:
        """Check shapes and values.

        Raises:
            UserError: the arrays differ in length, are empty, or hold numbers that they must not.
        """
        views = (features,) if isinstance(features, np.ndarray) else tuple(features)
        count = len(prior_terms)
        sources = np.full((count, 0), np.nan) if sources_ms is None else np.asarray(sources_ms, dtype=np.float64)
        labels = np.zeros(count, dtype=np.intp) if groups is None else np.asarray(groups, dtype=np.intp)
        lengths = {len(array) for array in (*views, sources, labels, prior_terms)}
        if lengths != {count} or not count:
            raise UserError(
                f"features, prior terms, sources and groups need one row per network; found {sorted(lengths)} rows."
            )
        if not np.isfinite(prior_terms).all() or prior_terms.min() < 0.0:
            raise UserError("prior terms must be finite and ≥ 0, because costs add up; leave out or shift the others.")
        if not all(np.isfinite(view).all() for view in views):
            raise UserError("features must be finite; replace missing ones by a value and a feature that says so.")
        return cls(tuple(np.asarray(view, dtype=np.float64) for view in views), prior_terms, sources, labels)

    def __len__(self) -> int:
        return len(self.prior_terms)


@dataclass(frozen=True)
class PreparedPool:
    """A pool with its features scaled, its sources completed and explained as far as their own look-up goes.

    Attributes:
        views: features, each column at mean 0 and deviation 1 among ordinary networks.
        terms: (n, k) prior terms, each over its mean.
        logs: (n, m) log latencies of usable sources, completed by ridge regression where unknown.
        known: (n, m) whether measured.
        source_terms: (n, m) latencies of the sources, each over its mean.
        source_logs: (n, m) the logs, scaled as the views are.
        rest: (n, m) what the source's own look-up leaves of the logs.
        source_rest: (n, m) the same, scaled likewise.
        groups: as in the pool.
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
        )

    @property
    def sources(self) -> int:
        return int(self.logs.shape[1])

    @property
    def ordinary(self) -> NDArray[np.bool_]:
        return np.asarray(self.groups == 0)

    def without_source(self, column: int) -> PreparedPool:
        """The same as if that source had never been."""
        keep = np.arange(self.sources) != column
        names = ("logs", "known", "source_terms", "source_logs", "rest", "source_rest")
        return replace(self, **{name: getattr(self, name)[:, keep] for name in names})

    def take(self, rows: Rows) -> PreparedPool:
        """Only these networks, scaled as among all."""
        names = ("terms", "logs", "known", "source_terms", "source_logs", "rest", "source_rest", "groups")
        part = {name: getattr(self, name)[rows] for name in names}
        return replace(self, views=tuple(view[rows] for view in self.views), **part)

    @property
    def lookup_terms(self) -> Array:
        """(n, k + m): prior terms, then the sources' latencies over their mean."""
        return np.hstack([self.terms, self.source_terms])

    def expected_log(self) -> Array:
        """(n,) log of how the networks' times relate when nothing is measured: the sources' mean, else the terms'."""
        if self.sources:
            return np.asarray((self.logs - self.logs[self.ordinary].mean(axis=0)).mean(axis=1), dtype=np.float64)
        return np.asarray(np.log(np.maximum(self.terms.mean(axis=1), 0.1)), dtype=np.float64)

    def blocks(self, log_scale: Array) -> tuple[Block, ...]:
        """The kernels of a process over log latency, ``log_scale`` (n,) being about that latency."""
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
        """A kernel that tells the groups apart; none where all networks are ordinary."""
        if self.ordinary.all():
            return ()
        special = np.unique(self.groups[~self.ordinary])
        member = (self.groups[:, None] == special[None, :]).astype(np.float64)
        return (Block("groups", "linear", member * np.sqrt(len(special))),)


def scaled(values: Array, ordinary: NDArray[np.bool_]) -> Array:
    """Columns that vary among ordinary networks, at mean 0 and deviation 1 there, clipped at four deviations."""
    mean, std = values[ordinary].mean(axis=0), values[ordinary].std(axis=0)
    varies = std > 1e-9
    return np.asarray(np.clip((values[:, varies] - mean[varies]) / std[varies], -_CLIP, _CLIP), dtype=np.float64)


def centred(values: Array, ordinary: NDArray[np.bool_]) -> Array:
    """Columns less their mean among ordinary networks, over one common scale that makes the mean square 1."""
    moved = values - values[ordinary].mean(axis=0)
    return np.asarray(moved / max(float(np.sqrt((moved[ordinary] ** 2).mean())), 1e-9), dtype=np.float64)


def _complete(logs: Array, known: NDArray[np.bool_], features: Array) -> Array:
    """Unknown entries (n, m) from a ridge regression of the known ones on features (n, d)."""
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
