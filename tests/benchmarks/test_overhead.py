"""The benchmark of overhead on a small scale: the queue's arithmetic, and that the driver really decides."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.no_op.rates import rates
from benchmarks.no_op.workers import DriverQueue, lags
from objectives.trial_record import Outcome, read_study
from trial_runner.study.storage import open_study


def test_a_work_waits_for_the_one_before_it_and_an_idle_driver_does_not():
    queue = DriverQueue()
    queue.serve("report", 10.0, lambda: time.sleep(0.05))
    first = queue.free_s
    assert 10.05 <= first < 15.0
    queue.serve("report", 10.0, lambda: None)
    assert first <= queue.free_s < first + 1.0, "it arrived while the driver was busy"
    queue.serve("end", 100.0, lambda: None)
    assert 100.0 <= queue.free_s < 101.0 and queue.works == {"report": 2, "end": 1}


def test_a_no_op_study_stores_what_a_study_does_and_is_counted(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/study.db"
    rows = rates("random", url, tmp_path, [6, 12], 4)
    assert [row["trials"] for row in rows] == [6, 12] and all(row["trials_per_s"] > 0 for row in rows)
    records = read_study(open_study(url, "no-op-random", create=False))
    assert sum(record.outcome in (Outcome.FINISHED, Outcome.STOPPED) for record in records) == 12
    assert {len(record.curve) for record in records if record.outcome == Outcome.FINISHED} == {4}
    assert [row["trials"] for row in rates("optuna", url, tmp_path, [5], 4)] == [5]


def test_simulated_workers_report_at_their_own_times(tmp_path: Path):
    row = lags(f"sqlite:///{tmp_path}/study.db", tmp_path, "random", workers=4, minutes=2.0)
    assert row["reports"] == 4 * 4, "one report in 30 s of each"
    assert 0.0 < row["lag_s_median"] <= row["lag_s_p99"] <= row["lag_s_max"] and 0.0 < row["busy"] < 1.0
