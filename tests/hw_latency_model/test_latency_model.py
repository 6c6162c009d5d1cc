"""The model on measurements made up from a known law of cost: it finds the law, and its interval means what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hw_latency_model import KernelSpec, LatencyModel, Measurement
from hw_latency_model.model import conformal_quantile
from search_spaces.errors import UserError

DEVICE = "local-cpu"
FINGERPRINT = {"device": DEVICE, "cpu": "made up", "threads": 1}
NOISE = 0.04

# Milliseconds per MMAC, per MB of activations, per MB of weights, and per launch.
LAW = {
    "conv": (0.015, 0.4, 0.1, 0.004),
    "pointwise": (0.02, 0.5, 0.1, 0.003),
    "depthwise": (0.05, 0.6, 0.1, 0.006),
    "elementwise": (0.0, 0.5, 0.0, 0.002),
    "resize_linear": (0.0, 1.5, 0.0, 0.01),
}


def convolution(
    kind: str, name: str, channels: tuple[int, int], side: int, kernel: int = 1, groups: int = 1
) -> KernelSpec:
    inner, outer = channels
    weights = outer * inner // groups * kernel * kernel
    return KernelSpec(
        kind,
        name,
        macs=weights * side * side,
        input_bytes=4 * inner * side * side,
        weight_bytes=4 * weights,
        output_bytes=4 * outer * side * side,
        in_channels=inner,
        out_channels=outer,
        kernel=(kernel, kernel),
        groups=groups,
        out_hw=(side, side),
    )


def network(rng: np.random.Generator, *, width: float | None = None, side: int | None = None) -> list[KernelSpec]:
    """Stages of halving resolution and doubling channels; each block is dense or separable."""
    width = float(rng.uniform(0.25, 1.5)) if width is None else width
    side = int(rng.choice([32, 48, 64, 96])) if side is None else side
    separable = rng.random()
    kernels: list[KernelSpec] = []
    channels = 16
    for stage in range(4):
        side //= 2
        outer = max(8, int(16 * width * 2**stage) // 8 * 8)
        for block in range(int(rng.integers(1, 5))):
            name = f"{stage}.{block}"
            if rng.random() < separable:
                kernels.append(convolution("pointwise", f"{name}.a", (channels, 4 * channels), side))
                kernels.append(convolution("depthwise", f"{name}.b", (4 * channels,) * 2, side, 3, 4 * channels))
                kernels.append(convolution("pointwise", f"{name}.c", (4 * channels, outer), side))
            else:
                kernels.append(convolution("conv", f"{name}.a", (channels, outer), side, 3))
            kernels.append(KernelSpec("elementwise", f"{name}.add", 0, 4 * outer * side**2, 0, 4 * outer * side**2))
            channels = outer
    kernels.append(KernelSpec("resize_linear", "up", 0, 4 * channels * side**2, 0, 16 * channels * side**2))
    return kernels


def kernel_cost_ms(kernel: KernelSpec) -> float:
    macs, activations, weights, launch = LAW.get(kernel.kind, (0.03, 1.0, 0.1, 0.01))
    return (
        macs * kernel.macs / 1e6
        + activations * kernel.activation_bytes / 1e6
        + weights * kernel.weight_bytes / 1e6
        + launch
    )


def law_ms(kernels: list[KernelSpec]) -> float:
    """The sum over kernels, and up to 15 % more for networks that do not fit the cache: what no sum can say."""
    weights = sum(kernel.weight_bytes for kernel in kernels)
    return sum(map(kernel_cost_ms, kernels)) * (1.0 + 0.15 * weights / (weights + 1e6))


def measurement(
    kernels: list[KernelSpec],
    rng: np.random.Generator,
    *,
    noise: float = NOISE,
    shares: bool = False,
    **changes: object,
) -> Measurement:
    ms = law_ms(kernels) * float(np.exp(noise * rng.standard_normal()))
    facts: dict[str, object] = {"subject": "net", "noise_rel": 0.03, "reference_ms": 1.0, "fingerprint": FINGERPRINT}
    value = Measurement(
        device=DEVICE,
        latency_ms_p50=ms,
        latency_ms_p90=ms,
        latency_ms_p99=ms,
        runs=50,
        started_at="2026-11-23T10:00:00+00:00",
        **{**facts, **changes},  # type: ignore[arg-type]
    )
    costs = np.array([kernel_cost_ms(kernel) for kernel in kernels])
    return value.with_kernels(kernels, tuple((costs / costs.sum()).tolist()) if shares else ())


def measurements(count: int, seed: int, *, shares: bool = False) -> list[Measurement]:
    rng = np.random.default_rng(seed)
    return [measurement(network(rng), rng, shares=shares) for _ in range(count)]


def fitted(values: list[Measurement]) -> LatencyModel:
    return LatencyModel.fit(values, device=DEVICE, fingerprint=FINGERPRINT)


@pytest.fixture(scope="module")
def model() -> LatencyModel:
    return fitted(measurements(40, seed=0))


@pytest.mark.parametrize("shares", [False, True])
def test_it_recovers_the_law_on_networks_it_never_saw(shares: bool) -> None:
    model = fitted(measurements(40, seed=0, shares=shares))
    rng = np.random.default_rng(1)
    fresh = [network(rng) for _ in range(100)]
    errors = [abs(model.predict(kernels).latency_ms / law_ms(kernels) - 1) for kernels in fresh]
    assert np.median(errors) < (0.03 if shares else 0.05)
    assert np.quantile(errors, 0.9) < (0.08 if shares else 0.12)


def test_the_interval_holds_nine_in_ten_of_new_measurements() -> None:
    """Each calibration's coverage is itself a random number, so it is the mean over several that must be right."""
    coverage = []
    for seed in range(3):
        model = fitted(measurements(40, seed=10 + seed))
        held = measurements(150, seed=100 + seed)
        estimates = [model.predict(item.kernels) for item in held]
        inside = [e.low_ms <= m.latency_ms_p50 <= e.high_ms for e, m in zip(estimates, held, strict=True)]
        coverage.append(float(np.mean(inside)))
        widths = [estimate.high_ms / estimate.low_ms for estimate in estimates]
        assert np.median(widths) < 1.5
    assert 0.83 <= np.mean(coverage) <= 0.97


