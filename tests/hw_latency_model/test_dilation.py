"""Dilated convolutions: read alike from files and modules, kept in stores, and learnt from where they were timed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from exports import export_onnx
from hw_latency_model import KernelSpec, kernels_from_module, kernels_from_onnx
from hw_latency_model.kernels.table import INSIDE, KernelTable
from hw_latency_model.model.learned import LearnedPrior
from hw_latency_model.model.roofline import Roofline
from search_spaces import get_space

BASE = Roofline(
    ("conv",),
    np.array([[0.02, 0.05, 0.01, 0.003]]),
    {"dense": np.full(4, 0.05), "depthwise": np.full(4, 0.05), "memory_bound": np.full(4, 0.05)},
    1,
)


def conv(side: int, rate: int, channels: int = 32) -> KernelSpec:
    size, shape = 4 * channels * side * side, (side, side)
    macs = 9 * channels * channels * side * side
    spec = KernelSpec(
        "conv", "c", macs, size, 36 * channels**2, size, channels, channels, (3, 3), (1, 1), 1, shape, shape
    )
    return replace(spec, dilation=(rate, rate))


def test_file_and_module_say_the_same_dilation(tmp_path: Path) -> None:
    options = {"families": ["mobilenetv2"], "decoders": ["deeplabv3plus"], "widths": [0.25], "output_strides": [16]}
    space = get_space("encoder_decoder", options)
    net = space.build(space.default(), 3)
    export_onnx(net, (96, 128), tmp_path / "net.onnx")
    told = [
        sorted((kernel.kernel, kernel.dilation) for kernel in kernels if max(kernel.dilation) > 1)
        for kernels in (kernels_from_module(net, (96, 128)), kernels_from_onnx(tmp_path / "net.onnx"))
    ]
    assert told[0] == told[1]
    assert {dilation for _, dilation in told[0]} >= {(2, 2), (6, 6), (12, 12), (18, 18)}


def test_a_side_of_one_tap_has_no_dilation() -> None:
    kernels = kernels_from_module(nn.Conv2d(3, 32, (1, 3), dilation=4, padding=(0, 4)), (16, 16))
    assert [kernel.dilation for kernel in kernels if kernel.macs] == [(1, 4)]


def test_stored_kernels_without_it_are_undilated() -> None:
    plain, dilated = conv(16, 1), conv(16, 4)
    assert "dilation" not in plain.to_dict()
    for kernel in (plain, dilated):
        assert KernelSpec.from_dict(json.loads(json.dumps(kernel.to_dict()))) == kernel


@pytest.mark.parametrize("rate", [1, 2, 16])
def test_share_of_the_taps_inside(rate: int) -> None:
    """Reads of a row of 12: 12 + 2 · (12 - rate) of 36 reads, of 34 without dilation; beyond the map the middle tap alone."""
    assert KernelTable.of([conv(12, rate)]).facts[0, INSIDE] == pytest.approx((12 + 2 * max(12 - rate, 0)) ** 2 / 34**2)


def test_what_dilation_saves_is_learnt() -> None:
    rng = np.random.default_rng(0)
    kernels = [conv(int(side), int(rate)) for side, rate in rng.choice([[8, 1], [16, 1], [16, 4], [8, 4]], size=120)]
    table = KernelTable.of(kernels)
    times = BASE.table_ms(table) * table.facts[:, INSIDE]
    prior = LearnedPrior.fit(BASE, table, times, np.ones(len(times)))
    _, plain, dilated, _ = prior.kernel_ms([conv(16, 1), conv(8, 1), conv(8, 4), conv(16, 1)])
    assert dilated / plain == pytest.approx(KernelTable.of([conv(8, 4)]).facts[0, INSIDE], rel=0.1)


def test_without_dilation_nothing_is_asked_about_it() -> None:
    kernels = [conv(side, 1) for side in (8, 12, 16, 24)] * 10
    table = KernelTable.of(kernels)
    prior = LearnedPrior.fit(BASE, table, BASE.table_ms(table) * np.linspace(0.5, 2.0, 40), np.ones(40))
    assert prior.kernel_ms([conv(8, 4)])[0] == prior.kernel_ms([conv(8, 1)])[0]
