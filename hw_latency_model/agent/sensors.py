"""Readings of clocks, temperatures, memory and power mode."""

import re
from typing import Dict, List, Optional

from .files import Json
from .parsers import PowerMode, TransStat, complete_lines, parse_frequencies, parse_nvpmodel, parse_trans_stat
from .tree import Tree


class Gpu:
    """devfreq folder of the integrated GPU; every reading is None on a machine without one."""

    FOLDERS = (
        "/sys/devices/57000000.gpu/devfreq/57000000.gpu",
        "/sys/devices/gpu.0/devfreq/*",
        "/sys/class/devfreq/*gpu*",
        "/sys/class/devfreq/*.g[avp]*[0-9][0-9]b",
    )

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        folders = [path for pattern in self.FOLDERS for path in tree.glob(pattern) if tree.read(path + "/cur_freq")]
        self.folder = folders[0] if folders else None

    def hz(self, which: str) -> Optional[int]:
        """Return the ``cur``, ``min`` or ``max`` frequency in Hz."""
        return self.tree.number(f"{self.folder}/{which}_freq") if self.folder else None

    def frequencies(self) -> List[int]:
        """Return the available frequencies in Hz, ascending."""
        return parse_frequencies(self.tree.read(self.folder + "/available_frequencies")) if self.folder else []

    def top_hz(self) -> Optional[int]:
        """Return the frequency of a locked GPU in Hz: the highest step within its cap (5W: cap 640 MHz, step 614.4 MHz)."""
        cap = self.hz("max")
        steps = [step for step in self.frequencies() if cap is not None and step <= cap]
        return steps[-1] if steps else cap

    def trans_stat(self) -> TransStat:
        """Return the residency table of the kernel; empty where there is none."""
        return parse_trans_stat(self.tree.read(self.folder + "/trans_stat")) if self.folder else TransStat({}, None)


def read_temperatures(tree: Tree) -> Dict[str, float]:
    """Return degrees Celsius by thermal zone, without the PMIC (a constant) and implausible values."""
    temps = {}
    for folder in tree.glob("/sys/class/thermal/thermal_zone*"):
        name, value = tree.read(folder + "/type").strip(), tree.number(folder + "/temp")
        if name and value is not None and not name.upper().startswith("PMIC"):
            degrees = value / 1000.0
            if -50 <= degrees <= 150:
                temps[name] = degrees
    return temps


def chip_temperature(temps: Dict[str, float]) -> Optional[float]:
    """Return the GPU temperature in degrees Celsius, otherwise that of the hottest zone; None without zones."""
    for name in temps:
        if name.lower().startswith("gpu"):
            return temps[name]
    return max(temps.values()) if temps else None


def read_clocks(tree: Tree) -> Json:
    """Read the current clocks: GPU and memory in Hz, cores in kHz; None where the board does not expose one."""
    gpu = Gpu(tree)
    cpus = [tree.number(path) for path in tree.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    known = [value for value in cpus if value is not None]
    return {
        "gpu_hz": gpu.hz("cur"),
        "gpu_min_hz": gpu.hz("min"),
        "gpu_max_hz": gpu.hz("max"),
        "cpu_khz": max(known) if known else None,
        "cpu_online": tree.read("/sys/devices/system/cpu/online").strip() or None,
        "emc_hz": tree.number("/sys/kernel/debug/clk/emc/clk_rate"),
        "emc_override": tree.number("/sys/kernel/debug/clk/override.emc/clk_state"),
    }


def steady_clocks(clocks: Json, locked: bool) -> Json:
    """Select the clocks that identify a device configuration; current frequencies only if ``locked``."""
    steady = ["gpu_max_hz", "cpu_online", *(["gpu_hz", "cpu_khz", "emc_hz", "emc_override"] if locked else [])]
    return {name: clocks[name] for name in steady if clocks[name] is not None}


def read_meminfo(tree: Tree) -> Dict[str, int]:
    """Read ``/proc/meminfo``, values in kB."""
    found = [re.fullmatch(r"(\w+):\s+(\d+) kB", line) for line in complete_lines(tree.read("/proc/meminfo"))]
    return {match.group(1): int(match.group(2)) for match in found if match}


def power_mode(tree: Tree) -> Optional[PowerMode]:
    """Query the current power mode; None on machines without ``nvpmodel``."""
    return parse_nvpmodel(tree.run("nvpmodel", "-q").text)