def test_what_it_says_of_itself_is_cross_validated(model: LatencyModel) -> None:
    assert model.quality.networks == 40
    assert 0.01 < model.quality.median_error_rel < 0.08
    assert 0.85 <= model.quality.coverage <= 0.97


def test_a_kind_never_measured_is_named_lowers_coverage_and_widens(model: LatencyModel) -> None:
    kernels = network(np.random.default_rng(5))
    odd = KernelSpec("op:GridSample", "warp", 0, 4_000_000, 0, 4_000_000)
    plain, with_odd = model.predict(kernels), model.predict([*kernels, odd])
    assert (plain.coverage, plain.unknown_kinds) == (1.0, ())
    assert with_odd.unknown_kinds == ("op:GridSample",)
    assert with_odd.coverage < 0.95
    assert with_odd.latency_ms > plain.latency_ms
    assert with_odd.high_ms / with_odd.low_ms > 1.1 * plain.high_ms / plain.low_ms
    assert with_odd.per_kernel[-1][:2] == ("warp", "op:GridSample")
    assert with_odd.per_kernel[-1][2] > 0


def test_a_tiny_unknown_kernel_still_lowers_coverage(model: LatencyModel) -> None:
    kernels = network(np.random.default_rng(5))
    estimate = model.predict([*kernels, KernelSpec("op:Mod", "mod", 0, 4, 0, 4)])
    assert estimate.coverage < 1.0


def test_larger_networks_take_longer(model: LatencyModel) -> None:
    for seed in range(10):
        by_width = [
            model.predict(network(np.random.default_rng(seed), width=width, side=64)).latency_ms
            for width in (0.25, 0.5, 1.0, 2.0, 4.0)
        ]
        by_side = [
            model.predict(network(np.random.default_rng(seed), width=1.0, side=side)).latency_ms
            for side in (32, 64, 128, 256, 512)
        ]
        assert by_width == sorted(by_width)
        assert by_side == sorted(by_side)


def test_far_outside_the_measured_sizes_it_stays_near_the_law_and_says_so(model: LatencyModel) -> None:
    inside = model.predict(network(np.random.default_rng(2), width=1.0, side=64))
    kernels = network(np.random.default_rng(2), width=4.0, side=512)
    huge = model.predict(kernels)
    assert huge.extrapolation > 1.0
    assert inside.extrapolation == 0.0
    assert huge.high_ms / huge.low_ms > 1.5 * inside.high_ms / inside.low_ms
    assert huge.low_ms <= law_ms(kernels) <= huge.high_ms


def test_an_estimate_is_positive_ordered_and_adds_up(model: LatencyModel) -> None:
    tiny = [KernelSpec("elementwise", "one", 0, 4, 0, 4)]
    for kernels in (tiny, network(np.random.default_rng(3))):
        estimate = model.predict(kernels)
        assert 0 < estimate.low_ms <= estimate.latency_ms <= estimate.high_ms
        assert sum(ms for _, _, ms in estimate.per_kernel) == pytest.approx(estimate.latency_ms)
    assert json.loads(json.dumps(estimate.to_dict()))["level"] == 0.9
    with pytest.raises(ValueError, match="at least one kernel"):
        model.predict([])


