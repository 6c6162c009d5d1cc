"""The model on measurements made up from a known law of cost: it finds the law, and its interval means what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hw_latency_model import KernelSpec, LatencyModel, Measurement
from hw_latency_model.bundled.load import models_to_start_from
from hw_latency_model.kernels.kinds import CLASSES
from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.conformal import Margins, Scores, conformal_quantile
from hw_latency_model.model.estimate import predict_log
from hw_latency_model.model.gaussian_process import GaussianProcess
from hw_latency_model.model.network_features import GROUPS
from hw_latency_model.model.roofline import Roofline
from hw_latency_model.model.start import fit_from_others
from hw_latency_model.report.advice import interval_advice
from search_spaces._common.errors import UserError

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


def test_many_at_once_are_the_same_as_one_by_one(model: LatencyModel) -> None:
    rng = np.random.default_rng(11)
    networks = [network(rng) for _ in range(30)]
    singly = [model.predict(kernels) for kernels in networks]
    together = model.predict_many([KernelTable.of(kernels) for kernels in networks], per_kernel=True)
    for one, other in zip(singly, together, strict=True):
        assert other.latency_ms == pytest.approx(one.latency_ms, rel=1e-9)
        assert (other.low_ms, other.high_ms) == pytest.approx((one.low_ms, one.high_ms), rel=1e-9)
        assert [part[:2] for part in other.per_kernel] == [part[:2] for part in one.per_kernel]


def separable_only(rng: np.random.Generator, slower: float = 1.0) -> tuple[list[KernelSpec], float]:
    """A family that the others are not like: without dense convolutions, and slower than the law says."""
    kernels = [kernel for kernel in network(rng) if kernel.kind != "conv"]
    return kernels, slower * sum(map(kernel_cost_ms, kernels))


def test_an_update_learns_a_family_without_the_old_measurements(model: LatencyModel) -> None:
    rng = np.random.default_rng(12)
    pairs = [separable_only(rng, slower=1.5) for _ in range(40)]
    values = [
        replace(measurement(kernels, rng, noise=0.0), latency_ms_p50=ms, family="new") for kernels, ms in pairs[:12]
    ]
    updated = model.update(values)
    held = pairs[12:]
    before = np.median([abs(model.predict(kernels).latency_ms / ms - 1) for kernels, ms in held])
    after = np.median([abs(updated.predict(kernels).latency_ms / ms - 1) for kernels, ms in held])
    assert before > 0.1
    assert after < 0.85 * before
    assert updated.quality.networks == model.quality.networks + 12
    assert updated.margins.near >= model.margins.near
    assert model.update([]) is model


def test_an_update_is_what_conditioning_on_all_at_once_gives() -> None:
    rng = np.random.default_rng(13)
    features = rng.normal(size=(30, 4))
    targets = np.sin(features).sum(axis=1)
    noise = rng.uniform(0.5, 2.0, size=30)
    first = GaussianProcess.fit(features[:20], targets[:20], noise[:20])
    extended = first.extended(features[20:], targets[20:], noise[20:])
    fresh = rng.normal(size=(5, 4))
    for one, other in zip(
        extended.predict(fresh), extended.given(features, targets, noise).predict(fresh), strict=True
    ):
        assert np.allclose(one, other, rtol=1e-6)


def test_an_update_survives_the_file(model: LatencyModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model.json")
    loaded = LatencyModel.load(tmp_path / "model.json")
    values = measurements(3, seed=14)
    kernels = network(np.random.default_rng(15))
    assert loaded.update(values).predict(kernels).latency_ms == pytest.approx(
        model.update(values).predict(kernels).latency_ms, rel=1e-9
    )


def test_the_interval_holds_for_families_never_measured() -> None:
    """Families differ by what no kernel shows; the margin for them comes from families that were left out."""
    coverage = []
    for seed in range(4):
        rng = np.random.default_rng(100 + seed)
        known = [item for index in range(15) for item in quirky(f"known {index}", 8, rng)]
        held = [item for index in range(25) for item in quirky(f"new {index}", 4, rng)]
        model = fitted(known)
        assert model.quality.families == 15
        estimates = model.predict_many([item.kernels for item in held])
        inside = [e.low_ms <= m.latency_ms_p50 <= e.high_ms for e, m in zip(estimates, held, strict=True)]
        coverage.append(float(np.mean(inside)))
    assert 0.85 <= np.mean(coverage) <= 0.97


def quirky(name: str, count: int, rng: np.random.Generator) -> list[Measurement]:
    """Networks of one family, all faster or slower than the law by the same factor."""
    quirk = float(np.exp(0.12 * rng.standard_normal()))
    found = []
    for _ in range(count):
        kernels = network(rng)
        found.append(replace(measurement(kernels, rng, family=name), latency_ms_p50=quirk * law_ms(kernels)))
    return found


def test_margins_grow_with_distance_and_stop_growing() -> None:
    margins = Margins(near=2.0, far=4.0, near_distance=0.1, far_distance=0.5, end_distance=1.0)
    found = margins.at(np.array([0.0, 0.1, 0.3, 0.5, 0.9, 1.5, 100.0]))
    assert found == pytest.approx([2.0, 2.0, 3.0, 4.0, 4.0, 6.0, 8.0])
    assert Margins(near=2.0, far=2.0).at(np.array([0.0, 9.0])) == pytest.approx([2.0, 2.0])


def test_another_devices_prior_is_scaled_and_corrected_by_a_few_measurements(model: LatencyModel) -> None:
    """A device twice as slow as the one that the prior was fitted on, of which six networks were measured."""
    rng = np.random.default_rng(17)
    values = []
    for _ in range(6):
        kernels = network(rng)
        values.append(replace(measurement(kernels, rng, noise=0.01), latency_ms_p50=2.0 * law_ms(kernels)))
    moved = LatencyModel.fit(values, device=DEVICE, fingerprint=FINGERPRINT, prior=model.fit_result.prior)
    assert moved.fit_result.prior is model.fit_result.prior
    fresh = [network(rng) for _ in range(30)]
    errors = [abs(moved.predict(kernels).latency_ms / (2.0 * law_ms(kernels)) - 1) for kernels in fresh]
    assert np.median(errors) < 0.06


class Tactics:
    """A prior that knows which shapes a device is slow at, which no sum over kinds of kernel can say."""

    prior_type = "tactics"
    kinds = tuple(LAW)

    def __init__(self, slow: int) -> None:
        self.slow = slow

    def kernel_ms(self, kernels: Sequence[KernelSpec]) -> np.ndarray:
        return np.array(
            [kernel_cost_ms(kernel) * (4.0 if kernel.out_channels // 8 % 3 == self.slow else 1.0) for kernel in kernels]
        )

    def table_ms(self, table: KernelTable) -> np.ndarray:
        return self.kernel_ms(table.kernels)


def test_a_calibration_starts_from_the_device_that_is_like_it_and_from_none_that_is_not(model: LatencyModel) -> None:
    """Ten networks of a device that is twice as slow as another one, at the same shapes, and a third that is slow at others."""
    rng, there = np.random.default_rng(23), Tactics(1)

    def measured_ms(kernels: list[KernelSpec]) -> float:
        return 2.0 * float(there.kernel_ms(kernels).sum())

    networks = [network(rng) for _ in range(10)]
    values = [replace(measurement(item, rng, noise=0.0), latency_ms_p50=measured_ms(item)) for item in networks]
    alike, unlike = (
        replace(model, fit_result=replace(model.fit_result, prior=prior))  # type: ignore[arg-type]
        for prior in (there, Tactics(2))
    )

    def fit(others: dict[str, LatencyModel]) -> tuple[LatencyModel, str]:
        return fit_from_others(values, others, device=DEVICE, fingerprint=FINGERPRINT)

    fresh = [network(rng) for _ in range(30)]

    def error(found: LatencyModel) -> float:
        return float(np.median([abs(found.predict(item).latency_ms / measured_ms(item) - 1) for item in fresh]))

    (own, no_source), (started, source) = fit({}), fit({"unlike": unlike, "alike": alike})
    assert (no_source, source) == ("", "alike") and started.fit_result.prior is there
    assert fit({"unlike": unlike})[1] == ""
    assert error(started) < 0.5 * error(own)


def test_models_to_start_from_are_bundled_named_or_beside_the_calibration(model: LatencyModel, tmp_path: Path) -> None:
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        model.save(tmp_path / name / "latency_model.json")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "latency_model.json").write_text("{")
    own = tmp_path / "own"
    assert set(models_to_start_from(["auto"], "fp32", own)) == {"jetson-nano", "other"}
    assert set(models_to_start_from(["other", "nano"], "fp32", own)) == {"other", "nano"}
    assert models_to_start_from([], "fp32", own) == {}
    for name, words in (("nowhere", "no latency model of nowhere"), ("damaged", "damaged")):
        with pytest.raises(UserError, match=words):
            models_to_start_from([name], "fp32", own)
    with pytest.raises(UserError, match="starts from models of latency in fp16 only"):
        models_to_start_from(["other"], "fp16", own)


def bundled(model: LatencyModel) -> LatencyModel:
    return LatencyModel.from_prior(
        model.fit_result.prior,
        device="jetson-nano",
        precision="fp16",
        fingerprint={"device": "jetson-nano"},
        log_std=0.3,
        quality=model.quality,
        provenance="made up",
        networks=[network(np.random.default_rng(seed), width=1.0, side=64) for seed in range(5)],
    )


def test_a_bundled_prior_says_that_it_is_not_calibrated_and_is_wide(model: LatencyModel, tmp_path: Path) -> None:
    prior = bundled(model)
    prior.save(tmp_path / "bundled.json")
    loaded = LatencyModel.load(tmp_path / "bundled.json")
    assert (loaded.calibrated, loaded.provenance, loaded.precision) == (False, "made up", "fp16")
    kernels = network(np.random.default_rng(1), width=1.0, side=64)
    estimate = loaded.predict(kernels)
    assert estimate == prior.predict(kernels)
    assert estimate.high_ms / estimate.latency_ms == pytest.approx(np.exp(1.645 * 0.3), rel=0.05)
    assert loaded.predict(network(np.random.default_rng(1), width=4.0, side=512)).extrapolation > 0.5
    facts = {"device": "jetson-nano", "fingerprint": {"device": "jetson-nano"}, "precision": "fp16"}
    updated = loaded.update([replace(item, **facts) for item in measurements(3, seed=18)])
    assert updated.calibrated


def test_a_model_of_the_first_release_is_still_read(model: LatencyModel, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    plain = replace(model, scores=None)
    plain.save(path)
    value = json.loads(path.read_text())
    for name in ("target", "calibrated", "provenance", "prior_type", "margins", "offset", "scores"):
        del value[name]
    value["quality"] = {name: item for name, item in value["quality"].items() if not name.startswith("famil")}
    path.write_text(json.dumps({**value, "version": 1, "margin": 2.5}))
    old = LatencyModel.load(path)
    assert (old.calibrated, old.target, old.scores) == (True, "latency_ms", None)
    kernels = network(np.random.default_rng(2))
    assert old.predict(kernels).latency_ms == model.predict(kernels).latency_ms
    assert old.margins.at(np.array([0.0, 5.0])) == pytest.approx([2.5, 2.5])
    assert old.update(measurements(2, seed=1)).quality.networks == 42


def test_energy_and_peak_memory_are_predicted_by_the_same_machinery() -> None:
    rng = np.random.default_rng(19)
    networks = [network(rng) for _ in range(50)]

    def energy(kernels: list[KernelSpec]) -> float:
        return sum(2.0 * kernel_cost_ms(k) + 3.0 * k.activation_bytes / 1e6 for k in kernels)

    def memory(kernels: list[KernelSpec]) -> float:
        return 30.0 + sum(k.weight_bytes for k in kernels) / 1e6 + 2 * max(k.activation_bytes for k in kernels) / 1e6

    values = [
        replace(measurement(kernels, rng), energy_mj=energy(kernels), memory_peak_mb=memory(kernels))
        for kernels in networks
    ]
    for target, truth, error in (("energy_mj", energy, 0.05), ("memory_peak_mb", memory, 0.03)):
        model = LatencyModel.fit(values, device=DEVICE, fingerprint=FINGERPRINT, target=target)
        fresh = [network(rng) for _ in range(40)]
        estimates = model.estimate(fresh)
        assert {item.target for item in estimates} == {target}
        found = [abs(item.value / truth(kernels) - 1) for item, kernels in zip(estimates, fresh, strict=True)]
        assert np.median(found) < error
        with pytest.raises(ValueError, match="is no latency"):
            model.predict(fresh[0])


def test_a_target_that_was_not_measured_is_refused_with_the_next_step() -> None:
    with pytest.raises(UserError, match=r"has no energy_mj; measure it on a board"):
        LatencyModel.fit(measurements(10, seed=0), device=DEVICE, fingerprint=FINGERPRINT, target="energy_mj")
    with pytest.raises(UserError, match="one of latency_ms, energy_mj, memory_peak_mb, not 'speed'"):
        LatencyModel.fit(measurements(10, seed=0), device=DEVICE, fingerprint=FINGERPRINT, target="speed")


def test_suggestions_cover_unknown_kinds_first_and_keep_the_budget(model: LatencyModel) -> None:
    rng = np.random.default_rng(20)
    candidates = [network(rng, width=1.0, side=64) for _ in range(20)]
    candidates[7] = [*candidates[7], KernelSpec("op:GridSample", "warp", 0, 4000, 0, 4000)]
    candidates[13] = network(rng, width=4.0, side=256)
    order = model.suggest_measurements(candidates, 5)
    assert order[0] == 7
    assert len(order) == len(set(order)) == 5
    priced = model.suggest_measurements(candidates, 10.0, cost=lambda estimate: estimate.latency_ms)
    spent = sum(model.predict(candidates[index]).latency_ms for index in priced)
    assert 0 < spent <= 10.0
    assert model.suggest_measurements([], 5) == []
    with pytest.raises(ValueError, match="above 0"):
        model.suggest_measurements(candidates, 5, cost=lambda estimate: 0.0)


def test_suggested_measurements_teach_more_than_the_same_network_over_and_over(model: LatencyModel) -> None:
    rng = np.random.default_rng(21)
    pool = [separable_only(rng, slower=1.5) for _ in range(40)]
    chosen = model.suggest_measurements([kernels for kernels, _ in pool], 6)
    kernels, _ = pool[chosen[0]]
    doubled = [kernels] * 40
    assert len({json.dumps([k.to_dict() for k in pool[index][0]]) for index in chosen}) == 6
    assert len(model.suggest_measurements(doubled, 6)) == 6


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


def test_a_saved_roofline_has_the_kernel_class_names_of_the_first_release(model: LatencyModel) -> None:
    prior = model.fit_result.prior
    assert isinstance(prior, Roofline)
    stored = prior.to_dict()
    assert set(stored["class_cost_ms"]) == {"dense", "depthwise", "moving"}
    assert set(Roofline.from_dict(stored).class_cost_ms) == set(prior.class_cost_ms) == set(CLASSES)


def test_groups_of_networks_have_intervals_of_their_own() -> None:
    rng = np.random.default_rng(22)
    easy, hard = np.abs(rng.normal(0, 1.0, 200)), np.abs(rng.normal(0, 3.0, 50))
    group = np.repeat([0, 1], [200, 50])
    scores = Scores(np.concatenate([easy, hard]), np.zeros(250), np.zeros(0), np.zeros(0), 0, group)
    scores = Scores.from_dict(json.loads(json.dumps(scores.to_dict())))
    margins = scores.group_margins(0.9, GROUPS)
    assert np.mean(easy <= margins["dense"].near) == pytest.approx(0.9, abs=0.02)
    assert np.mean(hard <= margins["depthwise"].near) == pytest.approx(0.9, abs=0.04)
    assert np.mean(hard <= scores.margins(0.9).near) < 0.75
    few = scores.with_near(np.full(3, 50.0), np.zeros(3), np.ones(3, dtype=int))
    assert few.group_margins(0.9, GROUPS)["depthwise"].near > margins["depthwise"].near
    assert few.group_margins(0.9, GROUPS)["dense"] == margins["dense"]


def test_assumed_spreads_are_not_multiplied_by_the_margin_of_the_measured_ones(model: LatencyModel) -> None:
    kernels = [*network(np.random.default_rng(3)), KernelSpec("op:GridSample", "warp", 0, 10**6, 0, 10**6)]
    wide = replace(model, margins=Margins(9.0, 9.0), group_margins={}, bounds=None)
    table = KernelTable.of(kernels)
    found = predict_log(model.fit_result, table, model.fit_result.prior.table_ms(table))
    half = np.log(wide.predict(kernels).high_ms / wide.predict(kernels).latency_ms)
    assumed = 1.645 * np.hypot(found.unknown[0], 0.25 * found.outside[0])
    assert half == pytest.approx(np.hypot(9.0 * found.log_std[0], assumed), rel=1e-3)


def test_far_from_the_calibration_physics_bounds_the_interval_and_the_estimate_says_measure(
    model: LatencyModel,
) -> None:
    far = [replace(kernel, kind=f"op:Odd{index}") for index, kernel in enumerate(network(np.random.default_rng(4)))]
    loose = replace(model, margins=Margins(60.0, 60.0), group_margins={})
    estimate, unbounded = loose.predict(far), replace(loose, bounds=None).predict(far)
    assert unbounded.high_ms / unbounded.low_ms > estimate.high_ms / estimate.low_ms
    assert estimate.low_ms <= law_ms(far) <= estimate.high_ms
    assert estimate.too_far
    advice = interval_advice(estimate, "net.onnx", device="local-cpu", precision="fp32", runtime="onnxruntime")
    assert "measure it" in advice[1]
    assert "net.onnx" in advice[1]
    near = model.predict(network(np.random.default_rng(5)))
    assert not near.too_far
    odd = model.predict([*network(np.random.default_rng(6)), KernelSpec("op:GridSample", "warp", 0, 10**6, 0, 10**6)])
    assert odd.width_cause == "unknown kernels"
    said = interval_advice(odd, "net.onnx", device="nano", precision="fp16", runtime="tensorrt")
    assert "op:GridSample" in said[0]
