"""A Gaussian process with a sum of kernels, for few measurements: marginal likelihood under a prior, robust to outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.optimize import minimize

from hw_latency_model.model.covariance import explained_variance, mean_squared_distances

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

BIAS_VAR = 1.0
_OUTLIER_Z2 = 25.0
"""Squared deviations beyond which a measurement is an outlier: five, as devices with two modes exceed fewer."""
_ROBUST_ROUNDS = 2
_BOUND = 14.0
_CHUNK = 512


@dataclass(frozen=True)
class Block:
    """One kernel over all networks of a pool.

    Attributes:
        name: key of the hyperparameters across devices.
        kind: ``linear`` or ``smooth`` (squared exponential); each divides by the number of columns.
        values: (n, d), centred and scaled.
    """

    name: str
    kind: str
    values: Array

    @property
    def parameters(self) -> int:
        """Log variance, and log length where smooth."""
        return 2 if self.kind == "smooth" else 1

    def gram(self, left: Rows, right: Rows) -> Array:
        """(l, r) inner products, or squared distances where smooth."""
        a, b = self.values[left], self.values[right]
        if self.kind == "smooth":
            return mean_squared_distances(a, b)
        return np.asarray(a @ b.T / self.values.shape[1], dtype=np.float64)

    def diagonal(self, rows: Rows) -> Array:
        """Gram value of each row with itself."""
        if self.kind == "smooth":
            return np.zeros(len(rows))
        return np.asarray((self.values[rows] ** 2).mean(axis=1), dtype=np.float64)


def covariance(blocks: Sequence[Block], grams: Sequence[Array], theta: Array) -> tuple[Array, list[Array]]:
    """Compute the sum of the kernels and its derivative by each parameter except the noise."""
    derivatives: list[Array] = []
    total = np.zeros_like(grams[0])
    at = 0
    for block, gram in zip(blocks, grams, strict=True):
        if block.kind == "smooth":
            scaled = gram * np.exp(-2.0 * theta[at + 1])
            part = np.exp(theta[at] - 0.5 * scaled)
            derivatives += [part, part * scaled]
        else:
            part = np.exp(theta[at]) * gram
            derivatives.append(part)
        total += part
        at += block.parameters
    return total, derivatives


@dataclass(frozen=True)
class Hyperprior:
    """Independent normal distributions of the log parameters: mean and standard deviation, both (p,); noise is last."""

    mean: Array
    std: Array


def fit_theta(blocks: Sequence[Block], rows: Rows, targets: Array, prior: Hyperprior, *, iterations: int = 40) -> Array:
    """Maximise marginal likelihood times prior over the log parameters (p,), for centred targets (n,) at these rows."""
    grams = [block.gram(rows, rows) for block in blocks]
    identity = np.eye(len(rows))

    def loss(theta: Array) -> tuple[float, Array]:
        total, derivatives = covariance(blocks, grams, theta)
        noise = np.exp(theta[-1])
        try:
            factor = np.linalg.cholesky(total + BIAS_VAR + noise * identity)
        except np.linalg.LinAlgError:
            return 1e12, np.zeros_like(theta)
        inverse = cho_solve((factor, True), identity)
        weights = inverse @ targets
        outer = inverse - np.outer(weights, weights)
        pull = (theta - prior.mean) / prior.std
        value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum() + 0.5 * pull @ pull
        slope = [0.5 * np.vdot(outer, part) for part in derivatives] + [0.5 * noise * np.trace(outer)]
        return float(value), np.array(slope) + pull / prior.std

    bounds = [(-_BOUND, _BOUND / 2)] * len(prior.mean)
    found = minimize(loss, prior.mean, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations})
    return np.asarray(found.x, dtype=np.float64)


@dataclass(frozen=True)
class Conditioned:
    """Process conditioned on data.

    Attributes:
        rows: (n,) networks measured; theta: (p,) parameters.
        factor: (n, n) Cholesky factor of the covariance; weights: (n,) its inverse times the centred targets.
        centre: mean subtracted from the targets.
    """

    blocks: tuple[Block, ...]
    theta: Array
    rows: Rows
    factor: Array
    weights: Array
    centre: float

    @classmethod
    def on(cls, blocks: Sequence[Block], theta: Array, rows: Rows, targets: Array, centre: float) -> Conditioned:
        """Condition on targets (n,); the noise of an outlier is raised to its error."""
        base = covariance(blocks, [block.gram(rows, rows) for block in blocks], theta)[0] + BIAS_VAR
        noise = np.full(len(rows), np.exp(theta[-1]))
        centred = targets - centre
        raised = np.zeros(len(rows))
        for last in (*(False,) * _ROBUST_ROUNDS, True):
            factor: Array = np.asarray(np.linalg.cholesky(base + np.diag(noise + raised)))
            inverse = cho_solve((factor, True), np.eye(len(rows)))
            weights = inverse @ centred
            if last:
                break
            left_out_var = 1.0 / np.diag(inverse)
            square = (weights * left_out_var) ** 2
            raised = np.where(square > _OUTLIER_Z2 * (left_out_var - raised), square, 0.0)
        return cls(tuple(blocks), theta, rows, factor, weights, centre)

    def predict(self, rows: Rows) -> tuple[Array, Array]:
        """Predict mean and standard deviation of a new observation, both (m,)."""
        means, stds = np.zeros(len(rows)), np.zeros(len(rows))
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            means[part], stds[part] = self._predict_chunk(rows[part])
        return means, stds

    def _predict_chunk(self, rows: Rows) -> tuple[Array, Array]:
        total = covariance(self.blocks, [block.gram(rows, self.rows) for block in self.blocks], self.theta)[0]
        cross = total + BIAS_VAR
        spread = prior_variance(self.blocks, self.theta, rows) - explained_variance(self.factor, cross.T)
        return cross @ self.weights + self.centre, np.sqrt(np.maximum(spread, 0.0) + np.exp(self.theta[-1]))


def prior_variance(blocks: Sequence[Block], theta: Array, rows: Rows) -> Array:
    """Prior variance without noise, (m,)."""
    variance = np.full(len(rows), BIAS_VAR)
    at = 0
    for block in blocks:
        smooth = block.kind == "smooth"
        variance += np.exp(theta[at]) * (1.0 if smooth else block.diagonal(rows))
        at += block.parameters
    return variance
