"""Many simultaneous starts against one study: at most one of them gets its lease.

    CHAOS_URL=postgresql://… python -m benchmarks.chaos.lease_starts --study NAME [--starts 1000] [--processes 4]

Each start is a thread with a lease of its own. All wait at a barrier and try at once; those that get the lease keep it until all have
tried. Prints one line of JSON: how many held it, how many were refused, and the errors of those that failed otherwise.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from search_spaces._common.errors import UserError
from trial_runner.study.lease import DriverLease
from trial_runner.study.storage import open_study

URL = "CHAOS_URL"
_WAIT_S = 240.0


@dataclass(frozen=True)
class Starts:
    """Result of simultaneous starts.

    Attributes:
        held: number of starts that got the lease.
        refused: number of starts that were refused it, because another driver has it.
        failed: first lines of other errors.
    """

    held: int
    refused: int
    failed: tuple[str, ...]


def start_at_once(url: str, study: str, starts: int, processes: int = 4) -> Starts:
    """Start drivers of a study, all at the same moment, in the threads of several processes.

    Args:
        url: of the database, which holds the study.
        starts: number of drivers, a multiple of ``processes``.
    """
    context = multiprocessing.get_context("fork")
    threads = starts // processes
    barrier, results = context.Barrier(processes * threads, timeout=_WAIT_S), context.Queue()
    workers = [
        context.Process(target=_start_some, args=(url, study, threads, barrier, results), daemon=True)
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    found: list[str] = []
    for _ in workers:
        found += results.get(timeout=2 * _WAIT_S)
    for worker in workers:
        worker.join(_WAIT_S)
    others = tuple(text for text in found if text not in ("held", "refused"))
    return Starts(found.count("held"), found.count("refused"), others)


def _start_some(url: str, name: str, count: int, barrier: Any, results: Any) -> None:
    study = open_study(url, name, create=False)
    found: list[str] = []

    def drive() -> None:
        barrier.wait()
        try:
            with DriverLease(study):
                found.append("held")
                barrier.wait()
        except UserError as error:
            found.append("refused" if "is being driven by process" in str(error) else str(error))
            barrier.wait()
        except SQLAlchemyError as error:
            found.append(str(error).splitlines()[0])
            barrier.wait()

    threads = [threading.Thread(target=drive) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(found)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", required=True, help="name of a study in the database at CHAOS_URL")
    parser.add_argument("--starts", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args(arguments)
    print(json.dumps(asdict(start_at_once(os.environ[URL], options.study, options.starts, options.processes))))


if __name__ == "__main__":
    main()
