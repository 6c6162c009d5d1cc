"""Learning what the prior misses from whole networks, and intervals that know how far away they are."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.latency_convnets import run
from benchmarks.nano_prior.boosting import BoostedKernels, NetworkTable
from benchmarks.nano_prior.convnets import ConvNet, ConvNets, convnet_kernels
from benchmarks.nano_prior.intervals import ConformalInterval, Evidence
from benchmarks.nano_prior.regression import Source
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
    source = Source("a", networks[:200], latency_ms[:200], "fp32", overhead_ms=1.0)
    model = BoostedKernels.fit(NetworkTable.of(networks[:400], "fp32"), [source], latency_ms[:400])
    fresh = NetworkTable.of(networks[400:], "fp32")
    error = np.abs(model.predict_ms(fresh) / latency_ms[400:] - 1)
    plain = fresh.total(NanoPrior((), "fp32", {}).kernel_ms([k for net in networks[400:] for k in net])) + 1.0
    assert np.mean(error) < 0.05
    assert np.mean(error) < 0.5 * np.mean(np.abs(plain / latency_ms[400:] - 1))


def test_intervals_widen_with_doubt_and_cover_what_they_promise():
    rng = np.random.default_rng(0)
    predictive_stds = [rng.uniform(0, 0.5, 400) for _ in range(5)]
    errors = [rng.normal(0, 0.02 + 0.2 * std) for std in predictive_stds]
    interval = ConformalInterval.fit(errors[:4], predictive_stds[:4])
    half = interval.half_width(predictive_stds[4])
    assert interval.half_width(np.array([0.5])) > 2 * interval.half_width(np.array([0.0]))
    assert np.mean(np.abs(errors[4]) <= half) == pytest.approx(0.9, abs=0.06)


def test_the_hardest_group_sets_the_margin_however_few_its_networks():
    rng = np.random.default_rng(1)
    hard, easy = rng.normal(0, 0.1, 100), [rng.normal(0, 0.02, 1000) for _ in range(4)]
    interval = ConformalInterval.fit([hard, *easy], [np.zeros(100), *(np.zeros(1000) for _ in easy)])
    assert np.mean(np.abs(hard) <= interval.half_width(np.zeros(100))) == pytest.approx(0.9, abs=0.02)


def test_kernels_are_in_doubt_as_far_as_no_network_spent_its_time_on_their_like():
    values = np.array(list(DEFAULTS.values()))

    def std(known, asked) -> float:
        evidence = Evidence.of(NetworkTable.of(known, "fp32"), values)
        return float(evidence.predictive_std(NetworkTable.of([asked], "fp32"))[0])

    known = [kernels_of(256, 3, layers, size) for layers in (2, 3, 4) for size in (44, 46)]
    same, wider, other_side = kernels_of(256, 3, 3, 45), kernels_of(320, 3, 3, 45), kernels_of(256, 5, 3, 45)
    assert std(known, same) < 0.15
    assert std(known, same) < std(known, wider) < std(known, other_side) <= 1.0
    assert std(known, other_side) > 0.5
    beside = convnet_kernels(depthwise=False, layers=2, features=256, sides=[7, 1], input_side=45, mixed=True)
    pointwise = kernels_of(256, 1, 3, 45)
    assert std([*known, beside], pointwise) > 0.8 * std(known, pointwise)


@pytest.mark.slow
def test_the_benchmark_predicts_a_campaign_from_the_others():
    nets = [*campaign("a", 1, 200), *campaign("b", 2, 200), *campaign("c", 3, 150)]
    row = run(ConvNets(tuple(nets), 0, 0), "c")[0]
    assert row["networks"] == 150
    assert row["mape"] < 8.0
    assert row["coverage90"] > 0.8
    assert row["inside_range"]
    assert row["fitted_on"] == "a, b"


def test_a_campaign_alone_in_its_file_is_predicted_by_the_bundled_prior():
    row = run(ConvNets(tuple(campaign("alone", 4, 12)), 0, 0), "alone")[0]
    assert row["fitted_on"] == "the bundled prior"
    assert not row["inside_range"]
    with pytest.raises(UserError, match="alone"):
        run(ConvNets(tuple(campaign("alone", 4, 3)), 0, 0), "other")
