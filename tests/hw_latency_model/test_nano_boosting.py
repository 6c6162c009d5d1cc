"""Correction of the Nano's prior learned from whole networks, and intervals that widen for unlike ones."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.latency_convnets import run
from benchmarks.nano_prior.boosting import NetworkTable, fit_correction
from benchmarks.nano_prior.campaigns import LeftOut
from benchmarks.nano_prior.convnets import ConvNet, ConvNets, convnet_kernels
from benchmarks.nano_prior.fit import campaign_margins
from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.conformal import Margins
from hw_latency_model.model.nano_prior import DEFAULTS, NanoPrior
from search_spaces._common.errors import UserError


def kernels_of(features: int, side: int, layers: int, size: int):
    return convnet_kernels(
        depthwise=False, layers=layers, features=features, sides=[side] * layers, input_side=size, mixed=False
    )


def measured(kernels) -> float:
    """A device that is half as fast again on odd maps, which the prior knows nothing of."""
    times = NanoPrior((), "fp32", {}).kernel_ms(kernels)
    return float(sum(ms * (1.5 if k.out_hw[0] % 2 else 1.0) for ms, k in zip(times, kernels, strict=True)) + 1.0)


def campaign(name: str, seed: int, count: int, low: int = 32) -> list[ConvNet]:
    rng = np.random.default_rng(seed)
    nets = []
    for index in range(count):
        kernels = kernels_of(
            int(rng.integers(low // 32, 9)) * 32,
            int(rng.integers(1, 5)),
            int(rng.integers(2, 6)),
            int(rng.integers(10, 60)),
        )
        nets.append(ConvNet(name, str(index), measured(kernels) * float(np.exp(rng.normal(0, 0.01))), 0.0, kernels))
    return nets


def test_a_step_that_the_prior_does_not_know_is_learned_from_whole_networks():
    nets = campaign("a", 0, 500)
    latency_ms = np.array([net.latency_ms for net in nets])
    networks = [net.kernels for net in nets]
    correction = fit_correction(NetworkTable.of(networks[:400], "fp32"), DEFAULTS, latency_ms[:400])
    plain = NanoPrior((), "fp32", {})
    model = NanoPrior.from_dict(json.loads(json.dumps(replace(plain, correction=correction).to_dict())))
    fresh = KernelTable.join([KernelTable.of(kernels) for kernels in networks[400:]])
    error = np.abs(fresh.sums(model.table_ms(fresh)) / latency_ms[400:] - 1)
    assert np.mean(error) < 0.05
    assert np.mean(error) < 0.5 * np.mean(np.abs(fresh.sums(plain.table_ms(fresh)) / latency_ms[400:] - 1))


def test_the_correction_fades_for_kernels_that_no_measured_network_has():
    nets = campaign("a", 0, 100)
    latency_ms = np.array([1.5 * net.latency_ms for net in nets])
    correction = fit_correction(NetworkTable.of([net.kernels for net in nets], "fp32"), DEFAULTS, latency_ms)
    plain = NanoPrior((), "fp32", {})
    model = replace(plain, correction=correction)

    def factor_and_novelty(kernels) -> tuple[float, float]:
        table = KernelTable.of(kernels[:-1])
        costs = model.table_ms(table)
        return float(costs.sum() / plain.table_ms(table).sum()), float(model.novelty(table, costs)[0])

    known, unlike = factor_and_novelty(kernels_of(128, 3, 3, 40)), factor_and_novelty(kernels_of(4096, 3, 3, 4))
    assert known[0] > 1.4
    assert unlike[0] < 1.1
    assert known[1] < 0.2 < 0.9 < unlike[1]


def test_the_interval_of_campaigns_counts_each_alike_and_is_wider_for_unlike_networks():
    left_out = LeftOut(
        np.concatenate([np.linspace(0, 0.1, 100), np.linspace(0, 0.2, 10)]),
        np.zeros(110),
        np.repeat([0.01, 0.1], [100, 10]),
    )
    assert left_out.half_width(0.9) == pytest.approx(0.16, abs=0.03)
    margins = campaign_margins(left_out, 0.1, 3.0)
    at = margins.at(np.array([0.0, 0.05, 0.5, 1.0]))
    assert at[0] == at[1] == pytest.approx(left_out.half_width(0.9) / 0.1)
    assert at[2] == at[3] == 3.0
    assert Margins.from_dict(json.loads(json.dumps(margins.to_dict()))) == margins


@pytest.mark.slow
def test_the_benchmark_predicts_a_campaign_from_the_others():
    nets = [*campaign("a", 1, 200), *campaign("b", 2, 200), *campaign("c", 3, 150)]
    row = run(ConvNets(tuple(nets), 0, 0), "c")[0]
    assert row["networks"] == 150
    assert row["mape"] < 0.08
    assert row["coverage90"] > 0.8
    assert row["inside_range"]
    assert row["fitted_on"] == "a, b"


def test_a_campaign_alone_in_its_file_is_predicted_by_the_bundled_prior():
    row = run(ConvNets(tuple(campaign("alone", 4, 12)), 0, 0), "alone")[0]
    assert row["fitted_on"] == "the bundled prior"
    assert not row["inside_range"]
    with pytest.raises(UserError, match="alone"):
        run(ConvNets(tuple(campaign("alone", 4, 3)), 0, 0), "other")
