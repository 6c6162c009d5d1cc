"""Networks that are slower in INT8 than in a wider precision, among trials that differ in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
