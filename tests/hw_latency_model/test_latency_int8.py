"""Latencies in INT8: measured on quantized files, kept apart from float ones, predicted from the same kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw_latency_model import LatencyModel, LocalCpuDevice, calibrate, get_device
from hw_latency_model.kernels.candidate_kernels import CandidateKernels
from hw_latency_model.kernels.runtimes import runtime_of
from hw_latency_model.local.calibration import measure_candidate
from hw_latency_model.local.protocol import ProtocolSettings
from search_spaces import get_space
from search_spaces._common.errors import UserError

QUICK = ProtocolSettings(min_runs=4, max_runs=8, max_s=0.05)
SPACE = get_space("encoder_decoder", {"widths": [0.25, 0.5], "resolutions_px": [(32, 64), (64, 64)]})


@pytest.mark.parametrize(
    ("family", "decoder"), [("mobilenetv2", "fpn"), ("mobilenetv3_small", "lraspp"), ("lcnet", "fpn")]
)
def test_a_quantized_file_has_the_kernels_that_the_gate_predicts_on(family: str, decoder: str, tmp_path: Path):
    candidate = SPACE.candidate({**SPACE.default().params, "family": family, "decoder": decoder, "prune_ratio": 0.5})
    device = LocalCpuDevice(precision="int8")
    found = measure_candidate(device, SPACE, candidate, 4, tmp_path, settings=QUICK)
    assert (found.precision, found.kernel_shares) == ("int8", ())
    expected = CandidateKernels(SPACE, 4, runtime=runtime_of(device.fingerprint()))(candidate)
    shapes = [
        sorted((k.kind, k.macs, k.weight_bytes, k.output_bytes, k.out_hw) for k in kernels if k.kind != "view")
        for kernels in (found.kernels, expected)
    ]
    assert shapes[0] == shapes[1]


def test_a_calibration_in_int8_makes_a_model_of_its_own(tmp_path: Path):
    device = get_device("local-cpu", "int8")
    report = calibrate(device, SPACE, 4, tmp_path, budget_s=1, max_networks=6, settings=QUICK)
    model = LatencyModel.load(report.model_path, fingerprint=device.fingerprint())
    assert model.precision == "int8"
    assert (
        model.predict(CandidateKernels(SPACE, 4, runtime=runtime_of(model.fingerprint))(SPACE.default())).latency_ms > 0
    )
    assert device.fingerprint() != LocalCpuDevice().fingerprint()
    with pytest.raises(UserError, match=r"local-cpu in int8.*another folder"):
        calibrate(LocalCpuDevice(), SPACE, 4, tmp_path, budget_s=1, settings=QUICK)


def test_a_precision_that_a_device_lacks_is_refused():
    with pytest.raises(UserError, match="local-cpu does not run fp16, only fp32, int8"):
        get_device("local-cpu", "fp16")
