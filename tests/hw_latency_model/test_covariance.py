"""Shared parts of the Gaussian processes, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import multivariate_normal

from hw_latency_model.model.covariance import explained_variance, log_likelihood, mean_squared_distances


def test_distances_are_those_of_scipy_over_the_columns() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))
    expected = cdist(left, right, "sqeuclidean") / 3
    assert mean_squared_distances(left, right) == pytest.approx(expected)
    assert mean_squared_distances(left, right, (right**2).sum(axis=1)) == pytest.approx(expected)
    assert mean_squared_distances(left, np.zeros((0, 3))).shape == (7, 0)
    assert mean_squared_distances(left, left).min() >= 0


def test_likelihood_and_explained_variance() -> None:
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    whole = root @ root.T + np.eye(6)
    data, cross, new = whole[:4, :4], whole[:4, 4:], whole[4:, 4:]
    targets = rng.normal(size=4)
    constant = 0.5 * 4 * np.log(2 * np.pi)
    assert log_likelihood(data, targets) == pytest.approx(multivariate_normal(cov=data).logpdf(targets) + constant)
    conditional = new - cross.T @ np.linalg.inv(data) @ cross
    assert np.diag(new) - explained_variance(np.linalg.cholesky(data), cross) == pytest.approx(np.diag(conditional))
    assert log_likelihood(np.ones((2, 2)), np.ones(2)) == -np.inf
