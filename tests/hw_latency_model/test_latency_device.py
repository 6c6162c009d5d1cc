"""This machine as a device: a real file is really timed, and a calibration ends in a model that can be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exports import export_onnx
from hw_latency_model import (
    LatencyModel,
    LocalCpuDevice,
    Measurement,
    MeasurementStore,
    calibrate,
    get_device,
    kernels_from_module,
    kernels_from_onnx,
    measure_bundle,
)
from hw_latency_model.local.calibration import measure_candidate
from hw_latency_model.local.protocol import ProtocolSettings, time_network
from hw_latency_model.local.reference_network import write_reference
from hw_latency_model.local.sampling import covering_order
from search_spaces import get_space
from search_spaces._common.errors import UserError

QUICK = ProtocolSettings(min_runs=5, max_runs=10, max_s=0.05, warmup_max_s=0.02, reference_runs=3, max_repeats=0)


@pytest.fixture(scope="module")
def onnx_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference(tmp_path_factory.mktemp("device") / "small.onnx")


def test_a_real_file_is_measured(onnx_path: Path) -> None:
    device = LocalCpuDevice()
    result = device.measure(onnx_path)
    assert 0 < result.latency_ms_p50 <= result.latency_ms_p90 <= result.latency_ms_p99
    assert result.runs >= 20
    assert (result.subject, result.device, result.precision) == ("small", "local-cpu", "fp32")
    assert result.fingerprint == device.fingerprint()
    assert result.reference_ms > 0
    assert 0 <= result.waited_rel <= 1
    assert result.noise_rel >= result.drift_rel >= 0
    assert result.started_at.endswith("+00:00")


def test_the_fingerprint_tells_machines_and_settings_apart() -> None:
    fingerprint = LocalCpuDevice().fingerprint()
    assert fingerprint == LocalCpuDevice().fingerprint()
    assert fingerprint["cpu"] and fingerprint["runtime"].startswith("onnxruntime ")
    assert LocalCpuDevice(threads=2).fingerprint() != fingerprint


def test_a_bundle_is_measured_with_its_kernels_by_folder_or_file(onnx_path: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx_path.read_bytes())
    for path in (tmp_path, tmp_path / "model.onnx"):
        result = measure_bundle(path, "local-cpu", settings=QUICK)
        assert [kernel.kind for kernel in result.kernels][:3] == ["narrow_conv", "pointwise", "depthwise"]


def test_the_runtime_is_asked_where_its_time_goes(onnx_path: Path) -> None:
    kernels = kernels_from_onnx(onnx_path)
    shares = LocalCpuDevice().kernel_shares(onnx_path, kernels)
    assert sum(shares) == pytest.approx(1.0)
    busy = {kernel.name for kernel, share in zip(kernels, shares, strict=True) if share > 0}
    assert {kernel.name for kernel in kernels if kernel.macs > 0} <= busy


def test_files_that_cannot_run_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.onnx"):
        LocalCpuDevice().measure(tmp_path / "absent.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"bad\.onnx"):
        LocalCpuDevice().measure(tmp_path / "bad.onnx")


def test_an_unknown_device_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"'local-cpu'.*Known devices"):
        get_device("local_cpu")


def drifting(steps: list[float]) -> Callable[[], None]:
    """A reference that does more and more work: one entry per run, the last for ever."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((60, 60))

    def run() -> None:
        for _ in range(int(10 * (steps.pop(0) if len(steps) > 1 else steps[0]))):
            matrix @ matrix

    return run


def test_a_reference_that_slows_down_is_noticed_repeated_and_marked() -> None:
    settings = ProtocolSettings(min_runs=4, max_runs=4, max_s=0.01, warmup_max_s=0.01, round_s=0.0, max_repeats=1)
    result = time_network(lambda: None, drifting([float(1.2**run) for run in range(50)]), settings, one_thread=True)
    assert result.noisy
    assert result.drift_rel > settings.max_drift_rel
    assert result.noise_rel >= result.drift_rel


def test_a_network_too_slow_for_the_runs_asked_for_ends_at_the_cap() -> None:
    settings = ProtocolSettings(min_runs=1000, cap_s=0.0, warmup_max_s=0.0, round_s=0.0, max_repeats=0)
    result = time_network(drifting([1.0]), drifting([1.0]), settings, one_thread=True)
    assert result.runs == 3


