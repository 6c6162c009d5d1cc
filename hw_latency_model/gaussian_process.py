"""A small Gaussian process: what is left over after the physical prior, as a smooth function of the whole network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_LENGTHS = (0.5, 1.0, 2.0, 4.0)
_SIGNALS = (0.01, 0.25, 0.5, 1.0)
_NOISES = (0.05, 0.15, 0.4, 1.0)


@dataclass(frozen=True)
class GaussianProcess:
    """Zero mean, isotropic squared-exponential kernel over standardised features; the noise differs by point.

    Attributes:
        mean, scale: (d,) standardisation of the features.
        points: (n, d) standardised training features.
        weights: (n,) K⁻¹ y.
        inverse: (n, n) K⁻¹.
        length: length scale, in standard deviations per √d features.
        signal_var, noise_var: of the function and of a typical observation.
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
            noise_factor: (n,) how many times the typical variance each observation has; 1 is a good one.
        """
        mean, spread = features.mean(axis=0), features.std(axis=0)
        scale: Array = np.where(spread > 1e-9, spread, 1.0)
        points = (features - mean) / scale
        variance = max(float(np.mean(targets**2)), 1e-6)
        distances = _distances(points, points)
        best: tuple[float, float, float, float] | None = None
        for length in _LENGTHS:
            base = np.exp(-0.5 * distances / length**2)
            for signal in _SIGNALS:
                for noise in _NOISES:
                    covariance = variance * (signal * base + np.diag(noise * noise_factor))
                    likelihood = _log_likelihood(covariance, targets)
                    if best is None or likelihood > best[0]:
                        best = (likelihood, length, signal * variance, noise * variance)
        assert best is not None
        _, length, signal_var, noise_var = best
        covariance = signal_var * np.exp(-0.5 * distances / length**2) + np.diag(noise_var * noise_factor)
        inverse: Array = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
        return cls(mean, scale, points, inverse @ targets, inverse, length, signal_var, noise_var)

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of a new typical observation, both (m,), for features (m, d)."""
        points = (features - self.mean) / self.scale
        cross = self.signal_var * np.exp(-0.5 * _distances(points, self.points) / self.length**2)
        explained = np.einsum("ij,jk,ik->i", cross, self.inverse, cross)
        variance = np.maximum(self.signal_var - explained, 0.0) + self.noise_var
        return cross @ self.weights, np.sqrt(variance)

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
        length, signal_var, noise_var = (float(value[key]) for key in ("length", "signal_var", "noise_var"))
        return cls(mean, scale, points, weights, inverse, length, signal_var, noise_var)


def _distances(left: Array, right: Array) -> Array:
    """Squared distances (m, n), divided by the number of features."""
    difference = left[:, None, :] - right[None, :, :]
    return np.asarray(np.mean(difference**2, axis=-1), dtype=np.float64)


def _log_likelihood(covariance: Array, targets: Array) -> float:
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return -np.inf
    half = np.linalg.solve(factor, targets)
    return float(-0.5 * half @ half - np.log(np.diag(factor)).sum())
