"""A driver under the reports of many simulated workers: a queue with one server, whose service times are measured."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.no_op.study import NoOpTrial, open_driver, study_config

REPORT_S = 30.0
EPOCHS = 20
Result = TypeVar("Result")


class DriverQueue:
    """The driver as a queue's server: each work begins when it arrives or when the work before it is done, whichever is later."""

    def __init__(self) -> None:
        self.free_s = 0.0
        self.busy_s: defaultdict[str, float] = defaultdict(float)
        self.works: defaultdict[str, int] = defaultdict(int)

    def serve(self, kind: str, arrival_s: float, work: Callable[[], Result]) -> Result:
        """Do a work that arrives at a simulated time; its real duration moves the clock on."""
        began = time.perf_counter()
        result = work()
        taken_s = time.perf_counter() - began
        self.free_s = max(self.free_s, arrival_s) + taken_s
        self.busy_s[kind] += taken_s
        self.works[kind] += 1
        return result


def lags(url: str, folder: Path, sampler: str, workers: int, minutes: float) -> dict[str, Any]:
    """Run a study on workers that report every `REPORT_S`, for simulated minutes after all have started.

    Their reports, and the ends of their first trials, are spread evenly over the time.

    Returns:
        One row: seconds from a report to its decision (median, 99th percentile, maximum), the share of the time that the driver is
        busy, milliseconds for a proposal, a report and an end, and the kind of work that takes most.
    """
    driver, gate = open_driver(study_config(url, folder, sampler, 10**6, EPOCHS))
    queue, order = DriverQueue(), itertools.count()
    events: list[tuple[float, int, NoOpTrial]] = []

    def start(arrival_s: float, first_s: float, epoch: int = 0) -> None:
        spec = queue.serve("proposal", arrival_s, driver.ask)
        if spec is not None:
            trial = NoOpTrial.of(spec, gate, EPOCHS)
            trial.epoch = epoch
            heapq.heappush(events, (queue.free_s + first_s, next(order), trial))

    for worker in range(workers):
        start(0.0, REPORT_S * (1.0 + worker / workers), epoch=worker * EPOCHS // workers)
    started_s = queue.free_s
    begin_s = started_s + 2 * REPORT_S
    busy_before, found = 0.0, []
    while events and events[0][0] < begin_s + 60.0 * minutes:
        arrival_s, _, trial = heapq.heappop(events)
        if arrival_s >= begin_s and not found:
            busy_before = sum(queue.busy_s.values())
        report = trial.step()
        stop = queue.serve("report", arrival_s, lambda: driver.progress(trial.number, report))  # noqa: B023
        if arrival_s >= begin_s:
            found.append(queue.free_s - arrival_s)
        if stop or trial.epoch == EPOCHS:
            queue.serve("end", arrival_s, lambda: driver.finish(trial.number))  # noqa: B023
            start(arrival_s, REPORT_S)
        else:
            heapq.heappush(events, (arrival_s + REPORT_S, next(order), trial))
    busy = sum(queue.busy_s.values()) - busy_before
    each = {
        f"{kind}_ms": 1000 * queue.busy_s[kind] / max(1, queue.works[kind]) for kind in ("proposal", "report", "end")
    }
    return {
        "sampler": sampler,
        "workers": workers,
        "reports": len(found),
        "start_s": started_s,
        "lag_s_median": float(np.median(found)),
        "lag_s_p99": float(np.quantile(found, 0.99)),
        "lag_s_max": float(np.max(found)),
        "busy": busy / (60.0 * minutes),
        **each,
        "most": max(queue.busy_s, key=lambda kind: queue.busy_s[kind]),
    }