def test_the_sample_covers_families_decoders_and_sizes_early() -> None:
    space = get_space("encoder_decoder")
    order = covering_order(space, 40, seed=0)
    assert len({space.architecture_id(item) for item in order}) == 40
    assert order[0] == space.default()
    assert order == covering_order(space, 40, seed=0)
    params = {dimension.name: dimension for dimension in space.dimensions}
    for name in ("family", "decoder", "resolution", "prune_ratio"):
        seen = {item.params[name] for item in order}
        assert seen == set(params[name].choices), name  # type: ignore[union-attr]


def test_a_calibration_ends_in_a_model_and_a_second_one_adds_to_it(tmp_path: Path) -> None:
    options = {"families": ["resnet10t"], "widths": [0.25, 0.5], "resolutions_px": [[64, 64], [96, 96]]}
    space = get_space("encoder_decoder", {**options, "prune_ratios": [0.0, 0.5]})
    lines: list[str] = []
    first = calibrate(
        "local-cpu", space, 4, tmp_path, max_networks=5, budget_s=60, settings=QUICK, progress=lines.append
    )
    assert (first.measured, first.networks, len(lines)) == (5, 5, 5)
    assert first.model_path == tmp_path / "latency_model.json"
    second = calibrate("local-cpu", space, 4, tmp_path, max_networks=2, budget_s=60, settings=QUICK)
    assert (second.measured, second.networks) == (2, 7)
    device = LocalCpuDevice()
    assert len(MeasurementStore(second.store_path).all("local-cpu", device.fingerprint())) == 7
    model = LatencyModel.load(second.model_path, fingerprint=device.fingerprint())
    candidate = space.default()
    estimate = model.predict(kernels_from_module(space.build_pruned(candidate, 4), space.input_hw(candidate)))
    assert estimate.coverage == 1.0
    assert 0 < estimate.low_ms < estimate.latency_ms < estimate.high_ms
    assert "7" in second.summary and str(second.model_path) in second.summary
    assert second.to_dict()["networks"] == 7


def test_without_time_five_networks_are_measured_all_the_same(tmp_path: Path) -> None:
    options = {"families": ["resnet10t"], "widths": [0.25], "resolutions_px": [[64, 64], [96, 96]]}
    report = calibrate("local-cpu", get_space("encoder_decoder", options), 4, tmp_path, budget_s=0.0, settings=QUICK)
    assert report.measured == 5


def test_shares_are_of_the_kernels_own_time_and_copies_between_layouts_have_theirs(tmp_path: Path) -> None:
    """The profiler adds about two microseconds to each event: without taking them off, small kernels seem to be all."""
    space = get_space("encoder_decoder", {"families": ["mobilenetv3_small"], "decoders": ["lraspp"]})
    path = tmp_path / "net.onnx"
    export_onnx(space.build_pruned(space.default(), 4), (96, 128), path)
    kernels = kernels_from_onnx(path)
    shares = LocalCpuDevice().kernel_shares(path, kernels)
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares) >= 0.0
    tiny = [share for kernel, share in zip(kernels, shares, strict=True) if kernel.kind == "vector"]
    large = [share for kernel, share in zip(kernels, shares, strict=True) if kernel.macs > 1e6]
    assert sum(tiny) / len(tiny) < 0.2 * sum(large) / len(large)
    copies = [share for kernel, share in zip(kernels, shares, strict=True) if kernel.kind == "relayout"]
    assert all(share > 0.0 for share in copies)


def test_raw_samples_and_the_family_are_kept(tmp_path: Path) -> None:
    space = get_space("encoder_decoder", {"families": ["lcnet"], "widths": [0.25], "resolutions_px": [[64, 64]]})
    value = measure_candidate(LocalCpuDevice(), space, space.default(), 4, tmp_path, settings=QUICK)
    assert value.family == "lcnet"
    assert 0 < len(value.samples_ms) <= 200
    assert min(value.samples_ms) <= value.latency_ms_p50 <= max(value.samples_ms)
    assert Measurement.from_dict(value.to_dict()).samples_ms == value.samples_ms
