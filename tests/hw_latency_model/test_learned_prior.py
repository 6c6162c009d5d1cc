"""Kernels timed inside networks teach what a roofline cannot say, and nothing is lost on the way through JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hw_latency_model import KernelSpec
from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.learned import LearnedPrior
from hw_latency_model.model.prior import KernelPrior, prior_from_dict
from hw_latency_model.model.roofline import Roofline
from hw_latency_model.model.trees import BoostedTrees

BASE = Roofline(
    ("pointwise", "elementwise"),
    np.array([[0.02, 0.05, 0.01, 0.003], [0.0, 0.05, 0.0, 0.002]]),
    {"dense": np.full(4, 0.05), "depthwise": np.full(4, 0.05), "memory_bound": np.full(4, 0.05)},
    1,
)


def pointwise(channels: int, side: int) -> KernelSpec:
    size = 4 * channels * side * side
    macs = channels * channels * side * side
    return KernelSpec(
        "pointwise",
        "p",
        macs,
        size,
        4 * channels**2,
        size,
        channels,
        channels,
        (1, 1),
        (1, 1),
        1,
        (side,) * 2,
        (side,) * 2,
    )


def networks(count: int, seed: int) -> list[list[KernelSpec]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        kernels: list[KernelSpec] = []
        for _ in range(20):
            channels, side = int(rng.choice([12, 16, 24, 32, 40, 64])), int(rng.choice([8, 16, 32]))
            kernels.append(pointwise(channels, side))
            if rng.random() < 0.5:
                size = 4 * channels * side * side
                kernels.append(KernelSpec("elementwise", "e", 0, size, 0, size, channels, channels))
        found.append(kernels)
    return found


def true_ms(kernels: list[KernelSpec]) -> np.ndarray:
    """Twice the roofline where blocks of 16 channels are not full, half after an elementwise kernel (a warm cache)."""
    factor = np.array([2.0 if kernel.kind == "pointwise" and kernel.in_channels % 16 else 1.0 for kernel in kernels])
    table = KernelTable.of(kernels)
    after = table.by_name("elementwise".__eq__, table.before) > 0
    return np.asarray(BASE.kernel_ms(kernels) * factor * np.where(after, 0.5, 1.0))


@pytest.fixture(scope="module")
def prior() -> LearnedPrior:
    known = networks(40, 0)
    table = KernelTable.join([KernelTable.of(item) for item in known])
    times = np.concatenate([true_ms(item) for item in known])
    return LearnedPrior.fit(BASE, table, times, np.ones(len(times)))


def test_alignment_and_neighbours_are_learnt(prior: LearnedPrior) -> None:
    for kernels in networks(10, 1):
        error = prior.kernel_ms(kernels).sum() / true_ms(kernels).sum() - 1
        roofline = BASE.kernel_ms(kernels).sum() / true_ms(kernels).sum() - 1
        assert abs(error) < 0.05
        assert abs(error) < abs(roofline)


def test_a_kind_never_timed_keeps_the_rooflines_cost(prior: LearnedPrior) -> None:
    odd = KernelSpec("op:Odd", "odd", 0, 4000, 0, 4000)
    assert prior.kernel_ms([odd])[0] == BASE.kernel_ms([odd])[0]
    assert prior.kinds == BASE.kinds


def test_kernels_of_many_networks_at_once_keep_their_own_neighbours(prior: LearnedPrior) -> None:
    known = networks(5, 2)
    together = prior.table_ms(KernelTable.join([KernelTable.of(item) for item in known]))
    assert np.allclose(together, np.concatenate([prior.kernel_ms(item) for item in known]), rtol=1e-12)


def test_a_prior_comes_back_from_json_exactly(prior: LearnedPrior) -> None:
    kernels = networks(1, 3)[0]
    for item in (prior, BASE):
        assert isinstance(item, KernelPrior)
        again = prior_from_dict(item.prior_type, json.loads(json.dumps(item.to_dict())))
        assert np.array_equal(again.kernel_ms(kernels), item.kernel_ms(kernels))
    with pytest.raises(ValueError, match="no prior of type 'magic'"):
        prior_from_dict("magic", {})


def test_trees_learn_a_step_and_an_interaction_and_ignore_noise_columns() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 6))
    target = np.where(rows[:, 0] > 0.3, 1.0, 0.0) + np.where((rows[:, 1] > 0) & (rows[:, 2] > 0), 0.5, 0.0)
    trees = BoostedTrees.fit(rows, target + 0.1 * rng.normal(size=2000), np.ones(2000))
    fresh = rng.normal(size=(1000, 6))
    wanted = np.where(fresh[:, 0] > 0.3, 1.0, 0.0) + np.where((fresh[:, 1] > 0) & (fresh[:, 2] > 0), 0.5, 0.0)
    assert np.sqrt(np.mean((trees.predict(fresh) - wanted) ** 2)) < 0.12


def test_rows_of_no_weight_teach_nothing() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(500, 3))
    target = np.concatenate([np.ones(250), np.full(250, 50.0)])
    weights = np.concatenate([np.ones(250), np.zeros(250)])
    assert np.all(BoostedTrees.fit(rows, target, weights).predict(rows) < 1.5)
