"""Advice on the interval of an estimate: what makes it wide, and which measurement would narrow it."""

from __future__ import annotations

from hw_latency_model.types import LatencyEstimate

_CAUSES = {
    "model": ("the errors on networks like the measured ones", "a measurement of this network itself"),
    "distance": ("its distance to the measured networks", "a measurement of this network, or of one of its family"),
    "sizes": ("its size, outside the measured range", "a measurement of a network of its size"),
}
"""Cause of an interval's width and the measurement that narrows it most, by ``LatencyEstimate.width_cause``."""


def interval_advice(estimate: LatencyEstimate, path: str, *, device: str, precision: str, runtime: str) -> list[str]:
    """Say in sentences what dominates an interval's width, what would narrow it, and where it says too little, how to measure.

    Args:
        estimate: of the network, with ``per_kernel``.
        path: its ONNX file.
        device, precision, runtime: that the estimate is for.
    """
    if not estimate.width_cause:
        return []
    if estimate.width_cause == "unknown kernels":
        times: dict[str, float] = {}
        for _, kind, ms in estimate.per_kernel:
            times[kind] = times.get(kind, 0.0) + ms
        unknown = [kind for kind in estimate.unknown_kinds if kind in times]
        longest = max(unknown, key=lambda kind: times[kind], default="such kernels")
        share = times.get(longest, 0.0) / estimate.latency_ms
        cause = f"kernels of kinds that were never measured, most of all {longest} ({share:.0%} of the time)"
        wanted = f"a measurement of a network with {longest}"
    else:
        cause, wanted = _CAUSES[estimate.width_cause]
    lines = [f"the interval's width comes mostly from {cause}; {wanted} would narrow it most"]
    if estimate.too_far:
        lines.append(
            f"too far from the calibration to say; measure it: {measuring_command(path, device, precision, runtime)}"
        )
    return lines


def measuring_command(path: str, device: str, precision: str, runtime: str) -> str:
    """Command that measures one ONNX file: here, or on the board with TensorRT's own tool."""
    if runtime.startswith("tensorrt"):
        half = " --fp16" if precision == "fp16" else ""
        return f"`trtexec --onnx={path}{half} --warmUp=1000 --iterations=100 --noDataTransfers` on the {device}"
    code = f"import pathlib, hw_latency_model as h; print(h.measure_bundle(pathlib.Path({path!r}), {device!r}).latency_ms_p50)"
    return f'`python -c "{code}"`'
