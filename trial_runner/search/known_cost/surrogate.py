"""Gaussian process of one objective over mixed parameters and known costs, with a linear trend in the costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

_BOUND_LOW, _BOUND_HIGH = -9.0, 5.0
_JITTER = 1e-6
_ITERATIONS = 20


@dataclass(frozen=True)
class Inputs:
    """Candidates as the surrogate sees them.

    Attributes:
        params: (n, d); choices by index, numbers by position from 0 to 1, NaN where inactive.
        categorical: (d,); True for params that are compared by equality.
        costs: (n, c); standardised logarithms of known costs.
        earlier: (n, p); standardised values that surrogates of earlier studies predict; p = 0 without such studies.
    """

    params: Array
    categorical: NDArray[np.bool_]
    costs: Array
    earlier: Array

    def __len__(self) -> int:
        return len(self.params)

    def __getitem__(self, rows: NDArray[np.intp]) -> Inputs:
        return Inputs(self.params[rows], self.categorical, self.costs[rows], self.earlier[rows])

    @classmethod
    def of(cls, params: Array, categorical: NDArray[np.bool_], costs: Array | None = None) -> Inputs:
        """Return candidates of a study without earlier ones, by default without known costs."""
        none = np.zeros((len(params), 0))
        return cls(params, categorical, none if costs is None else costs, none)

    def informed(self, earlier: Array) -> Inputs:
        """Return these candidates with what earlier studies predict of them, (n, p)."""
        return replace(self, earlier=earlier)

    def joined(self, other: Inputs) -> Inputs:
        """Return these candidates followed by others of the same space."""
        return Inputs(
            np.concatenate([self.params, other.params]),
            self.categorical,
            np.concatenate([self.costs, other.costs]),
            np.concatenate([self.earlier, other.earlier]),
        )

    @property
    def linear(self) -> tuple[Array, ...]:
        """Columns of each linear trend: costs, then earlier studies; only those that there are."""
        return tuple(item for item in (self.costs, self.earlier) if item.shape[1])


def distances(first: Inputs, second: Inputs) -> Iterator[Array]:
    """Yield each dimension's distance (n, m), params first.

    1 for different choices, else 0; 12 (x - x')² for numbers in [0, 1], so that a uniform one has unit variance; 1 where a param
    is active in one of the two only; (z - z')² for costs.
    """
    for index, categorical in enumerate(first.categorical):
        mine, other = first.params[:, index], second.params[:, index]
        if categorical:
            apart = np.nan_to_num(mine, nan=-1.0)[:, None] != np.nan_to_num(other, nan=-1.0)[None, :]
            yield apart.astype(np.float64)
            continue
        here, there = np.isnan(mine), np.isnan(other)
        gap = np.subtract.outer(np.where(here, 0.0, mine), np.where(there, 0.0, other))
        squared = 12.0 * gap * gap
        if here.any() or there.any():
            squared[here[:, None] | there[None, :]] = 0.0
            squared[here[:, None] != there[None, :]] = 1.0
        yield squared
    for index in range(first.costs.shape[1]):
        gap = np.subtract.outer(first.costs[:, index], second.costs[:, index])
        yield gap * gap


@dataclass(frozen=True)
class Priors:
    """Normal priors of the logarithms of a kernel's parameters, as (mean, standard deviation)."""

    params: tuple[float, float] = (0.5, 1.0)
    costs: tuple[float, float] = (0.3, 1.3)
    signal: tuple[float, float] = (1.0, 1.0)
    noise: tuple[float, float] = (float(np.exp(-4.0)), 1.5)
    trend: tuple[float, float] = (0.5, 1.0)

    def stacked(self, params: int, costs: int, trends: int) -> tuple[Array, Array]:
        """Means and standard deviations of (w_1..w_d, v_1..v_c, s, e, b_1..b_t); weights of params shrink in spaces of more than six."""
        scale = min(1.0, 6.0 / max(params, 1))
        groups = [(self.params[0] * scale, self.params[1])] * params + [self.costs] * costs + [self.signal, self.noise]
        groups += [self.trend] * trends
        return np.log([group[0] for group in groups]), np.array([group[1] for group in groups])


class Surrogate:
    """Gaussian process with a Matérn 5/2 kernel and linear trends in the costs and in what earlier studies predict.

    r² = Σ w_d dist_d + Σ v_j (z_j - z'_j)²; q = √(5 r²); k = s (1 + q + q²/3) e^-q + b_1 Σ z_j z'_j + b_2 Σ p_j p'_j + e δ.
    The hyperparameters maximise the posterior under `Priors`.
    """

    def __init__(self, priors: Priors | None = None) -> None:
        self._priors = priors or Priors()
        self._theta: Array | None = None

    def fit(self, inputs: Inputs, values: Array, *, noise: Array | None = None, restart: bool = False) -> None:
        """Find the hyperparameters for standardised values (n,), from the last ones; with ``restart`` from the priors' means too.

        ``noise`` (n,) is variance known of each value, on top of the fitted one.
        """
        trends = [columns @ columns.T for columns in inputs.linear]
        means, deviations = self._priors.stacked(inputs.params.shape[1], inputs.costs.shape[1], len(trends))
        table = np.stack([item.ravel() for item in distances(inputs, inputs)])
        extra = np.zeros(len(values)) if noise is None else noise
        starts = [self._theta] if self._theta is not None and len(self._theta) == len(means) else []
        starts += [means] if restart or not starts else []
        found = [
            minimize(
                _loss,
                start,
                args=(table, trends, values, extra, means, deviations),
                jac=True,
                method="L-BFGS-B",
                bounds=[(_BOUND_LOW, _BOUND_HIGH)] * len(means),
                options={"maxiter": _ITERATIONS},
            )
            for start in starts
        ]
        best = min(found, key=lambda item: float(item.fun))
        self._theta = np.asarray(best.x, dtype=np.float64)

    def condition(self, inputs: Inputs, values: Array, *, noise: Array | None = None) -> Posterior:
        """Return the posterior given standardised values (n,) under the hyperparameters found by ``fit``."""
        assert self._theta is not None, "fit first"
        dims, costs = inputs.params.shape[1], inputs.costs.shape[1]
        weights = np.exp(self._theta)
        weight, signal, own = weights[: dims + costs], weights[dims + costs], weights[dims + costs + 1]
        kernel = _Kernel(weight, float(signal), tuple(weights[dims + costs + 2 :].tolist()))
        extra = np.zeros(len(values)) if noise is None else noise
        covariance = kernel(inputs, inputs)
        covariance[np.diag_indices_from(covariance)] += own + _JITTER + extra
        factor = np.linalg.cholesky(covariance)
        solved = np.asarray(cho_solve((factor, True), values), dtype=np.float64)
        return Posterior(kernel, inputs, np.asarray(factor, dtype=np.float64), solved, float(own))


@dataclass(frozen=True)
class _Kernel:
    weights: Array
    signal: float
    trends: tuple[float, ...]

    def __call__(self, first: Inputs, second: Inputs) -> Array:
        squared = np.zeros((len(first), len(second)))
        for weight, apart in zip(self.weights, distances(first, second), strict=True):
            apart *= weight
            squared += apart
        total = _matern(np.sqrt(5.0 * squared), self.signal)
        for trend, mine, other in zip(self.trends, first.linear, second.linear, strict=True):
            total += trend * (mine @ other.T)
        return total

    def diagonal(self, inputs: Inputs) -> Array:
        linear = zip(self.trends, inputs.linear, strict=True)
        return sum((trend * (item**2).sum(axis=1) for trend, item in linear), np.full(len(inputs), self.signal))


@dataclass(frozen=True)
class Posterior:
    """Normal posterior of standardised values.

    Attributes:
        noise: variance between a value and the smooth function.
    """

    kernel: _Kernel
    inputs: Inputs
    factor: Array
    weights: Array
    noise: float

    def mean(self, inputs: Inputs) -> Array:
        """Means (m,) of the smooth function."""
        return np.asarray(self.weights @ self.kernel(self.inputs, inputs))

    def predict(self, inputs: Inputs) -> tuple[Array, Array]:
        """Means and standard deviations (m,) of the smooth function."""
        cross = self.kernel(self.inputs, inputs)
        solved = solve_triangular(self.factor, cross, lower=True, check_finite=False)
        variance = self.kernel.diagonal(inputs) - np.einsum("ij,ij->j", solved, solved)
        return self.weights @ cross, np.sqrt(np.maximum(variance, 1e-12))


def _matern(q: Array, signal: float) -> Array:
    return np.asarray(signal * (1.0 + q + q * q / 3.0) * np.exp(-q))


def _loss(
    theta: Array, table: Array, trends: Sequence[Array], values: Array, extra: Array, means: Array, deviations: Array
) -> tuple[float, Array]:
    """Negative log posterior of the log hyperparameters and its gradient."""
    count, dims = len(values), len(table)
    parts = np.exp(theta)
    signal, own = parts[dims], parts[dims + 1]
    q = np.sqrt(5.0 * (parts[:dims] @ table)).reshape(count, count)
    decay = np.exp(-q)
    smooth = signal * (1.0 + q + q * q / 3.0) * decay
    covariance = smooth.copy()
    for weight, linear in zip(parts[dims + 2 :], trends, strict=True):
        covariance += weight * linear
    covariance[np.diag_indices(count)] += own + _JITTER + extra
    prior = (theta - means) / deviations
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return 1e10, np.asarray(prior / deviations)
    inverse = cho_solve((factor, True), np.eye(count), check_finite=False)
    weights = inverse @ values
    loss = 0.5 * float(values @ weights) + float(np.log(np.diag(factor)).sum()) + 0.5 * float(prior @ prior)
    slope = 0.5 * (inverse - np.outer(weights, weights))
    gradient = np.empty_like(theta)
    gradient[:dims] = parts[:dims] * (table @ (slope * (-5.0 / 6.0 * signal) * (1.0 + q) * decay).ravel())
    gradient[dims] = (slope * smooth).sum()
    gradient[dims + 1] = own * np.trace(slope)
    for at, linear in enumerate(trends, dims + 2):
        gradient[at] = parts[at] * (slope * linear).sum()
    return loss, gradient + prior / deviations
