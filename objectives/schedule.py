"""Trials of a study in time: hours of searching without the pauses between launches, and the places that trials occupied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from objectives.trial_record import Outcome, TrialRecord

Span = tuple[datetime, datetime]


class SearchClock:
    """Hours of searching: the time in which some trial ran.

    Args:
        spans: start and end of each trial.
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        self._busy: list[Span] = []
        for start, end in sorted(spans):
            if self._busy and start <= self._busy[-1][1]:
                self._busy[-1] = (self._busy[-1][0], max(end, self._busy[-1][1]))
            else:
                self._busy.append((start, end))

    def hours(self, moment: datetime) -> float:
        """Return the hours of searching up to a moment."""
        return sum((min(end, moment) - start).total_seconds() for start, end in self._busy if start < moment) / 3600

    @property
    def total_hours(self) -> float:
        """All hours of searching."""
        return sum((end - start).total_seconds() for start, end in self._busy) / 3600


@dataclass(frozen=True)
class Occupation:
    """One trial in a schedule.

    Attributes:
        record: the trial.
        place: number of the place that it occupied, from 0.
        start_h, end_h: hours of searching at its start and end.
    """

    record: TrialRecord
    place: int
    start_h: float
    end_h: float


@dataclass(frozen=True)
class Schedule:
    """Trials over places.

    Attributes:
        occupations: of the trials that trained and ended, by start.
        places: largest number of trials at a time.
        hours: hours of searching in all.
    """

    occupations: tuple[Occupation, ...]
    places: int
    hours: float

    @property
    def utilisation(self) -> float:
        """Share of the places' time in which a trial ran, 0 to 1."""
        busy = sum(item.end_h - item.start_h for item in self.occupations)
        return busy / (self.places * self.hours) if self.places and self.hours else 0.0


def span_of(record: TrialRecord) -> Span | None:
    """Return start and end of a trial that trained and ended; None for others."""
    if record.started_at is None or record.duration_s is None:
        return None
    if record.outcome in (Outcome.INFEASIBLE, Outcome.DUPLICATE, None):
        return None
    return record.started_at, record.started_at + timedelta(seconds=record.duration_s)


def schedule(records: Sequence[TrialRecord]) -> Schedule:
    """Return the trials over as many places as ran at a time, each on the first free one.

    The database has no worker's number; a trial that was stopped at a rung and resumed occupies its place in between, too.
    """
    timed = [(span, record) for record in records if (span := span_of(record)) is not None]
    timed.sort(key=lambda pair: (pair[0], pair[1].number))
    clock = SearchClock(span for span, _ in timed)
    free: list[datetime] = []
    occupations = []
    for (start, end), record in timed:
        place = next((index for index, at in enumerate(free) if at <= start), len(free))
        if place == len(free):
            free.append(end)
        free[place] = end
        occupations.append(Occupation(record, place, clock.hours(start), clock.hours(end)))
    return Schedule(tuple(occupations), len(free), clock.total_hours)
