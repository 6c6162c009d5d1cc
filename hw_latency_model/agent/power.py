"""Power measurement: INA3221 rails, integrated over a steady loop."""

import re
import threading
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .tree import Tree

TOTALS = ("POM_5V_IN", "VDD_IN", "5V_IN", "VIN")
"""Rails that feed the whole board, by release and board."""
SYSTEM_5V = ("SYS5V", "VIN_SYS_5V0")
"""Rails of the carrier's 5 V, on boards where all rails have to be added."""
NOT_CONNECTED = ("", "NC")
"""Labels of unused channels."""


class Rail(NamedTuple):
    """A power rail and its files: one in mW, or two in mV and mA."""

    name: str
    files: Tuple[str, ...]


class PowerMeter:
    """Reader of the power rails, with optional sampling in a thread.

    Attributes:
        rails: readable rails.
        parts: names of the rails whose sum is the power of the board: the rail that feeds all others, or, on boards without
            one (AGX Xavier, AGX Orin), all of them; empty if they do not cover the board.
        total: the names as text, joined by ``+``; None if they do not cover the board.
        note: reason why no power can be reported; every figure is then None.
        samples: (``time.monotonic`` in s, milliwatts by rail) of the last sampling.
    """

    PERIOD_S = 0.02

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.rails = self._find()
        names = [rail.name for rail in self.rails]
        self.parts = board_rails(names)
        self.total = " + ".join(self.parts) or None
        self.note: Optional[str] = None
        if not self.rails:
            self.note = "no power rail"
        elif self.total is None:
            self.note = "no power rail for the whole board among {}".format(", ".join(names))
        self.samples: List[Tuple[float, Dict[str, int]]] = []
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def _find(self) -> List[Rail]:
        rails = []
        for path in self.tree.glob("/sys/bus/i2c/drivers/ina3221x/*/iio*device*/rail_name_[0-9]"):
            folder, number = path.rsplit("/", 1)[0], path[-1]
            rails.append(Rail(self.tree.read(path).strip(), (f"{folder}/in_power{number}_input",)))
        for path in self.tree.glob("/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in[0-9]_label"):
            folder, number = path.rsplit("/", 1)[0], re.sub(r".*/in(\d)_label$", r"\1", path)
            files = tuple(f"{folder}/{kind}{number}_input" for kind in ("in", "curr"))
            rails.append(Rail(self.tree.read(path).strip(), files))
        return [rail for rail in rails if rail.name not in NOT_CONNECTED and self._read(rail) is not None]

    def _read(self, rail: Rail) -> Optional[int]:
        values = [self.tree.number(path) for path in rail.files]
        if any(value is None or value < 0 for value in values):
            return None
        known = [value for value in values if value is not None]
        return known[0] if len(known) == 1 else known[0] * known[1] // 1000

    def snapshot(self) -> Dict[str, int]:
        """Read milliwatts by rail."""
        values = [(rail.name, self._read(rail)) for rail in self.rails]
        return {name: value for name, value in values if value is not None}

    def start(self) -> None:
        """Start sampling in a thread."""
        self.samples = []
        self._stop.clear()
        self._thread = threading.Thread(target=self._keep_reading, daemon=True)
        self._thread.start()

    def _keep_reading(self) -> None:
        while not self._stop.is_set():
            before = time.monotonic()
            values = self.snapshot()
            self.samples.append(((before + time.monotonic()) / 2, values))
            self._stop.wait(self.PERIOD_S)

    def stop(self) -> None:
        """Stop sampling and wait for the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def integral_mj(self, begin: float, end: float) -> Optional[float]:
        """Integrate the power of the whole board between two ``time.monotonic`` times, in mJ; None with fewer than 3 samples."""
        points = [
            (at, sum(values[name] for name in self.parts))
            for at, values in self.samples
            if begin <= at <= end and self.parts and all(name in values for name in self.parts)
        ]
        if len(points) < 3 or end <= begin:
            return None
        area = sum((at2 - at1) * (mw1 + mw2) / 2 for (at1, mw1), (at2, mw2) in zip(points, points[1:]))
        return area * (end - begin) / (points[-1][0] - points[0][0])

    def mean_rails(self) -> Dict[str, float]:
        """Average the samples: milliwatts by rail."""
        names = {name for _, values in self.samples for name in values}
        return {name: _mean([values[name] for _, values in self.samples if name in values]) for name in names}

    def mean_over(self, seconds: float) -> Optional[float]:
        """Measure the mean power of the idle board in mW; None with too few samples."""
        self.start()
        begin = time.monotonic()
        time.sleep(seconds)
        end = time.monotonic()
        self.stop()
        energy = self.integral_mj(begin, end)
        return energy / (end - begin) if energy is not None else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def rail_problem(rails_mw: Dict[str, Any]) -> Optional[str]:
    """Check rail readings for plausibility; return the reason for rejecting them, or None.

    Rejected: a total of 0, or below that of the CPU or GPU (one known carrier board swaps the names).
    """
    parts = board_rails(list(rails_mw))
    if not parts:
        return None
    total_name, total = " + ".join(parts), sum(rails_mw[name] for name in parts)
    if total <= 0:
        return f"power rail {total_name} reads {total:.0f} mW"
    for name, value in sorted(rails_mw.items()):
        if name not in parts and ("GPU" in name or "CPU" in name) and value > total:
            return f"rails are mislabelled: {name} {value:.0f} mW is more than {total_name} {total:.0f} mW"
    return None


def board_rails(names: Sequence[str]) -> Tuple[str, ...]:
    """Select the rails whose sum is the power of the whole board; empty if the rails do not cover it.

    A rail that feeds the board (Nano, TX2, Xavier NX, Orin Nano and NX) is the sum itself, and no other may be added to it.
    Without one, all rails are added if they include that of the carrier's 5 V (AGX Xavier, AGX Orin); without that rail
    they are only parts of the module.
    """
    for name in TOTALS:
        if name in names:
            return (name,)
    connected = tuple(name for name in names if name not in NOT_CONNECTED)
    return connected if any(name in SYSTEM_5V for name in connected) else ()
