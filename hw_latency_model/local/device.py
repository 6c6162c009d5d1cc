"""Interface of a device, and this machine's CPU as one."""

from __future__ import annotations

import contextlib
import platform
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from exports.profiles import PROFILES
from hw_latency_model.agent.cores import available_cores
from hw_latency_model.kernels.fusion import RULES_VERSION
from hw_latency_model.local.protocol import ProtocolSettings, time_network
from hw_latency_model.types import KernelSpec, Measurement
from search_spaces._common.errors import UserError
from search_spaces._common.names import nearest_name

PROFILE_RUNS = 30


class Device(ABC):
    """Device on which ONNX files can be timed.

    Attributes:
        name: name in configurations, commands and stores.
        runtime: runtime whose fusion rules apply, a key of ``fusion.RULES``.
        precision: ``fp32``, ``fp16`` or ``int8``.
    """

    name: ClassVar[str]
    runtime: str
    precision: str = "fp32"

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Facts that must be equal for two measurements to be comparable; JSON scalars only."""

    @abstractmethod
    def measure(
        self, onnx_path: Path, *, subject: str | None = None, settings: ProtocolSettings | None = None
    ) -> Measurement:
        """Time one network at batch 1.

        Raises:
            UserError: the file is missing or the runtime cannot run it.
        """

    def kernel_shares(self, onnx_path: Path, kernels: Sequence[KernelSpec]) -> tuple[float, ...]:
        """Measure each kernel's share of the network's time; empty for a device without a profiler."""
        return ()


class LocalCpuDevice(Device):
    """This machine's CPU through ONNX Runtime.

    Args:
        threads: threads within one operator. With one, time during which other processes held the core is excluded.
        precision: ``int8`` for quantized (Q/DQ) files, whose measurements are separate from those of float files.

    Raises:
        ValueError: fewer than one thread, or a precision that the export profile does not allow.
    """

    name: ClassVar[str] = "local-cpu"
    runtime: str = "onnxruntime"

    def __init__(self, threads: int = 1, *, precision: str = "fp32") -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        if precision not in PROFILES[self.name].precisions:
            raise ValueError(f"{self.name} runs {', '.join(PROFILES[self.name].precisions)}, not {precision}")
        self.threads, self.precision = threads, precision
        if precision != "fp32":
            self.runtime = f"{type(self).runtime}-{precision}"
        self._reference: Callable[[], object] | None = None

    def fingerprint(self) -> dict[str, Any]:
        import onnxruntime

        return {
            "device": self.name,
            "cpu": _cpu_model(),
            "machine": platform.machine(),
            "cores": available_cores(),
            "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
            "runtime": f"{self.runtime} {onnxruntime.__version__}",
            "threads": self.threads,
            "kernels": RULES_VERSION,
        }

    def measure(
        self, onnx_path: Path, *, subject: str | None = None, settings: ProtocolSettings | None = None
    ) -> Measurement:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        run = self._runner(onnx_path)
        timing = time_network(
            run, self._reference_runner(), settings or ProtocolSettings(), one_thread=self.threads == 1
        )
        return Measurement(
            subject=subject or onnx_path.stem,
            device=self.name,
            latency_ms_p50=timing.p50_ms,
            latency_ms_p90=timing.p90_ms,
            latency_ms_p99=timing.p99_ms,
            runs=timing.runs,
            noise_rel=timing.noise_rel,
            reference_ms=timing.reference_ms,
            fingerprint=self.fingerprint(),
            started_at=started,
            drift_rel=timing.drift_rel,
            waited_rel=timing.waited_rel,
            noisy=timing.noisy,
            repeats=timing.repeats,
            precision=self.precision,
            samples_ms=timing.samples_ms,
        )

    def kernel_shares(self, onnx_path: Path, kernels: Sequence[KernelSpec]) -> tuple[float, ...]:
        from hw_latency_model.local.ort_profile import kernel_shares

        if self.precision != "fp32":
            return ()  # the runtime rewrites a quantized graph, so its events name other nodes than the file
        return kernel_shares(onnx_path, kernels, runs=PROFILE_RUNS, threads=self.threads)

    def _runner(self, onnx_path: Path) -> Callable[[], object]:
        import numpy as np

        from exports import OnnxSession

        session = OnnxSession(onnx_path, threads=self.threads)
        image = np.random.default_rng(0).standard_normal(session.input_shape, dtype=np.float32)
        return lambda: session.run_one(image)

    def _reference_runner(self) -> Callable[[], object]:
        if self._reference is None:
            from hw_latency_model.local.reference_network import write_reference

            with tempfile.TemporaryDirectory() as folder:
                self._reference = self._runner(write_reference(Path(folder) / "reference.onnx"))
        return self._reference


DEVICES: dict[str, Callable[..., Device]] = {LocalCpuDevice.name: LocalCpuDevice}


def get_device(name: str, precision: str = "fp32") -> Device:
    """Create the device called ``name`` with its default settings for networks in ``precision``.

    Raises:
        UserError: the name is unknown (the closest is suggested), or the device does not support the precision.
    """
    if name not in DEVICES:
        near = nearest_name(name, DEVICES, cutoff=0.6)
        hint = f" Did you mean {near!r}?" if near else ""
        raise UserError(
            f"there is no device named {name!r} to measure on from here.{hint} Known devices: {', '.join(DEVICES)}; a board is "
            "measured through a DEVICE.yaml (configs/devices)."
        )
    if precision not in PROFILES[name].precisions:
        raise UserError(
            f"{name} does not run {precision}, only {', '.join(PROFILES[name].precisions)}. Set device.precision to one of them."
        )
    return DEVICES[name](precision=precision)


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return ""
