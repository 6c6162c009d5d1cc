"""Detection of throttling, clock changes and temperature drift during a measurement."""

import time
from typing import List, NamedTuple, Optional, Set

from .clocks import Lock
from .files import Json
from .parsers import TransStat, parse_oc_alarms
from .sensors import Gpu, chip_temperature, read_clocks, read_temperatures
from .tree import Tree


class Snapshot(NamedTuple):
    """State of the board at one time: GPU in Hz, CPU in kHz, temperature in degrees Celsius."""

    gpu_hz: Optional[int]
    cpu_khz: Optional[int]
    temp_c: Optional[float]
    trans_stat: TransStat
    oc_alarms: List[str]
    clocks: Json


class Problem(NamedTuple):
    """A disturbance of a measurement; ``throttled``: the clocks were reduced."""

    throttled: bool
    text: str


class Watch:
    """Compare the board before, during and after a measurement.

    Args:
        tree: the board's files.
        lock: frequencies of the locked clocks, any deviation is throttling; None: unlocked, a change is noise.
    """

    TEMPERATURE_DRIFT_C = 10.0
    HOT_C = 85.0

    def __init__(self, tree: Tree, lock: Optional[Lock]) -> None:
        self.tree = tree
        self.lock = lock
        self.gpu = Gpu(tree)
        self.seen_gpu_hz: Set[Optional[int]] = set()

    def snapshot(self) -> Snapshot:
        """Read the current state of the board."""
        clocks = read_clocks(self.tree)
        return Snapshot(
            gpu_hz=clocks["gpu_hz"],
            cpu_khz=clocks["cpu_khz"],
            temp_c=chip_temperature(read_temperatures(self.tree)),
            trans_stat=self.gpu.trans_stat(),
            oc_alarms=parse_oc_alarms(self.tree.run("dmesg").text),
            clocks=clocks,
        )

    def begin(self) -> Snapshot:
        """Start observing; return the state before the measurement."""
        first = self.snapshot()
        self.seen_gpu_hz = {first.gpu_hz}
        return first

    def tick(self) -> None:
        """Record the GPU clock between two rounds, to detect dips that are over at the end."""
        self.seen_gpu_hz.add(self.gpu.hz("cur"))

    def problems(self, before: Snapshot, after: Snapshot) -> List[Problem]:
        """List the disturbances between two snapshots."""
        found = []
        seen = {hz for hz in self.seen_gpu_hz | {after.gpu_hz} if hz is not None}
        if self.lock is None:
            if len(seen) > 1:
                found.append(Problem(False, f"GPU clock moved between {min(seen)} and {max(seen)} Hz"))
        else:
            if seen - {self.lock.gpu_hz}:
                text = f"GPU clock fell to {min(seen)} Hz from its lock at {self.lock.gpu_hz} Hz"
                found.append(Problem(True, text))
            moved = _trans_stat_changes(before.trans_stat, after.trans_stat)
            if moved:
                found.append(Problem(True, moved))
            if self.lock.cpu_khz and after.cpu_khz and after.cpu_khz < 0.98 * self.lock.cpu_khz:
                text = f"CPU clock fell to {after.cpu_khz} kHz from its lock at {self.lock.cpu_khz} kHz"
                found.append(Problem(True, text))
        fresh = [line for line in after.oc_alarms if after.oc_alarms.count(line) > before.oc_alarms.count(line)]
        if fresh:
            found.append(Problem(True, "over-current alarm (weak supply): " + fresh[-1].strip()[:120]))
        if before.temp_c is not None and after.temp_c is not None:
            if abs(after.temp_c - before.temp_c) > self.TEMPERATURE_DRIFT_C:
                found.append(Problem(False, f"temperature went from {before.temp_c} to {after.temp_c} C"))
            if max(before.temp_c, after.temp_c) >= self.HOT_C:
                found.append(Problem(False, f"the board is at {max(before.temp_c, after.temp_c)} C"))
        return found

    def cool_down(self, target_c: Optional[float], longest_s: float) -> None:
        """Wait until the chip is at ``target_c`` degrees Celsius, at most ``longest_s`` seconds."""
        deadline = time.monotonic() + longest_s
        while target_c is not None and time.monotonic() < deadline:
            temp = chip_temperature(read_temperatures(self.tree))
            if temp is None or temp <= target_c:
                return
            time.sleep(min(0.5, longest_s / 4))


def _trans_stat_changes(before: TransStat, after: TransStat) -> Optional[str]:
    """Describe GPU clock changes counted by the kernel between two readings; None without a change."""
    if before.transitions is not None and after.transitions is not None and after.transitions > before.transitions:
        return f"trans_stat counts {after.transitions - before.transitions} GPU clock changes"
    grown = [hz for hz, ms in after.times_ms.items() if ms > before.times_ms.get(hz, 0)]
    if len(grown) > 1:
        return f"trans_stat shows time at {len(grown)} GPU clocks"
    return None
