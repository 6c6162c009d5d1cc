"""Bundled latency models: marked as uncalibrated, with wide intervals, and close to published latencies."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.latency_published import main as published_main, run, summary
from benchmarks.nano_prior.networks import build_network
from benchmarks.nano_prior.published import PublishedRow
from exports import PROFILES
from hw_latency_model.bundled.load import FOLDER, bundled_names, calibrated_or_bundled, held_out_models, load_bundled
from hw_latency_model.kernels.extract import kernels_from_module, kernels_from_onnx
from hw_latency_model.kernels.runtimes import runtime_of
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.types import KernelSpec, Measurement
from search_spaces._common.errors import UserError


def kernels(name: str, hw: tuple[int, int]) -> list[KernelSpec]:
    return kernels_from_module(build_network(name), hw, runtime="tensorrt")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_bundled_model_says_that_it_is_not_calibrated(precision):
    model = load_bundled("nano", precision)
    assert not model.calibrated
    assert model.device == "jetson-nano"
    assert model.precision == precision
    assert "Not calibrated" in model.provenance
    assert runtime_of(model.fingerprint) == "tensorrt"


def test_only_what_is_in_the_box_is_loaded():
    later = ("jetson-orin-nano", "jetson-tx2", "jetson-xavier", "jetson-xavier-nx")
    assert sorted(bundled_names()) == [
        ("jetson-agx-orin", "fp16"),
        ("jetson-nano", "fp16"),
        ("jetson-nano", "fp32"),
        *((name, "fp16") for name in later),
    ]
    assert {name for name, _ in bundled_names()} <= PROFILES.keys()
    with pytest.raises(UserError, match="jetson-nano fp16"):
        load_bundled("jetson-nano", "int8")
    with pytest.raises(UserError, match="toaster"):
        load_bundled("toaster", "fp16")


def test_later_boards_are_faster_and_meet_what_was_published():
    published_ms = {
        "jetson-tx2": 11.02,
        "jetson-xavier-nx": 4.169,
        "jetson-xavier": 2.83,
        "jetson-orin-nano": 4.802,
        "jetson-agx-orin": 1.142,
    }
    network = kernels("resnet50", (224, 224))
    nano = load_bundled("jetson-nano", "fp16").predict(network)
    for name, ms in published_ms.items():
        estimate = load_bundled(name, "fp16").predict(network)
        assert estimate.low_ms < ms < estimate.high_ms < nano.low_ms, name
    assert load_bundled("jetson-orin-nano-jp60", "fp16").device == "jetson-orin-nano-jp60"


def test_at_5_watts_arithmetic_slows_with_the_clock_and_memory_does_not():
    fast, slow = load_bundled("jetson-nano", "fp16"), load_bundled("jetson-nano-5w", "fp16")
    assert (slow.device, slow.fingerprint["power_mode"]) == ("jetson-nano-5w", "5W")
    copy = [KernelSpec("concat", "c", 0, 4 * 10**8, 0, 4 * 10**8)]

    def slowdown(network: list[KernelSpec]) -> float:
        return slow.predict(network).latency_ms / fast.predict(network).latency_ms

    assert slowdown(copy) < slowdown(kernels("vgg16", (224, 224))) <= 1.5
    assert slowdown(kernels("vgg16", (224, 224))) > 1.4


def test_a_calibrated_model_goes_before_the_bundled_one(tmp_path):
    path = tmp_path / "latency_model.json"
    assert not calibrated_or_bundled(path, "jetson-nano", "fp16").calibrated
    with pytest.raises(UserError, match="no latency model of toaster"):
        calibrated_or_bundled(path, "toaster", "fp16")
    replace(load_bundled("jetson-nano", "fp16"), device="mine", calibrated=True).save(path)
    assert calibrated_or_bundled(path, "jetson-nano", "fp16").calibrated


@pytest.mark.parametrize(
    ("name", "hw", "precision", "published_ms"),
    [
        ("resnet50", (224, 224), "fp32", 58.6),
        ("resnet50", (224, 224), "fp16", 30.5),
        ("fast-scnn", (576, 576), "fp16", 34.1),
    ],
)
def test_the_interval_holds_what_others_measured(name, hw, precision, published_ms):
    estimate = load_bundled("jetson-nano", precision).predict(kernels(name, hw))
    assert estimate.low_ms < published_ms < estimate.high_ms
    assert estimate.latency_ms == pytest.approx(published_ms, rel=0.25)


def test_fp16_is_faster_and_what_was_never_measured_widens_the_interval():
    fp32, fp16 = load_bundled("jetson-nano", "fp32"), load_bundled("jetson-nano", "fp16")
    network = kernels("resnet18", (224, 224))
    assert 1.4 < fp32.predict(network).latency_ms / fp16.predict(network).latency_ms < 2.2
    odd = KernelSpec("op:GridSample", "g", 0, 4 * 10**7, 0, 4 * 10**7)
    known, unknown = fp16.predict(network), fp16.predict([*network, odd])
    assert known.coverage == 1.0
    assert unknown.coverage < 1.0
    assert unknown.unknown_kinds == ("op:GridSample",)
    assert unknown.high_ms / unknown.low_ms > known.high_ms / known.low_ms
    separable = kernels("mobilenet_v2", (224, 224))
    assert fp16.predict(separable).unknown_kinds == ()
    assert (
        fp32.predict(separable).latency_ms / fp16.predict(separable).latency_ms < 1.3
    )  # depthwise kernels hardly gain


def test_an_onnx_file_is_predicted_like_its_module(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3, 1, 1)).eval()
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, 64, 64),), path, dynamo=False)
    model = load_bundled("jetson-nano", "fp16")
    from_file = model.predict(kernels_from_onnx(path, runtime="tensorrt"))
    from_module = model.predict(kernels_from_module(net, (64, 64), runtime="tensorrt"))
    assert from_file.latency_ms == pytest.approx(from_module.latency_ms)
    assert len(from_file.per_kernel) == 2


def test_the_held_out_parameters_differ_from_the_shipped_ones():
    shipped = load_bundled("jetson-nano", "fp16")
    held_out = held_out_models("jetson-nano", "fp16")
    assert {"resnet18", "vgg16", "fcnresnet18"} <= set(held_out)
    network = kernels("vgg16", (224, 224))
    assert held_out["vgg16"].predict(network).latency_ms != shipped.predict(network).latency_ms


def test_ten_measured_networks_make_a_bundled_prior_the_users_own():
    bundled = load_bundled("jetson-nano", "fp16")
    names = [
        "resnet18",
        "resnet34",
        "densenet121",
        "squeezenet1_0",
        "squeezenet1_1",
        "googlenet",
        "resnet50",
        "fcn-resnet18",
    ]
    networks = [kernels(name, (side, side)) for name in names[:5] for side in (128, 224)]
    fresh = [kernels(name, (224, 224)) for name in names[5:]]
    slow = 1.3  # this board runs at a lower clock

    def measured(index: int, network: list[KernelSpec]) -> Measurement:
        ms = slow * bundled.predict(network).latency_ms
        result = Measurement(str(index), "my-nano", ms, ms, ms, 50, 0.01, 1.0, {"board": "mine"}, "2026-01-01T00:00:00")
        return replace(result, precision="fp16").with_kernels(network)

    rows = [measured(index, network) for index, network in enumerate(networks)]
    own = LatencyModel.fit(rows, device="my-nano", fingerprint={"board": "mine"}, prior=bundled.fit_result.prior)
    assert own.calibrated
    for network in fresh:
        assert own.predict(network).latency_ms == pytest.approx(slow * bundled.predict(network).latency_ms, rel=0.1)


def test_the_files_hold_coefficients_only():
    for path in FOLDER.glob("*.json"):
        text = json.loads(path.read_text())
        assert path.stat().st_size < 400_000
        assert "measurements" not in text


def test_published_rows_are_scored_by_a_fit_that_never_saw_them_and_none_is_lost():
    def row(model: str, ms: float, status: str = "ok") -> PublishedRow:
        return PublishedRow(model, "224x224", (224, 224), "fp16", "lab", ms, status)

    rows = run(
        [
            row("resnet18", 11.4),
            row("mobilenet_v2", 0.0),
            row("nobody-knows-net", 5.0),
            row("resnet18", 9, "batch is not 1"),
        ]
    )
    assert [item["status"] for item in rows] == ["ok", "ok", "unknown network", "batch is not 1"]
    assert [item["held_out"] for item in rows[:2]] == ["leave-one-family-out", "never fitted"]
    assert rows[1]["ratio"] is None
    assert rows[0]["inside"]
    assert len(summary(rows)) == 2


def test_whole_networks_with_depthwise_kernels_are_met_in_both_precisions(shared_dir, tmp_path):
    data, out = shared_dir / "latency_data" / "jetson_whole_networks.csv", tmp_path / "rows.json"
    assert published_main(["--data", str(data), "--json", str(out)]) == 0
    rows = [row for row in json.loads(out.read_text()) if row["ratio"]]
    assert len(rows) == 19
    assert np.mean([abs(row["ratio"] - 1) <= 0.25 for row in rows]) == 1.0
    assert np.mean([row["inside"] for row in rows]) >= 0.85
    assert np.median([row["high_ms"] / row["predicted_ms"] for row in rows]) < 1.35


def test_published_networks_are_met_by_fits_that_never_saw_them(shared_dir, tmp_path):
    data, out = shared_dir / "latency_data" / "nano_published.csv", tmp_path / "rows.json"
    assert published_main(["--data", str(data), "--json", str(out)]) == 0
    rows = json.loads(out.read_text())
    assert {row["held_out"] for row in rows} == {"leave-one-family-out"}
    assert sum(abs(row["ratio"] - 1) <= 0.25 for row in rows) >= 0.8 * len(rows)
    assert sum(row["inside"] for row in rows) >= 0.85 * len(rows)
