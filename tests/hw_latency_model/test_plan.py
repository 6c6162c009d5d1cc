"""Planning by build time: what a build costs, what to measure next, which small engines are sound, when it is enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from exports import export_onnx, get_profile
from hw_latency_model import LatencyModel, Measurement, kernels_from_onnx
from hw_latency_model.board.kernel_chains import cut_chains
from hw_latency_model.board.plan import (
    KERNELS,
    NETWORK,
    Accuracy,
    BuildCost,
    Suggestion,
    accuracy_of,
    anonymous,
    choose_batch,
)
from hw_latency_model.board.pool import BoardPool
from hw_latency_model.types import KernelSpec
from search_spaces import get_space

SMALL = {"widths": [0.25, 0.5], "resolutions_px": [[64, 64], [96, 96]], "prune_ratios": [0.0, 0.5]}


def kernel(channels: int, *, name: str = "") -> KernelSpec:
    macs = 9 * channels * channels * 400
    return KernelSpec(
        "conv", name or f"c{channels}", macs, 1600 * channels, 36 * channels**2, 1600 * channels, channels, channels
    )


def network(*channels: int) -> tuple[KernelSpec, ...]:
    return tuple(kernel(value, name=f"layer{index}") for index, value in enumerate(channels))


def suggestion(kind: str, *channels: int) -> Suggestion:
    return Suggestion(f"{kind}-{channels}", kind, network(*channels))


def test_a_build_costs_by_its_different_kernels_and_what_was_timed_before_is_nearly_free() -> None:
    cost = BuildCost(builds_engines=True)
    assert cost.seconds(network(*range(1, 61))) == pytest.approx(789)
    assert cost.seconds(network(1, 1, 1, 1)) == cost.seconds(network(1))
    before = cost.seconds(network(1, 2, 3, 4))
    cost.learn(network(1, 2, 3, 4), before)
    assert cost.seconds(network(1, 2, 3, 4)) < 0.3 * before
    assert cost.seconds(network(5, 6, 7, 8)) == pytest.approx(before)


def test_the_boards_own_builds_replace_the_published_ones() -> None:
    rows = [(network(*range(start, start + 10)), 50.0) for start in range(0, 300, 10)]
    own = BuildCost(rows, builds_engines=True)
    assert own.seconds_per_kernel == pytest.approx(5.0, rel=0.1)
    untouched = BuildCost([(network(1, 2), 0.0)], builds_engines=True)
    assert untouched.seconds_per_kernel == BuildCost(builds_engines=True).seconds_per_kernel
    assert BuildCost(builds_engines=False).seconds(network(1, 2, 3)) < 1.0


def test_without_a_model_the_order_of_the_pool_is_kept_and_the_budget_too() -> None:
    pool = [suggestion(NETWORK, index + 1) for index in range(6)]
    assert choose_batch(pool, [10.0] * 6, 35.0, most=5) == [0, 1, 2]
    assert choose_batch(pool, [10.0] * 6, 350.0, most=4) == [0, 1, 2, 3]
    assert choose_batch(pool, [10.0, 50.0, 10.0, 10.0, 10.0, 10.0], 35.0, most=6) == [0, 2, 3]


def test_when_nothing_fits_the_cheapest_is_measured_all_the_same() -> None:
    pool = [suggestion(NETWORK, index + 1) for index in range(3)]
    assert choose_batch(pool, [30.0, 20.0, 40.0], 1.0, most=5) == [1]
    assert choose_batch(pool, [30.0, 20.0, 40.0], 1.0, most=5, least=2) == [1, 0]
    assert choose_batch([], [], 1.0, most=5) == []


def test_chains_and_networks_share_the_time() -> None:
    pool = [suggestion(NETWORK, index + 1) for index in range(10)] + [
        suggestion(KERNELS, index + 50) for index in range(50)
    ]
    seconds = [600.0] * 10 + [60.0] * 50
    chosen = choose_batch(pool, seconds, 7200.0, most=100)
    networks = sum(seconds[index] for index in chosen if index < 10)
    assert 0.4 <= networks / sum(seconds[index] for index in chosen) <= 0.65
    later = choose_batch(pool, seconds, 1300.0, most=100, network_s=0.0, chain_s=3000.0)
    assert all(index < 10 for index in later[:2])


def fitted(networks: list[tuple[KernelSpec, ...]]) -> LatencyModel:
    fingerprint = {"device": "board"}
    measured = [
        Measurement(
            subject=f"n{index}",
            device="board",
            latency_ms_p50=sum(item.macs for item in kernels) / 1e8 + 0.05 * len(kernels),
            latency_ms_p90=100.0,
            latency_ms_p99=100.0,
            runs=50,
            noise_rel=0.003,
            reference_ms=1.0,
            fingerprint=fingerprint,
            started_at=f"2026-01-01T00:00:{index:02d}+00:00",
        ).with_kernels(kernels)
        for index, kernels in enumerate(networks)
    ]
    return LatencyModel.fit(measured, device="board", fingerprint=fingerprint)


def test_with_a_model_kernels_never_measured_come_first_and_seconds_count() -> None:
    model = fitted([network(*[8 + 4 * index] * (2 + index % 4)) for index in range(12)])
    strange = Suggestion(
        "strange", NETWORK, (*network(16), KernelSpec("depthwise", "d", 10**6, 10**5, 10, 10**5, 16, 16, groups=16))
    )
    pool = [suggestion(NETWORK, 16, 16), suggestion(NETWORK, 20, 20), strange]
    assert choose_batch(pool, [60.0, 60.0, 60.0], 1e4, most=1, model=model) == [2]
    twins = [suggestion(NETWORK, 64, 64, 64), Suggestion("twin", NETWORK, network(64, 64, 64))]
    assert choose_batch(twins, [600.0, 60.0], 1e4, most=1, model=model) == [1]


def test_it_is_enough_when_error_and_interval_are_small_and_networks_many() -> None:
    assert Accuracy(0.03, 0.08, 20).reached(0.04, 0.1)
    assert not Accuracy(0.05, 0.08, 20).reached(0.04, 0.1)
    assert not Accuracy(0.03, 0.2, 20).reached(0.04, 0.1)
    assert not Accuracy(0.0, 0.0, 6).reached(0.04, 0.1)
    networks = [network(*[8 + 4 * index] * (2 + index % 4)) for index in range(12)]
    accuracy = accuracy_of(fitted(networks), networks)
    assert accuracy.networks == 12 and 0 <= accuracy.error_rel < 0.2 and accuracy.interval_rel > 0


@pytest.mark.parametrize(
    ("family", "decoder"), [("mobilenetv2", "fpn"), ("resnet18d", "lraspp"), ("efficientnet_lite0", "fpn")]
)
def test_chains_are_pieces_of_their_network_cut_where_no_fusion_reaches(
    tmp_path: Path, family: str, decoder: str
) -> None:
    space = get_space(
        "encoder_decoder", {**SMALL, "families": [family], "decoders": [decoder], "resolutions_px": [[64, 64]]}
    )
    candidate, path = space.default(), tmp_path / "net.onnx"
    export_onnx(space.build_pruned(candidate, 4), space.input_hw(candidate), path)
    whole = {anonymous(kernel) for kernel in kernels_from_onnx(path, runtime="tensorrt")}
    chains = cut_chains(path)
    assert len(chains) >= 2
    seen: set[str] = set()
    for chain in chains:
        kernels = kernels_from_onnx(chain, runtime="tensorrt")
        assert 4 <= sum(kernel.macs > 0 for kernel in kernels) <= 10
        assert {anonymous(kernel) for kernel in kernels} <= whole, "a kernel that the network has not"
        names = {node.name or node.output[0] for node in chain.graph.node}
        assert not names & seen, "two chains share a node"
        seen |= names
        session = onnxruntime.InferenceSession(chain.SerializeToString(), providers=["CPUExecutionProvider"])
        (source,) = session.get_inputs()
        (output,) = session.run(None, {source.name: np.zeros(source.shape, np.float32)})
        assert np.isfinite(output).all()


def test_what_the_device_would_refuse_is_left_out_with_the_reason(tmp_path: Path) -> None:
    space = get_space("encoder_decoder", {**SMALL, "families": ["resnet10t"], "decoders": ["fpn"]})
    pool = BoardPool(space, 4, get_profile("jetson-nano"), runtime="tensorrt", seed=0, networks=6)
    first = pool.networks()[0]
    kernels = pool.write(first.key, tmp_path / "net.onnx")
    assert kernels is not None and (tmp_path / "net.onnx").is_file()
    assert {anonymous(kernel) for kernel in kernels} == {anonymous(kernel) for kernel in first.kernels}
    assert pool.family(first.key) == "resnet10t" and pool.describe(first.key).startswith("resnet10t ×")
    tight = get_profile("jetson-nano")
    small = BoardPool(
        space, 4, type(tight)(**{**vars(tight), "max_memory_mb": 0}), runtime="tensorrt", seed=0, networks=6
    )
    assert small.write(first.key, tmp_path / "refused.onnx") is None
    assert not (tmp_path / "refused.onnx").exists()
    assert (
        first.key not in {item.key for item in small.networks()}
        and "jetson-nano would refuse it" in small.skipped[first.key]
    )
