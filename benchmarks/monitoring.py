"""A study of thousands of trials: time of `front`, `trial`, `report` and the dashboard's first page.

    python -m benchmarks.monitoring --study STUDY.yaml --out FOLDER --json OUT [--trials 5000]

The study's results are invented, its storage is real: a database made in FOLDER, read by the commands as a user calls them, each in a
process of its own. STUDY.yaml gives space, budget and a calibrated latency model. Each figure is wall time with CPU time of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._long_study import make_long_study, store_kernels_of
from objectives.pareto import pareto_front
from objectives.trial_record import read_study
from search_spaces._common.files import write_json
from trial_runner.config.load import load_config


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", type=Path, required=True, help="YAML of a study whose latency model is calibrated")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the database and the report")
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument("--trials", type=int, default=5000)
    options = parser.parse_args(arguments)
    folder = options.out.resolve()
    places = [f"study.storage=sqlite:///{folder / 'study.db'}", f"study.output_dir={folder}", "study.name=long"]
    config = load_config(options.study, places)
    records = read_study(make_long_study(config, options.trials))
    store_kernels_of(config, [records[options.trials // 2], *pareto_front(records).records])
    study = folder / "study.yaml"
    commands = [["front", study], ["trial", study, options.trials // 2], ["trials", study], ["report", study]]
    rows = [timed(str(words[0]), lambda words=words: run_command(words)) for words in commands]
    rows[-1]["megabytes"] = round((folder / "report.html").stat().st_size / 1e6, 2)
    rows += dashboard_rows(study)
    load = os.getloadavg()[0]
    write_json(options.json, [{**row, "trials": options.trials, "load": load} for row in rows])
    for row in rows:
        size = f"{row['megabytes']:.1f} MB" if "megabytes" in row else ""
        print(f"{row['what']:<32} {row['wall_s']:>6.1f} s wall {row['cpu_s']:>6.1f} s CPU {size}")
    print(f"{options.trials} trials; {load:.1f} processes wanted {os.cpu_count()} cores during the last minute")


def timed(what: str, work: Callable[[], None]) -> dict[str, Any]:
    """Return a row with the wall time of ``work`` and the CPU time of the processes that it waited for."""
    before, start = _children_s(), time.perf_counter()
    work()
    return {"what": what, "wall_s": time.perf_counter() - start, "cpu_s": _children_s() - before}


def run_command(words: Sequence[object]) -> None:
    command = [sys.executable, "-m", "trial_runner.cli", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)


def dashboard_rows(study: Path) -> list[dict[str, Any]]:
    """Rows of the dashboard: its start, and the first answers with the list of studies, the whole study and its importances."""
    command = [sys.executable, "-m", "trial_runner.cli", "dashboard", str(study), "--port", "0"]
    start = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        words = next(word for word in server.stdout.readline().split() if word.startswith("http"))
        rows = [{"what": "dashboard: ready", "wall_s": time.perf_counter() - start, "cpu_s": _cpu_s(server.pid)}]
        base, _, token = words.partition("/dashboard")
        number = json.loads(_get(f"{base}/api/studies{token}"))["study_summaries"][0]["study_id"]
        for what, path in (
            ("dashboard: page of the study", f"/api/studies/{number}"),
            ("dashboard: importances", f"/api/studies/{number}/param_importances"),
            ("dashboard: live page", "/paretoseg/data"),
        ):
            before, begin = _cpu_s(server.pid), time.perf_counter()
            size = len(_get(f"{base}{path}{token}"))
            row = {"what": what, "wall_s": time.perf_counter() - begin, "cpu_s": _cpu_s(server.pid) - before}
            rows.append({**row, "megabytes": round(size / 1e6, 2)})
        return rows
    finally:
        server.terminate()
        server.wait(timeout=30)


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=300) as answer:
        content: bytes = answer.read()
        return content


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
