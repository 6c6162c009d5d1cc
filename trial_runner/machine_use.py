"""Use of this machine's processors, memory and GPUs, as far as it can be measured without further packages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SHORTEST_S = 1.0


@dataclass(frozen=True)
class GpuUse:
    """Shares of a GPU that are in use, 0 to 1."""

    number: int
    busy: float
    memory: float


@dataclass(frozen=True)
class MachineUse:
    """Use of a machine by all of its processes.

    Attributes:
        cpu: share of the time of all cores, 0 to 1; None where it is not known.
        cores: number of cores.
        memory: share of the main memory that is not available, 0 to 1; None where it is not known.
        gpus: of NVIDIA, where `pynvml` is installed.
    """

    cpu: float | None = None
    cores: int = 0
    memory: float | None = None
    gpus: tuple[GpuUse, ...] = ()

    def words(self) -> list[str]:
        """Return the facts that are known, each in words."""
        facts = [f"CPU {self.cpu:.0%} of {self.cores} cores"] if self.cpu is not None else []
        facts += [f"memory {self.memory:.0%}"] if self.memory is not None else []
        return facts + [f"GPU {item.number} {item.busy:.0%}, its memory {item.memory:.0%}" for item in self.gpus]


class MachineMeter:
    """Measures the use of this machine between two calls, a second apart at least.

    Args:
        proc: folder of the kernel's facts.
        clock: seconds.
    """

    def __init__(self, proc: Path = Path("/proc"), clock: Callable[[], float] = time.monotonic) -> None:
        self._proc, self._clock, self._lock = proc, clock, threading.Lock()
        self._at, self._busy, self._whole = clock(), *self._jiffies()
        self._last = MachineUse()

    def __call__(self) -> MachineUse:
        """Return the use since the last measurement; without any share of the processors within the first second."""
        with self._lock:
            now = self._clock()
            if now - self._at >= _SHORTEST_S:
                busy, whole = self._jiffies()
                passed = whole - self._whole
                cpu = min(max((busy - self._busy) / passed, 0.0), 1.0) if passed > 0 else None
                self._at, self._busy, self._whole = now, busy, whole
                self._last = MachineUse(cpu, self._cores(), self._memory(), gpu_use())
            return self._last

    def _jiffies(self) -> tuple[int, int]:
        """Ticks that all cores were busy, and ticks in all; zeros where the kernel does not tell."""
        for line in self._lines("stat"):
            if line.startswith("cpu "):
                ticks = [int(word) for word in line.split()[1:9]]
                return sum(ticks) - sum(ticks[3:5]), sum(ticks)
        return 0, 0

    def _cores(self) -> int:
        return sum(line.startswith("cpu") and line[3:4].isdigit() for line in self._lines("stat"))

    def _memory(self) -> float | None:
        sizes = {line.partition(":")[0]: line.split()[1] for line in self._lines("meminfo") if len(line.split()) > 1}
        if not {"MemTotal", "MemAvailable"} <= sizes.keys() or int(sizes["MemTotal"]) <= 0:
            return None
        return 1.0 - int(sizes["MemAvailable"]) / int(sizes["MemTotal"])

    def _lines(self, name: str) -> list[str]:
        try:
            return (self._proc / name).read_text().splitlines()
        except OSError:
            return []


def gpu_use() -> tuple[GpuUse, ...]:
    """Use of each NVIDIA GPU, by NVML; none without `pynvml`, a driver, or the right to read it."""
    try:
        import pynvml
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
        found = []
        for number in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            found.append(GpuUse(number, busy, memory.used / memory.total))
        return tuple(found)
    except pynvml.NVMLError:
        return ()
