"""Measurement of one exported network, such as a member of a front after the search."""

from __future__ import annotations

from pathlib import Path

from hw_latency_model.kernels.extract import kernels_from_onnx
from hw_latency_model.local.device import Device, get_device
from hw_latency_model.local.protocol import ProtocolSettings
from hw_latency_model.types import Measurement

FRONT_SETTINGS = ProtocolSettings(min_runs=40, max_runs=500, max_s=1.5)
"""Protocol settings for the front, longer than in a calibration."""


def measure_bundle(
    onnx_path: Path, device: Device | str, *, subject: str | None = None, settings: ProtocolSettings = FRONT_SETTINGS
) -> Measurement:
    """Measure an exported ``model.onnx``, or the one in a bundle's folder; the result includes its kernels.

    Raises:
        UserError: the file is missing, the device is unknown, or the runtime cannot run the file.
    """
    path = onnx_path / "model.onnx" if onnx_path.is_dir() else onnx_path
    target = get_device(device) if isinstance(device, str) else device
    measurement = target.measure(path, subject=subject, settings=settings)
    return measurement.with_kernels(kernels_from_onnx(path, runtime=target.runtime))
