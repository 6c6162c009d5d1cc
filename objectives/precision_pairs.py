"""Networks that are slower in INT8 than in a wider precision, among trials that differ in nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from objectives.trial_record import TrialRecord
from search_spaces.candidate import PRECISION

_INT8 = "int8"


@dataclass(frozen=True)
class SlowInt8:
    """A network whose INT8 form is not faster than another one.

    Attributes:
        int8, other: trials of the same network.
        int8_ms, other_ms: their latencies, both measured or both predicted.
        measured: True where they were measured.
    """

    int8: TrialRecord
    other: TrialRecord
    int8_ms: float
    other_ms: float
    measured: bool

    def sentence(self) -> str:
        """Return a sentence on both, with the next step."""
        return (
            f"INT8 is not faster: trial {self.int8.number} takes {self.int8_ms:.3g} ms, trial {self.other.number}, the same network in "
            f"{self.other.precision}, {self.other_ms:.3g} ms ({'measured' if self.measured else 'predicted'}): deploy the latter."
        )


@dataclass(frozen=True)
class SlowInt8Engine:
    """The engine of an INT8 variant that is not faster than the trial's own engine on the same device."""

    record: TrialRecord
    step: Mapping[str, Any]

    def sentence(self) -> str:
        """Return a sentence on both, with the next step."""
        return (
            f"INT8 is not faster: the INT8 engine of trial {self.record.number} takes {self.step['latency_ms']:.3g} ms on "
            f"{self.step['device']}, that in {self.step['float_precision']} {self.step['float_ms']:.3g} ms: deploy the latter."
        )


def slow_int8_engines(records: Sequence[TrialRecord]) -> list[SlowInt8Engine]:
    """Return the trials whose INT8 engine takes at least as long as the one in their own precision."""
    built = [(record, record.engine_int8) for record in records if record.engine_int8 is not None]
    return [
        SlowInt8Engine(record, step)
        for record, step in built
        if step.get("float_ms") is not None and step["latency_ms"] >= step["float_ms"]
    ]


def int8_sentences(records: Sequence[TrialRecord]) -> list[str]:
    """Return a sentence on each network, and on each engine of an INT8 variant, that INT8 does not make faster."""
    pairs = [pair.sentence() for pair in slow_in_int8(records)]
    return pairs + [engine.sentence() for engine in slow_int8_engines(records)]


def slow_in_int8(records: Sequence[TrialRecord]) -> list[SlowInt8]:
    """Return the networks that are at least as fast in another precision, by measured latencies where both trials have one.

    Args:
        records: trials of a study; those without a latency or a precision of their own are passed over.
    """
    forms: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.complete and record.candidate is not None and record.candidate.precision is not None:
            rest = {key: value for key, value in record.params.items() if key != PRECISION}
            forms.setdefault(repr(sorted(rest.items())), []).append(record)
    found = []
    for group in forms.values():
        for int8 in (record for record in group if record.precision == _INT8):
            pairs = [_compared(int8, other) for other in group if other.precision != _INT8]
            slow = [pair for pair in pairs if pair.int8_ms >= pair.other_ms]
            found += [min(slow, key=lambda pair: pair.other_ms)] if slow else []
    return found


def _compared(int8: TrialRecord, other: TrialRecord) -> SlowInt8:
    if int8.measured_ms is not None and other.measured_ms is not None:
        return SlowInt8(int8, other, int8.measured_ms, other.measured_ms, True)
    return SlowInt8(int8, other, int8.latency_ms or 0.0, other.latency_ms or 0.0, False)
