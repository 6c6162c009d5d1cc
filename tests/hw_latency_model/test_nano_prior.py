"""The Nano's prior: what physics says must hold of it, whatever its coefficients."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.nano_prior.regression import KnownGain, Source, regress
from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.nano_columns import kernel_columns
from hw_latency_model.model.nano_prior import DEFAULTS, NanoPrior, evaluate, nano_terms
from hw_latency_model.types import KernelSpec


def conv(inner=64, outer=64, side=3, size=56, stride=1, groups=1, kind=None) -> KernelSpec:
    after = size // stride
    weights = outer * (inner // groups) * side * side
    known = "depthwise" if groups == inner else "pointwise" if side == 1 else "conv"
    return KernelSpec(
        kind or known,
        "k",
        macs=weights * after * after,
        input_bytes=4 * inner * size * size,
        weight_bytes=4 * (weights + outer),
        output_bytes=4 * outer * after * after,
        in_channels=inner,
        out_channels=outer,
        kernel=(side, side),
        stride=(stride, stride),
        groups=groups,
        in_hw=(size, size),
        out_hw=(after, after),
    )


def resize(size=256) -> KernelSpec:
    return KernelSpec(
        "resize_linear",
        "r",
        macs=0,
        input_bytes=4 * 32 * (size // 2) ** 2,
        weight_bytes=0,
        output_bytes=4 * 32 * size * size,
        in_channels=32,
        out_channels=32,
        in_hw=(size // 2, size // 2),
        out_hw=(size, size),
    )


def prior(precision="fp32", **parameters: float) -> NanoPrior:
    return NanoPrior(("conv",), precision, parameters)


def one(kernel: KernelSpec, precision="fp32") -> float:
    return float(prior(precision).kernel_ms([kernel])[0])


def test_more_work_never_takes_less_time():
    for small, large in [
        (conv(inner=64), conv(inner=128)),
        (conv(outer=64), conv(outer=128)),
        (conv(size=28), conv(size=56)),
        (conv(side=1), conv(side=3)),
        (conv(groups=64), conv(groups=64, size=112)),
        (resize(128), resize(256)),
    ]:
        assert one(small) < one(large)


def test_a_dilated_convolution_is_no_winograd_and_takes_longer():
    plain, dilated = conv(inner=256, outer=256, size=28), replace(conv(inner=256, outer=256, size=28), dilation=(2, 2))
    assert one(dilated) > 1.3 * one(plain)
    large = conv(inner=256, outer=256, size=28, side=5)
    assert one(replace(large, dilation=(2, 2))) == one(large)


def test_fp16_gains_most_on_dense_convolutions_and_never_loses():
    gains = {
        name: one(k) / one(k, "fp16")
        for name, k in [("dense", conv(inner=256, outer=256)), ("dw", conv(groups=64)), ("resize", resize())]
    }
    assert gains["dense"] > 1.4 > gains["dw"] >= 1.0
    assert gains["dense"] > gains["resize"] >= 1.0


def test_fp16_gains_less_on_a_pointwise_kernel_beside_a_depthwise_one():
    pointwise = conv(inner=256, outer=256, side=1)
    separable = [conv(groups=64), pointwise]
    alone = one(pointwise) / one(pointwise, "fp16")
    beside = prior().kernel_ms(separable)[1] / prior("fp16").kernel_ms(separable)[1]
    assert one(pointwise) == pytest.approx(prior().kernel_ms(separable)[1])
    assert beside < 0.9 * alone


def test_nothing_runs_faster_than_the_hardware():
    big = conv(inner=512, outer=512, side=5, size=64)
    assert big.macs / 1e6 / one(big) < 118.0
    moved = (resize().input_bytes + resize().output_bytes) / 1e6
    assert moved / one(resize()) < 25.6


def test_a_view_is_free_and_channels_come_in_tiles():
    assert one(KernelSpec("view", "v", 0, 0, 0, 0)) == 0.0
    per_channel = [one(conv(outer=outer, size=112)) / outer for outer in (32, 33)]
    assert per_channel[1] > 1.3 * per_channel[0]


def test_a_pointwise_chain_is_one_launch():
    relu = KernelSpec("elementwise", "relu", 0, 4 * 64 * 56 * 56, 0, 4 * 64 * 56 * 56, 64, 64)
    norm = KernelSpec("norm", "bn", 0, 4 * 64 * 56 * 56, 0, 4 * 64 * 56 * 56, 64, 64)
    assert prior().kernel_ms([norm, relu])[1] == pytest.approx(0.0, abs=1e-9)
    assert one(relu) > 0.05


def test_every_kind_gets_a_time_even_one_that_nobody_knows():
    odd = KernelSpec("op:GridSample", "g", 0, 4 * 10**6, 0, 4 * 10**6)
    assert 0.1 < one(odd) < 100.0
    assert np.isfinite(one(KernelSpec("op:Nothing", "n", 0, 0, 0, 0)))
    assert prior().kernel_ms([]).shape == (0,)


def test_saved_and_read_again_it_says_the_same():
    original = prior("fp16", **{"rate.k3": 123.456, "launch_ms": 0.0123})
    again = NanoPrior.from_dict(json.loads(json.dumps(original.to_dict())))
    assert again == original
    assert again.kernel_ms([conv()])[0] == original.kernel_ms([conv()])[0]


@pytest.mark.parametrize(
    "damage", [{"precision": "int8"}, {"parameters": {"rate.unheard": 1.0}}, {"parameters": {"rate.k3": "fast"}}]
)
def test_a_damaged_prior_is_refused(damage):
    with pytest.raises(ValueError, match=r"int8|rate\.unheard|fast"):
        NanoPrior.from_dict({**prior().to_dict(), **damage})


def networks_of(rng: np.random.Generator, count: int) -> list[list[KernelSpec]]:
    return [
        [
            conv(
                int(rng.choice([32, 64, 96])),
                int(rng.choice([32, 64, 128])),
                int(rng.choice([1, 3])),
                int(rng.choice([14, 28, 56])),
            )
            for _ in range(int(rng.integers(3, 12)))
        ]
        for _ in range(count)
    ]


def test_regression_finds_what_a_device_does_from_whole_networks():
    rng = np.random.default_rng(0)
    truth = {**DEFAULTS, "rate.k3": 120.0, "rate.k1": 60.0, "launch_ms": 0.05}
    networks = networks_of(rng, 120)
    latency_ms = np.array([NanoPrior((), "fp32", truth).kernel_ms(kernels).sum() + 2.0 for kernels in networks])
    found = regress([Source("lab", networks[:80], latency_ms[:80], "fp32", scale_log_std=0.01, overhead_ms=1.0)])
    fitted = NanoPrior((), "fp32", found.parameters)
    predicted = np.array([fitted.kernel_ms(kernels).sum() for kernels in networks[80:]]) + found.overhead_ms["lab"]
    assert np.abs(predicted / latency_ms[80:] - 1).max() < 0.05


def test_a_source_that_is_slow_as_a_whole_does_not_bend_the_kernels():
    networks = networks_of(np.random.default_rng(1), 60)
    base = np.array([NanoPrior((), "fp32", {}).kernel_ms(kernels).sum() for kernels in networks])
    found = regress(
        [
            Source("own", networks[:40], base[:40], "fp32", scale_log_std=0.01),
            Source("foreign", networks[40:], 4 * base[40:], "fp32", scale_log_std=1.0),
        ]
    )
    assert found.scale["foreign"] == pytest.approx(4.0, rel=0.05)
    assert found.parameters["rate.k3"] == pytest.approx(DEFAULTS["rate.k3"], rel=0.1)


def test_a_known_gain_is_met_within_what_the_hardware_can_do():
    network = [conv(groups=64), conv(side=1), resize()]
    base = NanoPrior((), "fp32", {}).kernel_ms(network).sum()
    found = regress([Source("own", [network], np.array([base]), "fp32")], [KnownGain(network, 1.0, 0.01)])
    fp32, fp16 = (NanoPrior((), name, found.parameters).kernel_ms(network).sum() for name in ("fp32", "fp16"))
    assert 1.0 <= fp32 / fp16 < 1.25
    assert all(1.0 <= value <= 2.0 for name, value in found.parameters.items() if name.startswith("gain."))


def test_a_table_of_networks_costs_what_each_costs_alone():
    networks = [
        [conv(groups=64)],
        [conv(inner=256, outer=256, side=1), conv()],
        [conv(groups=64), conv(side=1), resize()],
    ]
    table = KernelTable.join([KernelTable.of(network) for network in networks])
    alone = np.concatenate([prior("fp16").kernel_ms(network) for network in networks])
    assert np.array_equal(prior("fp16").table_ms(table), alone)


def test_terms_are_computed_once_and_give_the_same_for_many_networks():
    kernels = [conv(), resize(), conv(groups=64)]
    terms = nano_terms(kernel_columns(kernels), "fp32")
    values = np.array(list(DEFAULTS.values()))
    assert np.allclose(evaluate(terms, values), prior().kernel_ms(kernels))
