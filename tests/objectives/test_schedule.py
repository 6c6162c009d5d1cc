"""Trials over places, and hours without pauses."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from test_importance import trial

from objectives.schedule import schedule

START = datetime(2026, 1, 1)


def at(number: int, start_h: float, hours: float | None, **options):
    record = trial(number, {"width": 1.0}, 0.5, 1.0, **options)
    seconds = None if hours is None else hours * 3600
    return replace(record, started_at=START + timedelta(hours=start_h), duration_s=seconds)


def test_trials_take_the_first_free_place_and_pauses_are_cut_out():
    # Two at a time for two hours, nothing for ten, one for an hour; one refused, one that still runs.
    records = [at(0, 0, 2), at(1, 0, 1), at(2, 1, 1), at(3, 12, 1), at(4, 0.5, 0.1, trained=False), at(5, 12, None)]
    found = schedule(records)
    assert [(item.record.number, item.place) for item in found.occupations] == [(1, 0), (0, 1), (2, 0), (3, 0)]
    assert (found.places, found.hours) == (2, 3.0)
    assert (found.occupations[-1].start_h, found.occupations[-1].end_h) == (2.0, 3.0)
    assert found.utilisation == pytest.approx(5 / 6)
    assert schedule([]).utilisation == 0.0