def test_the_reference_takes_a_slow_hour_out_of_the_measurements() -> None:
    rng = np.random.default_rng(4)
    values = []
    for _ in range(40):
        kernels = network(rng)
        speed = float(rng.choice([1.0, 1.0, 1.3]))
        value = measurement(kernels, rng, noise=0.01, reference_ms=speed)
        values.append(
            Measurement.from_dict({**value.to_dict(), "latency_ms_p50": value.latency_ms_p50 * speed}).with_kernels(
                kernels
            )
        )
    model = fitted(values)
    fresh = [network(rng) for _ in range(50)]
    assert np.median([abs(model.predict(kernels).latency_ms / law_ms(kernels) - 1) for kernels in fresh]) < 0.05


def test_noisier_measurements_give_wider_intervals() -> None:
    rng = np.random.default_rng(6)
    networks = [network(rng) for _ in range(40)]
    widths = []
    for noise in (0.01, 0.1):
        model = fitted([measurement(kernels, rng, noise=noise) for kernels in networks])
        estimate = model.predict(networks[0])
        widths.append(estimate.high_ms / estimate.low_ms)
    assert widths[1] > 1.2 * widths[0]


def test_saving_and_loading_changes_nothing(model: LatencyModel, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.json"
    model.save(path)
    loaded = LatencyModel.load(path, fingerprint=FINGERPRINT)
    rng = np.random.default_rng(7)
    for _ in range(5):
        kernels = network(rng)
        assert loaded.predict(kernels) == model.predict(kernels)
    assert (loaded.quality, loaded.kinds, loaded.fitted_at) == (model.quality, model.kinds, model.fitted_at)
    again = tmp_path / "again.json"
    loaded.save(again)
    assert again.read_text() == path.read_text()


def test_a_missing_model_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no latency model at .*run `paretoseg calibrate"):
        LatencyModel.load(tmp_path / "model.json")


@pytest.mark.parametrize("damage", ["cut", "binary", "other", "missing", "type", "list"])
def test_a_damaged_model_is_named(model: LatencyModel, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.json"
    model.save(path)
    text = path.read_text()
    value = json.loads(text)
    if damage == "cut":
        path.write_text(text[: len(text) // 2])
    elif damage == "binary":
        path.write_bytes(b"\xff\xfe\x00\x81")
    elif damage == "other":
        path.write_text('{"a": 1}')
    elif damage == "missing":
        del value["correction"]["weights"]
        path.write_text(json.dumps(value))
    elif damage == "type":
        value["prior"]["cost_ms"] = "none"
        path.write_text(json.dumps(value))
    else:
        path.write_text("[]")
    with pytest.raises(UserError, match=r"model\.json is damaged"):
        LatencyModel.load(path)


def test_another_version_is_refused(model: LatencyModel, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    model.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(UserError, match="has version 99"):
        LatencyModel.load(path)


def test_another_machine_is_refused_and_the_difference_named(model: LatencyModel, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    model.save(path)
    with pytest.raises(UserError, match=r"another machine.*threads: 1 there, 2 here"):
        LatencyModel.load(path, fingerprint={**FINGERPRINT, "threads": 2})


def test_measurements_of_different_machines_are_never_mixed() -> None:
    values = measurements(10, seed=0)
    rng = np.random.default_rng(0)
    values.append(measurement(network(rng), rng, fingerprint={**FINGERPRINT, "cpu": "another"}))
    with pytest.raises(ValueError, match="never mixed"):
        fitted(values)


def test_too_few_networks_are_refused_even_when_measured_often() -> None:
    rng = np.random.default_rng(0)
    kernels = network(rng)
    with pytest.raises(UserError, match="at least 5 networks, 1 "):
        fitted([measurement(kernels, rng) for _ in range(20)])
    with pytest.raises(UserError, match="at least 5"):
        fitted([])


def test_five_networks_are_enough_for_a_wide_honest_interval() -> None:
    model = fitted(measurements(5, seed=8))
    estimate = model.predict(network(np.random.default_rng(9)))
    assert 0 < estimate.low_ms < estimate.latency_ms < estimate.high_ms


def test_the_conformal_quantile_is_corrected_for_the_number_of_scores() -> None:
    assert conformal_quantile(np.arange(1.0, 20.0), 0.9) == 18.0
    assert conformal_quantile(np.arange(1.0, 6.0), 0.9) == pytest.approx(6.0)
