"""The latency report's numbers, on networks made up from a known law of cost, where the right answer can be worked out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hw_latency_model import KernelSpec, LatencyEstimate, LatencyModel, Measurement
from hw_latency_model.report.kernels import shape_words
from hw_latency_model.report.latency_report import NextMeasurement, Reading, build_latency_report
from hw_latency_model.report.left_out import LeftOut
from hw_latency_model.report.networks import by_network, coverage_bands, errors_by_family, wilson

DEVICE = "bench-board"
FINGERPRINT = {"device": DEVICE, "runtime": "made up 1.0"}
COST_MS = {"conv": (0.02, 0.4), "pointwise": (0.03, 0.6), "depthwise": (0.06, 0.8), "elementwise": (0.0, 0.5)}
"""Per MMAC, and per MB of activations."""


def kernel(kind: str, name: str, channels: tuple[int, int], side: int, size: int = 1) -> KernelSpec:
    inner, outer = channels
    weights = inner * outer * size * size if kind in ("conv", "pointwise") else outer * size * size
    return KernelSpec(
        kind,
        name,
        macs=0 if kind == "elementwise" else weights * side * side,
        input_bytes=4 * inner * side * side,
        weight_bytes=4 * weights,
        output_bytes=4 * outer * side * side,
        in_channels=inner,
        out_channels=outer,
        kernel=(size, size),
        stride=(1, 1),
        groups=outer if kind == "depthwise" else 1,
        in_hw=(side, side),
        out_hw=(side, side),
    )


def cost_ms(item: KernelSpec) -> float:
    macs, moved = COST_MS[item.kind]
    return macs * item.macs / 1e6 + moved * item.activation_bytes / 1e6 + 0.003


def network(index: int) -> tuple[KernelSpec, ...]:
    rng = np.random.default_rng(index)
    side, channels, kernels = 64, 16, [kernel("conv", "stem", (16, 16), 64, 3)]
    for stage in range(3):
        side //= 2
        outer = int(rng.integers(2, 9)) * 8 * 2**stage
        for block in range(int(rng.integers(1, 4))):
            name = f"{stage}.{block}"
            if index % 2:
                kernels.append(kernel("pointwise", f"{name}.a", (channels, outer), side))
                kernels.append(kernel("depthwise", f"{name}.b", (outer, outer), side, 3))
            else:
                kernels.append(kernel("conv", f"{name}.a", (channels, outer), side, 3))
            kernels.append(kernel("elementwise", f"{name}.add", (outer, outer), side))
            channels = outer
    return tuple(kernels)


def measured(index: int, **facts: Any) -> Measurement:
    kernels = network(index)
    costs = [cost_ms(item) for item in kernels]
    usual: dict[str, Any] = {
        "latency_ms_p50": sum(costs) * float(np.random.default_rng(1000 + index).lognormal(0.0, 0.02)),
        "reference_ms": 1.0,
        "noise_rel": 0.02,
        "started_at": f"2026-11-23T10:{index:02d}:00+00:00",
        "family": "separable" if index % 2 else "dense",
        "kernels": kernels,
        "kernel_shares": tuple(cost / sum(costs) for cost in costs),
    }
    values = {**usual, **facts}
    p50 = values["latency_ms_p50"]
    return Measurement(
        subject=f"net{index}",
        device=DEVICE,
        latency_ms_p90=1.1 * p50,
        latency_ms_p99=1.2 * p50,
        runs=40,
        fingerprint=FINGERPRINT,
        **values,
    )


@pytest.fixture(scope="module")
def measurements() -> list[Measurement]:
    return [measured(index) for index in range(16)]


@pytest.fixture(scope="module")
def model(measurements: list[Measurement]) -> LatencyModel:
    return LatencyModel.fit(measurements, device=DEVICE, fingerprint=FINGERPRINT)


def twice_too_slow(networks: Sequence[Sequence[Measurement]]) -> LeftOut:
    """Stands in for refitting: a prediction of twice the latency, whose interval reaches from half of it up."""
    times = [items[0].latency_ms_p50 for items in networks]
    return LeftOut([LatencyEstimate(2 * ms, 0.99 * ms, 3 * ms, 1.0) for ms in times])


def test_each_network_is_predicted_by_a_model_that_did_not_see_it(
    model: LatencyModel, measurements: list[Measurement]
) -> None:
    strange = measured(7, latency_ms_p50=50 * measurements[7].latency_ms_p50)
    items = [*measurements[:7], strange, *measurements[8:]]
    fooled = LatencyModel.fit(items, device=DEVICE, fingerprint=FINGERPRINT)
    report = build_latency_report(fooled, items)
    assert sorted(reading.name for reading in report.parity) == sorted(item.subject for item in items)
    reading = next(reading for reading in report.parity if reading.name == "net7")
    assert reading.error_rel is not None and reading.error_rel < -0.8 and reading.inside is False
    assert report.errors is not None and report.errors.worst_error_rel == pytest.approx(abs(reading.error_rel))


def test_a_family_never_seen_is_harder_than_a_network_never_seen(
    model: LatencyModel, measurements: list[Measurement]
) -> None:
    report = build_latency_report(model, measurements)
    assert report.errors is not None and report.held_out_family_errors is not None
    assert report.errors.median_error_rel < 0.06
    assert report.held_out_family_errors.median_error_rel > report.errors.median_error_rel
    assert {group.name for group in report.held_out_families} == {"dense", "separable"}
    assert "whole family left out" in report.summary
    one = build_latency_report(model, measurements, family_of=lambda item: "one")
    assert one.held_out_family == () and one.held_out_family_errors is None


def test_errors_are_those_of_the_readings(model: LatencyModel, measurements: list[Measurement]) -> None:
    report = build_latency_report(model, measurements, leave_out=twice_too_slow)
    assert report.errors is not None
    assert report.errors.median_error_rel == pytest.approx(1.0) and report.errors.within10 == 0.0
    assert {group.name: group.networks for group in report.families} == {"dense": 8, "separable": 8}
    assert [band.share for band in report.coverage] == [1.0] * 4
    assert [reading.measured_ms for reading in report.parity] == sorted(m.latency_ms_p50 for m in measurements)
    assert "measure more of the families" in " ".join(report.advice)


def test_a_slow_moment_of_the_device_is_no_error_of_the_model(measurements: list[Measurement]) -> None:
    exponent = 1.0
    slow = [
        replace(item, latency_ms_p50=1.5**exponent * item.latency_ms_p50, reference_ms=1.5) if index % 3 == 0 else item
        for index, item in enumerate(measurements)
    ]
    model = LatencyModel.fit(slow, device=DEVICE, fingerprint=FINGERPRINT)
    report = build_latency_report(
        model, slow, leave_out=lambda nets: LeftOut([model.predict(items[0].kernels) for items in nets])
    )
    usual = {item.subject: item.latency_ms_p50 for item in measurements}
    assert model.quality.speed_exponent == exponent
    for reading in report.parity:
        assert reading.measured_ms == pytest.approx(usual[reading.name])
    assert {round(reading.raw_ms / reading.measured_ms, 3) for reading in report.parity} == {1.0, 1.5}


def test_a_network_measured_twice_counts_once_and_shows_the_drift(
    model: LatencyModel, measurements: list[Measurement]
) -> None:
    again = replace(
        measurements[3],
        subject="another name",
        started_at="2026-11-24T10:00:00+00:00",
        latency_ms_p50=1.1 * measurements[3].latency_ms_p50,
        reference_ms=1.2,
    )
    report = build_latency_report(model, [*measurements, again], leave_out=twice_too_slow)
    assert len(report.parity) == 16 and sum(reading.measurements for reading in report.parity) == 17
    drift = report.drift
    assert drift is not None and len(drift.references) == 17 and drift.references[-1].reference_ms == 1.2
    assert [item.name for item in drift.repeated] == ["net3"]
    assert drift.repeated[0].change_rel == pytest.approx(0.1) == drift.median_repeat_rel


def test_a_reference_that_rises_is_told(model: LatencyModel, measurements: list[Measurement]) -> None:
    rising = [replace(item, reference_ms=1.0 + 0.02 * index) for index, item in enumerate(measurements)]
    report = build_latency_report(model, rising, leave_out=twice_too_slow)
    assert report.drift is not None and report.drift.trend_rel > 0.15
    assert "lock the clocks" in " ".join(report.advice)


def test_the_kernel_that_model_and_profile_disagree_on_stands_first(
    model: LatencyModel, measurements: list[Measurement]
) -> None:
    item = measurements[4]
    stem = item.kernels[0]
    costs = np.array([cost_ms(kernel) for kernel in item.kernels])
    costs[0] += 3 * costs.sum()
    odd = replace(item, kernel_shares=tuple(float(share) for share in costs / costs.sum()))
    others = [other for other in measurements if other is not item]
    report = build_latency_report(model, [odd, *others], leave_out=twice_too_slow)
    worst = report.worst_kernels[0]
    assert (worst.kind, worst.shape, worst.network) == ("conv", shape_words(stem), "net4")
    assert worst.effect_rel < -0.4 and worst.occurrences == 16
    kinds = {kind.kind: kind for kind in report.kinds}
    assert set(kinds) == set(COST_MS)
    assert sum(kind.time_share for kind in report.kinds) == pytest.approx(1.0)
    assert kinds["depthwise"].networks == 8


def test_without_a_profile_nothing_is_said_of_kernels(model: LatencyModel, measurements: list[Measurement]) -> None:
    blind = [replace(item, kernel_shares=()) for item in measurements]
    report = build_latency_report(model, blind, leave_out=twice_too_slow)
    assert report.kinds == () and report.worst_kernels == ()


def test_shapes_read_as_people_write_them() -> None:
    spec = KernelSpec("conv", "c", 1, 1, 1, 1, 3, 32, (3, 3), (2, 2), 1, (96, 128), (48, 64), ("relu",))
    assert shape_words(spec) == "3×3 /2, 3 → 32 channels, 96×128 → 48×64, +relu"
    assert shape_words(KernelSpec("op:Odd", "o", 0, 1, 0, 1)) == "no shape"


def test_too_few_networks_are_not_compared(measurements: list[Measurement]) -> None:
    few = measurements[:6]
    model = LatencyModel.fit(few, device=DEVICE, fingerprint=FINGERPRINT)
    report = build_latency_report(model, few)
    assert report.parity == () and report.errors is None and report.coverage == ()
    assert "too few" in report.checked and "6 networks are few" in " ".join(report.advice)
    assert report.kinds and report.drift is not None


def test_a_model_from_the_box_says_so_and_is_asked_itself(model: LatencyModel, measurements: list[Measurement]) -> None:
    bundled = replace(model, calibrated=False, provenance="public measurements of 2021", fingerprint={"board": "any"})
    alone = build_latency_report(bundled)
    assert "NOT CALIBRATED" in alone.summary and "public measurements of 2021" in alone.summary
    assert "paretoseg calibrate" in alone.summary and alone.parity == () and alone.drift is None
    held = build_latency_report(bundled, measurements[:5])
    assert len(held.parity) == 5
    for reading, item in zip(held.parity, sorted(measurements[:5], key=lambda m: m.latency_ms_p50), strict=True):
        assert reading.predicted_ms == model.predict(item.kernels).latency_ms


@pytest.mark.parametrize("other", [{"fingerprint": {"device": DEVICE, "runtime": "2.0"}}, {"precision": "fp16"}])
def test_measurements_of_another_set_up_are_refused(
    model: LatencyModel, measurements: list[Measurement], other: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="never mixed"):
        build_latency_report(model, [*measurements, replace(measurements[0], **other)])


def test_kinds_without_data_are_named_with_who_wants_them(model: LatencyModel, measurements: list[Measurement]) -> None:
    member = Reading("trial 3", "swin", 5.0, 3.0, 8.0, None, coverage=0.4, unknown_kinds=("op:Einsum", "softmax"))
    report = build_latency_report(
        model,
        measurements,
        leave_out=twice_too_slow,
        members=[member, replace(member, name="trial 4", unknown_kinds=("softmax",))],
    )
    assert [(row.kind, row.networks, row.wanted_by) for row in report.undersampled_kinds] == [
        ("softmax", 0, 2),
        ("op:Einsum", 0, 1),
    ]
    assert "softmax, op:Einsum" in " ".join(report.advice)
    assert report.members[0].inside is None and report.members[0].error_rel is None


def test_the_report_is_json_and_carries_what_to_measure_next(
    model: LatencyModel, measurements: list[Measurement]
) -> None:
    wanted = NextMeasurement("resnet · fpn", "widest interval", 4.0, 2.0, 8.0)
    report = build_latency_report(
        model,
        measurements,
        leave_out=twice_too_slow,
        suggest=lambda: [wanted],
        family_of=lambda item: "one",
        name_of=lambda item: item.subject.upper(),
    )
    value = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert value["next_measurements"][0]["name"] == "resnet · fpn"
    assert value["parity"][0]["family"] == "one" and value["parity"][0]["name"].startswith("NET")
    assert value["errors"]["networks"] == 16 and value["calibrated"] is True


def test_networks_are_told_apart_by_their_kernels_alone(measurements: list[Measurement]) -> None:
    renamed = replace(measurements[0], kernels=tuple(replace(k, name=f"x.{k.name}") for k in measurements[0].kernels))
    bare = replace(measurements[1], kernels=(), kernel_shares=())
    groups = by_network([*measurements, renamed, bare])
    assert sorted(map(len, groups)) == [1] * 15 + [2]


def reading(name: str, family: str, measured_ms: float, predicted_ms: float) -> Reading:
    return Reading(name, family, predicted_ms, 0.9 * predicted_ms, 1.1 * predicted_ms, measured_ms)


def test_families_stand_worst_first_and_the_unnamed_last() -> None:
    parity = [reading("a", "good", 1.0, 1.01), reading("b", "bad", 1.0, 1.5), reading("c", "", 1.0, 3.0)]
    groups = errors_by_family(parity)
    assert [group.name for group in groups] == ["bad", "good", "not stated"]
    assert groups[0].bias_rel == pytest.approx(0.5) and groups[0].inside == 0 and groups[1].inside == 1


def test_coverage_is_counted_by_thirds_with_honest_bounds() -> None:
    parity = [
        reading(str(index), "", float(index + 1), (index + 1) * (1.0 if index < 8 else 2.0)) for index in range(12)
    ]
    bands = {band.name: band for band in coverage_bands(parity)}
    assert [(bands[name].inside, bands[name].networks) for name in bands] == [(8, 12), (4, 4), (4, 4), (0, 4)]
    assert bands["all"].low < 8 / 12 < bands["all"].high
    assert len(coverage_bands(parity[:8])) == 1 and coverage_bands([]) == ()
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # R: prop.test(8, 10, correct = FALSE)
    assert wilson(0, 0) == (0.0, 1.0)
