"""Gaussian process for the residual of the physical prior as a smooth function of network features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.model.covariance import log_likelihood, mean_squared_distances

Array = NDArray[np.float64]

_LENGTHS = (0.5, 1.0, 2.0, 4.0)
_SIGNALS = (0.01, 0.25, 0.5, 1.0)
_NOISES = (0.05, 0.15, 0.4, 1.0)
_RAISES = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
_CLEARLY = 2.0
"""Log-likelihood gain required to change hyperparameters that were chosen on more data."""


@dataclass(frozen=True)
class GaussianProcess:
    """Gaussian process with zero mean, isotropic squared-exponential kernel over standardised features, and noise per point.

    Attributes:
        mean, scale: (d,) standardisation of the features.
        points: (n, d) standardised training features.
        weights: (n,) K⁻¹ y.
        inverse: (n, n) K⁻¹.
        length: length scale, in standard deviations per √d features.
        signal_var, noise_var: variance of the function and of a typical observation.
    """

    mean: Array
    scale: Array
    points: Array
    weights: Array
    inverse: Array
    length: float
    signal_var: float
    noise_var: float

    @classmethod
    def fit(cls, features: Array, targets: Array, noise_factor: Array) -> GaussianProcess:
        """Choose length, signal and noise by marginal likelihood on a grid, then condition on the data.

        Args:
            features: (n, d).
            targets: (n,).
            noise_factor: (n,) variance of each observation relative to a typical one.
        """
        mean, spread = features.mean(axis=0), features.std(axis=0)
        scale: Array = np.where(spread > 1e-9, spread, 1.0)
        points = (features - mean) / scale
        variance = max(float(np.mean(targets**2)), 1e-6)
        distances = mean_squared_distances(points, points)
        best: tuple[float, float, float, float] | None = None
        for length in _LENGTHS:
            base = np.exp(-0.5 * distances / length**2)
            for signal in _SIGNALS:
                for noise in _NOISES:
                    covariance = variance * (signal * base + np.diag(noise * noise_factor))
                    likelihood = log_likelihood(covariance, targets)
                    if best is None or likelihood > best[0]:
                        best = (likelihood, length, signal * variance, noise * variance)
        assert best is not None
        _, length, signal_var, noise_var = best
        covariance = signal_var * np.exp(-0.5 * distances / length**2) + np.diag(noise_var * noise_factor)
        inverse: Array = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
        return cls(mean, scale, points, inverse @ targets, inverse, length, signal_var, noise_var)

    @classmethod
    def none(cls, features: int, std: float) -> GaussianProcess:
        """Create an unconditioned process: mean 0 and this standard deviation everywhere."""
        empty = np.zeros((0, features))
        nothing = np.zeros(0)
        return cls(np.zeros(features), np.ones(features), empty, nothing, np.zeros((0, 0)), 1.0, 0.0, std**2)

    def given(self, features: Array, targets: Array, noise_factor: Array) -> GaussianProcess:
        """Condition on this data only, with the same hyperparameters and standardisation."""
        points = (features - self.mean) / self.scale
        covariance = self._covariance(points, points) + np.diag(self.noise_var * noise_factor)
        inverse: Array = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
        return replace(self, points=points, weights=inverse @ targets, inverse=inverse)

    def extended(self, features: Array, targets: Array, noise_factor: Array) -> GaussianProcess:
        """Condition on further observations, with the same result as conditioning on all at once.

        If they deviate more than the signal variance suggests, it is increased by likelihood.
        """
        points = np.vstack([self.points, (features - self.mean) / self.scale])
        known = np.linalg.inv(self.inverse) if len(self.points) else np.zeros((0, 0))
        noise = np.concatenate([np.diag(known) - self.signal_var, self.noise_var * noise_factor])
        everything = np.concatenate([known @ self.weights, targets])
        distances = mean_squared_distances(points, points)

        def covariance(length: float, signal: float) -> Array:
            return np.asarray(signal * np.exp(-0.5 * distances / length**2) + np.diag(noise), dtype=np.float64)

        kept = (self.length, self.signal_var)
        best = log_likelihood(covariance(*kept), everything) + _CLEARLY
        for choice in product(_LENGTHS, [max(self.signal_var, 1e-6) * factor for factor in _RAISES]):
            likelihood = log_likelihood(covariance(*choice), everything)
            if likelihood > best:
                best, kept = likelihood, choice
        inverse: Array = np.asarray(np.linalg.inv(covariance(*kept)), dtype=np.float64)
        return replace(
            self, points=points, weights=inverse @ everything, inverse=inverse, length=kept[0], signal_var=kept[1]
        )

    def predict(self, features: Array) -> tuple[Array, Array, Array]:
        """Predict mean and standard deviation of a typical observation, and the distance to the nearest known one in standard
        deviations per feature (0 without data), all (m,), for features (m, d)."""
        distances = mean_squared_distances((features - self.mean) / self.scale, self.points, self._squares)
        nearest = np.sqrt(distances.min(axis=1)) if len(self.points) else np.zeros(len(features))
        cross = self.signal_var * np.exp(-0.5 * distances / self.length**2)
        explained = np.einsum("ij,ij->i", cross @ self.inverse, cross)
        variance = np.maximum(self.signal_var - explained, 0.0) + self.noise_var
        return cross @ self.weights, np.sqrt(variance), nearest

    @cached_property
    def _squares(self) -> Array:
        return np.asarray((self.points**2).sum(axis=1), dtype=np.float64)

    def posterior(self, features: Array) -> Array:
        """Posterior covariance (m, m) of the function at features (m, d)."""
        points = (features - self.mean) / self.scale
        cross = self._covariance(points, self.points)
        return self._covariance(points, points) - cross @ self.inverse @ cross.T

    def _covariance(self, left: Array, right: Array) -> Array:
        return np.asarray(
            self.signal_var * np.exp(-0.5 * mean_squared_distances(left, right) / self.length**2), dtype=np.float64
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "points": self.points.tolist(),
            "weights": self.weights.tolist(),
            "inverse": self.inverse.tolist(),
            "length": self.length,
            "signal_var": self.signal_var,
            "noise_var": self.noise_var,
        }

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> GaussianProcess:
        mean, scale, points, weights, inverse = (
            np.array(value[key], dtype=np.float64) for key in ("mean", "scale", "points", "weights", "inverse")
        )
        points, inverse = points.reshape(-1, len(mean)), inverse.reshape(len(weights), len(weights))
        length, signal_var, noise_var = (float(value[key]) for key in ("length", "signal_var", "noise_var"))
        return cls(mean, scale, points, weights, inverse, length, signal_var, noise_var)
