#!/usr/bin/env python3
"""paretoseg's device agent: copy this one file to a board and run it there; it needs Python 3.6 and nothing else.

    python3 paretoseg_agent.py check                       what board is this (JSON)
    python3 paretoseg_agent.py run --jobs jobs.json --results results.jsonl --work DIR
    python3 paretoseg_agent.py restore                     give the clocks back after a crash

``run`` locks the clocks where it may, measures one job after the other, each in processes of its own, appends each
result at once and gives the clocks back however it ends. Started again with the same files it goes on where it was:
what was measured is not measured again, an engine that was built is not built again.

Exit codes: 0 every job has a result; 2 the user has something to put right (told on stderr); 3 stopped early (signal,
disk full): run the same command again.

What the board ships is imported only when used: ``tensorrt`` (8.0 to 11, told apart by what it has), ``onnxruntime``,
``torch``, ``numpy``; CUDA's runtime through ctypes. Syntax and library are those of Python 3.6; every parser drops what
it cannot read completely: a number that may be cut off is no number.
"""

import abc
import argparse
import atexit
import binascii
import ctypes
import datetime
import errno
import fcntl
import glob
import hashlib
import importlib
import json
import math
import os
import platform
import random
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

FORMAT_VERSION = 1
EXIT_DONE, EXIT_USER, EXIT_RESUMABLE = 0, 2, 3
SAMPLES_KEPT = 200
LOG_TAIL_CHARS = 4000
STATE_FOLDER = "/var/tmp/paretoseg-clocks"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FREE_BYTES_NEEDED = 64 << 10

Json = Dict[str, Any]


class UserMistake(Exception):
    """Something the person who started the agent can put right: rule, value found, next step."""


class JobError(Exception):
    """This job cannot be measured; the others can. ``retry``: it may work at the next start."""

    def __init__(self, reason: str, retry: bool = False, log: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry = retry
        self.log = log


class StaleEngine(Exception):
    """A kept engine that this TensorRT does not take: it has to be built again."""


class StopEarly(Exception):
    """The run ends here and can be resumed."""


def now_iso() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in DISK_FULL


def say(text: str, stream: Any = None) -> None:
    """One line for whoever watches. A watcher who went away (a dropped connection) does not end the run."""
    target = stream or sys.stdout
    try:
        target.write(
            text.encode(target.encoding or "ascii", "backslashreplace").decode(target.encoding or "ascii") + "\n"
        )
        target.flush()
    except (OSError, ValueError):
        pass


# ---------------------------------------------------------------------------------------------------------------------
# Parsers: text of the board's tools -> numbers. They never raise on what a tool may print, and never complete a number.
# ---------------------------------------------------------------------------------------------------------------------

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?"


def complete_lines(text: str) -> List[str]:
    """The lines that end in a newline: a line without one may have been cut off anywhere."""
    return [line.rstrip("\r") for line in text.split("\n")[:-1]]


def finite(value: Any) -> Optional[float]:
    """``value`` as a finite float, or None (booleans and text are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


_TEGRASTATS_START = re.compile(r"(?:[0-9]{2}-[0-9]{2}-[0-9]{4} [0-9:]{8} )?\bRAM [0-9]{1,15}/[0-9]{1,15}MB")
_TEGRASTATS_RAM = re.compile(r"\bRAM ([0-9]{1,15})/([0-9]{1,15})MB")
_TEGRASTATS_SWAP = re.compile(r"\bSWAP ([0-9]{1,15})/([0-9]{1,15})MB")
_TEGRASTATS_CPU = re.compile(r"\bCPU \[([^\[\]]*)\]")
_TEGRASTATS_CORE = re.compile(r"([0-9]{1,15})%(?:@([0-9]{1,15}))?")
_TEGRASTATS_LOAD = re.compile(r"\b(EMC|GR3D)_FREQ ([0-9]{1,15})%(?:@(?:\[([0-9,]{1,99})\]|([0-9]{1,15})(?=\s)))?")
_TEGRASTATS_TEMP = re.compile(r"(?<![\w.])([A-Za-z][\w-]*)@(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)C(?![\w.])")
_TEGRASTATS_RAIL = re.compile(r"(?<![\w.])([A-Z][A-Z0-9_]*) ([0-9]{1,15})(?:mW)?/([0-9]{1,15})(?:mW)?(?=\s)")


def parse_tegrastats(text: str) -> List[Json]:
    """Samples of ``tegrastats``, of whatever board, user and JetPack; also where the newlines were lost.

    Each sample has what its text has: ``ram_used_mb, ram_total_mb, swap_used_mb, swap_total_mb, cpu`` (per core
    ``{"load", "mhz"}`` or None when off), ``emc_load, emc_mhz, gpu_load, gpu_mhz``, ``temps_c`` (sensors that are off
    read -256 and are left out), ``rails_mw`` (name -> (now, average)).
    """
    starts = [match.start() for match in _TEGRASTATS_START.finditer(text)]
    return [_tegrastats_sample(text[start:end]) for start, end in zip(starts, [*starts[1:], len(text)])]


def _tegrastats_sample(text: str) -> Json:
    sample: Json = {}
    for name, pattern in (("ram", _TEGRASTATS_RAM), ("swap", _TEGRASTATS_SWAP)):
        found = pattern.search(text)
        if found:
            sample[name + "_used_mb"], sample[name + "_total_mb"] = int(found.group(1)), int(found.group(2))
    cores = _TEGRASTATS_CPU.search(text)
    if cores:
        sample["cpu"] = [_tegrastats_core(core) for core in cores.group(1).split(",")]
    for found in _TEGRASTATS_LOAD.finditer(text):
        name = "emc" if found.group(1) == "EMC" else "gpu"
        sample[name + "_load"] = int(found.group(2))
        clocks = (found.group(3) or "").split(",")[0] or found.group(4)
        if clocks:
            sample[name + "_mhz"] = int(clocks)
    sample["temps_c"] = {
        name: float(value) for name, value in _TEGRASTATS_TEMP.findall(text) if -50 <= float(value) <= 150
    }
    sample["rails_mw"] = {
        name: (int(now), int(mean)) for name, now, mean in _TEGRASTATS_RAIL.findall(text) if name != "NC"
    }
    return sample


def _tegrastats_core(text: str) -> Optional[Json]:
    found = _TEGRASTATS_CORE.fullmatch(text.strip())
    if not found:
        return None
    return {"load": int(found.group(1)), "mhz": int(found.group(2)) if found.group(2) else None}


class PowerMode(NamedTuple):
    """What ``nvpmodel -q`` says. ``mode_id`` is None where it prints the name alone."""

    name: str
    mode_id: Optional[int]


def parse_nvpmodel(text: str) -> Optional[PowerMode]:
    """``nvpmodel -q`` with or without warnings before it; None when no mode is named."""
    lines = complete_lines(text)
    for index, line in enumerate(lines):
        found = re.fullmatch(r"NV (?:Fan|Power) Mode: ?(\S+)", line.strip())
        if found and "Power" in line:
            number = lines[index + 1].strip() if index + 1 < len(lines) else ""
            return PowerMode(found.group(1), int(number) if re.fullmatch(r"[0-9]{1,3}", number) else None)
    return None


def parse_nvpmodel_conf(text: str) -> Dict[str, int]:
    """Names (lower case) and ids of the modes in ``/etc/nvpmodel.conf``."""
    found = re.findall(r"<\s*POWER_MODEL\s+ID=([0-9]{1,3})\s+NAME=(\S+)\s*>", text)
    return {name.lower(): int(number) for number, name in found}


def parse_jetson_clocks_show(text: str) -> Json:
    """``jetson_clocks --show``: ``machine, online_cpus, cpus, gpu, emc, fan, power_mode``; what is missing is left out.

    Frequencies as printed: cores in kHz, GPU and EMC in Hz.
    """
    shown: Json = {}
    for raw in complete_lines(text):
        line = raw.strip()
        values = {key: int(value) for key, value in re.findall(r"\b(\w+)=([0-9]{1,15})(?=\s|$)", line)}
        clocks = {name: values[key] for name, key in _SHOWN_CLOCKS if key in values}
        found = re.match(r"cpu([0-9]{1,3}):", line)
        if found:
            core: Json = dict(clocks)
            core["online"] = values.get("Online") == 1
            governor = re.search(r"\bGovernor=(\S+)", line)
            if governor:
                core["governor"] = governor.group(1)
            shown.setdefault("cpus", {})[int(found.group(1))] = core
        elif line.startswith("GPU ") and clocks:
            shown["gpu"] = clocks
        elif line.startswith("EMC ") and clocks:
            if "FreqOverride" in values:
                clocks["override"] = values["FreqOverride"]
            shown["emc"] = clocks
        else:
            for key, pattern in _SHOWN_TEXTS:
                found = re.match(pattern, line)
                if found:
                    shown[key] = found.group(1).strip()
    return shown


_SHOWN_CLOCKS = (("min", "MinFreq"), ("max", "MaxFreq"), ("cur", "CurrentFreq"))
_SHOWN_TEXTS = (
    ("machine", r"SOC family:\S*\s+Machine:(.+)"),
    ("online_cpus", r"Online CPUs: ([0-9,\-]+)$"),
    ("fan", r"Fan: (\S+)$"),
    ("power_mode", r"NV Power Mode: (\S+)$"),
)


def parse_jetson_clocks_store(text: str) -> Dict[str, int]:
    """The file of ``jetson_clocks --store``: path -> value."""
    found = [re.fullmatch(r"(/[^:]+):(-?[0-9]{1,15})", line.strip()) for line in complete_lines(text)]
    return {match.group(1): int(match.group(2)) for match in found if match}


def parse_thermal_zones(text: str) -> Dict[str, float]:
    """Lines of ``NAME  41.5°C`` (or ``41.5C``) -> degrees; impossible ones (-256: the sensor is off) are left out."""
    found = [
        re.fullmatch(r"(\S+)\s+(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)\s*°?C", line.strip()) for line in complete_lines(text)
    ]
    return {match.group(1): float(match.group(2)) for match in found if match and -50 <= float(match.group(2)) <= 150}


def parse_frequencies(text: str) -> List[int]:
    """``available_frequencies`` in Hz, ascending; a number without a blank or newline behind it does not count."""
    return sorted({int(value) for value in re.findall(r"(?<!\S)([0-9]{1,15})(?=\s)", text)})


class TransStat(NamedTuple):
    """devfreq's ``trans_stat``: milliseconds spent at each frequency (Hz), and how often it changed."""

    times_ms: Dict[int, int]
    transitions: Optional[int]


def parse_trans_stat(text: str) -> TransStat:
    """The kernel's table; empty and None where it cannot be read."""
    times: Dict[int, int] = {}
    transitions = None
    for line in complete_lines(text):
        row = re.fullmatch(r"\s*\*?\s*([0-9]{1,15}):((?:\s+[0-9]{1,18})+)\s*", line)
        if row:
            times[int(row.group(1))] = int(row.group(2).split()[-1])
        total = re.fullmatch(r"\s*Total transition\s*:\s*([0-9]{1,15})\s*", line)
        if total:
            transitions = int(total.group(1))
    return TransStat(times, transitions)


_OC_ALARM = re.compile(r"soctherm: OC ALARM 0x[0-9a-fA-F]{8}(?![0-9a-fA-F])")


def parse_oc_alarms(text: str) -> List[str]:
    """The kernel log's over-current lines (undervoltage on a weak supply), as they stand."""
    return [line for line in complete_lines(text) if _OC_ALARM.search(line)]


def parse_l4t(text: str) -> Optional[str]:
    """``/etc/nv_tegra_release`` -> e.g. ``32.7.1``."""
    found = re.search(r"# R([0-9]{1,15}) \(release\), REVISION: ([0-9]{1,15}(?:\.[0-9]{1,15})*)(?=,)", text)
    return f"{found.group(1)}.{found.group(2)}" if found else None


JETPACK_OF_L4T = {
    "32.4.3": "4.4", "32.4.4": "4.4.1", "32.5": "4.5", "32.5.0": "4.5", "32.5.1": "4.5.1", "32.5.2": "4.5.1", "32.6.1": "4.6",
    "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4", "32.7.5": "4.6.5", "32.7.6": "4.6.6",
    "34.1": "5.0", "34.1.1": "5.0.1", "35.1": "5.0.2", "35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1", "35.4.1": "5.1.2",
    "35.5.0": "5.1.3", "35.6.0": "5.1.4", "36.2": "6.0", "36.2.0": "6.0", "36.3": "6.0", "36.3.0": "6.0", "36.4": "6.1", "36.4.0": "6.1",
    "36.4.3": "6.2",
}  # fmt: skip


# --- trtexec ---------------------------------------------------------------------------------------------------------

_TRTEXEC_METRICS = {
    "latency": "latency_ms",
    "end-to-end host latency": "end_to_end_ms",
    "enqueue time": "enqueue_ms",
    "h2d latency": "h2d_ms",
    "d2h latency": "d2h_ms",
    "gpu compute time": "gpu_compute_ms",
    "gpu compute": "gpu_compute_ms",
    "host latency": "latency_ms",
}
_TRTEXEC_PREFIX = re.compile(r"^(?:\[[0-9]{2}/[0-9]{2}/[0-9]{4}-[0-9:]{8}\] )?\[([VIWEF])\] ?")
_TRTEXEC_METRIC = re.compile(
    rf"([A-Za-z0-9 -]+): min = ({_NUMBER}) ms, max = ({_NUMBER}) ms, mean = ({_NUMBER}) ms, median = ({_NUMBER}) ms"
    rf"((?:, percentile\({_NUMBER}%\) = {_NUMBER} ms)*)"
)
_TRTEXEC_PERCENTILE = re.compile(rf"percentile\(({_NUMBER})%\) = ({_NUMBER}) ms")
_TRTEXEC_OLD = re.compile(rf"(min|max|mean|median|percentile): ({_NUMBER}) ms(?: at ({_NUMBER})%)?")
_TRTEXEC_TABLE = re.compile(r"=== Profile \(([0-9]{1,15}) iterations ?\) ===")
_TRTEXEC_ROW = re.compile(rf"((?:{_NUMBER}\s+){{3,4}})(\S.*)")
_TRTEXEC_OLD_ROW = re.compile(rf"(\S.*?)\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})")
_TRTEXEC_FACTS = (
    ("throughput_qps", re.compile(rf"Throughput: ({_NUMBER}) qps")),
    ("build_s", re.compile(rf"Engine built in ({_NUMBER}) sec\.?")),
    ("host_walltime_s", re.compile(rf"Total Host Walltime: ({_NUMBER}) s")),
    ("total_compute_s", re.compile(rf"Total GPU Compute Time: ({_NUMBER}) s")),
)
_TRTEXEC_QUERIES = re.compile(rf"Timing trace has ([0-9]{{1,15}}) queries over ({_NUMBER}) s")
_TRTEXEC_MARK = re.compile(
    r"&&&& (RUNNING|PASSED|FAILED) TensorRT\.trtexec \[TensorRT v([0-9]{4,6})\](?: \[b[0-9]{1,15}\])? # (.*)"
)


def trt_version_text(digits: str) -> str:
    """``8201`` -> ``8.2.1``; ``100300`` -> ``10.3.0`` (from 10 on each part has two digits)."""
    number = int(digits)
    if len(digits) <= 4:
        return f"{number // 1000}.{number // 100 % 10}.{number % 100}"
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def parse_trtexec(text: str) -> List[Json]:
    """The runs in a log of ``trtexec`` 7.1 to 10, in order; a log without its head or its end is a run too.

    Each: ``version, command, passed`` (True, False, None: it never said), ``build_s, throughput_qps, queries,
    host_walltime_s, total_compute_s``, ``metrics`` (``gpu_compute_ms, latency_ms, end_to_end_ms, enqueue_ms, h2d_ms,
    d2h_ms`` -> ``min, max, mean, median, percentiles``), ``profile`` (rows of the printed table) and ``errors``. A metric
    whose median or mean lies outside min..max is garbage and is dropped. Text that is no trtexec log gives no runs.
    """
    runs: List[Json] = []
    run = _empty_run()
    section, table = None, None  # type: Tuple[Optional[str], Optional[str]]
    for line in complete_lines(text):
        mark = _TRTEXEC_MARK.fullmatch(line.rstrip())
        if mark:
            if mark.group(1) == "RUNNING" and not _is_empty_run(run):
                runs.append(run)
                run = _empty_run()
            run["version"], run["command"] = trt_version_text(mark.group(2)), mark.group(3).strip()
            if mark.group(1) != "RUNNING":
                run["passed"] = mark.group(1) == "PASSED"
                runs.append(run)
                run = _empty_run()
            section, table = None, None
            continue
        prefix = _TRTEXEC_PREFIX.match(line)
        if not prefix:
            continue
        body = line[prefix.end() :].strip()
        if prefix.group(1) in "EF" and len(run["errors"]) < 100:
            run["errors"].append(body)
            continue
        section, table = _trtexec_line(run, body, section, table)
    if not _is_empty_run(run):
        runs.append(run)
    for each in runs:
        each["metrics"] = {name: value for name, value in each["metrics"].items() if _is_credible(value)}
    return runs


def _empty_run() -> Json:
    return {"version": None, "command": None, "passed": None, "metrics": {}, "profile": [], "errors": []}


def _is_empty_run(run: Json) -> bool:
    return run["version"] is None and len(run) == 6 and not (run["metrics"] or run["profile"] or run["errors"])


def _trtexec_line(
    run: Json, body: str, section: Optional[str], table: Optional[str]
) -> Tuple[Optional[str], Optional[str]]:
    """Put what one line says into ``run``; returns the section (7.1) and the kind of table that it leaves open."""
    metric = _TRTEXEC_METRIC.fullmatch(body)
    if metric and metric.group(1).lower() in _TRTEXEC_METRICS:
        values: Json = dict(zip(("min", "max", "mean", "median"), map(float, metric.groups()[1:5])))
        values["percentiles"] = {float(at): float(ms) for at, ms in _TRTEXEC_PERCENTILE.findall(metric.group(6))}
        run["metrics"][_TRTEXEC_METRICS[metric.group(1).lower()]] = values
        return None, None
    for name, pattern in _TRTEXEC_FACTS:
        found = pattern.fullmatch(body)
        if found:
            run[name] = float(found.group(1))
            return None, None
    found = _TRTEXEC_QUERIES.fullmatch(body)
    if found:
        run["queries"], run["trace_s"] = int(found.group(1)), float(found.group(2))
        return None, None
    if _TRTEXEC_TABLE.fullmatch(body):
        return None, "new"
    if table:
        return None, _profile_row(run, body, table)
    if body.lower() in _TRTEXEC_METRICS:
        name = _TRTEXEC_METRICS[body.lower()]
        run["metrics"][name] = {"percentiles": {}}
        return name, None
    found = _TRTEXEC_OLD.fullmatch(body)
    if found and section:
        if found.group(1) == "percentile":
            if found.group(3):
                run["metrics"][section]["percentiles"][float(found.group(3))] = float(found.group(2))
        elif not found.group(3):
            run["metrics"][section][found.group(1)] = float(found.group(2))
        return section, None
    return None, None


def _profile_row(run: Json, body: str, table: str) -> Optional[str]:
    """One line of the printed profile: its header names the columns, and their order changed between versions."""
    if table == "new":
        columns = re.sub(r"\s+", "", body).lower()
        known = {
            "layertime(ms)avg.time(ms)time%": "old",
            "layertime(ms)avg.time(ms)mediantime(ms)time%": "old4",
            "time(ms)avg.(ms)median(ms)time(%)layer": "median",
            "time(ms)avg.(ms)time(%)layer": "mean",
        }
        return known.get(columns)
    if table == "old":
        found = _TRTEXEC_OLD_ROW.fullmatch(body)
        if found:
            name, total, mean, share = found.groups()
            numbers = [total, mean, share]
    elif table in ("median", "mean"):
        found = _TRTEXEC_ROW.fullmatch(body)
        if found:
            numbers, name = found.group(1).split(), found.group(2)
            if len(numbers) != (4 if table == "median" else 3):
                return None
    else:
        found = re.fullmatch(rf"(\S.*?)\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})", body)
        if found:
            name, numbers = found.group(1), list(found.groups()[1:])
    if not found:
        return None
    if name.strip() != "Total":
        row: Json = {"name": name, "time_ms": float(numbers[0]), "average_ms": float(numbers[1])}
        row["percentage"] = float(numbers[-1])
        if len(numbers) == 4:
            row["median_ms"] = float(numbers[2])
        run["profile"].append(row)
    return table


def _is_credible(metric: Json) -> bool:
    if any(name not in metric for name in ("min", "max", "mean", "median")):
        return False
    low, high = metric["min"], metric["max"]
    if not (math.isfinite(high) and 0 <= low <= high):
        return False
    slack = 1e-4 * high
    inner = [metric["mean"], metric["median"], *metric["percentiles"].values()]
    return all(low - slack <= value <= high + slack for value in inner)


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class TraceRecord(NamedTuple):
    """One query of ``--exportTimes``, in milliseconds; ``start_ms`` on the trace's own clock."""

    start_ms: float
    compute_ms: float
    latency_ms: float
    h2d_ms: float
    d2h_ms: float


def parse_export_times(text: str) -> List[TraceRecord]:
    """``--exportTimes`` of 8.0 to 10, warm-up included; records that contradict themselves are left out."""
    data = _json_or_none(text)
    records = []
    for item in data if isinstance(data, list) else []:
        if not isinstance(item, dict):
            continue
        names = ("startComputeMs", "endComputeMs", "computeMs", "latencyMs", "h2dMs", "d2hMs")
        values = [finite(item.get(name)) for name in names]
        start, end, compute, latency = values[:4]
        if start is None or end is None or compute is None or latency is None:
            continue
        if not (0 < compute <= latency * 1.001 + 1e-3) or abs(end - start - compute) > 0.02 * compute + 0.02:
            continue
        records.append(TraceRecord(start, compute, latency, values[4] or 0.0, values[5] or 0.0))
    return records


def after_warm_up(records: Sequence[TraceRecord], warmup_ms: float) -> List[TraceRecord]:
    """Without what began within ``warmup_ms`` of the first: the export has the warm-up's queries too."""
    return [item for item in records if item.start_ms - records[0].start_ms >= warmup_ms]


def parse_export_profile(text: str) -> Tuple[Optional[int], List[Json]]:
    """``--exportProfile``: (number of runs, layers with ``name, time_ms, average_ms`` and, later, ``median_ms``)."""
    data = _json_or_none(text)
    count = None
    layers = []
    for item in data if isinstance(data, list) else []:
        if not isinstance(item, dict):
            continue
        if isinstance(item.get("count"), int) and not isinstance(item["count"], bool) and item["count"] > 0:
            count = item["count"]
        times = {"time_ms": finite(item.get("timeMs")), "average_ms": finite(item.get("averageMs"))}
        if isinstance(item.get("name"), str) and all(value is not None and value >= 0 for value in times.values()):
            layer: Json = dict(times, name=item["name"])
            for ours, theirs in (("median_ms", "medianMs"), ("percentage", "percentage")):
                value = finite(item.get(theirs))
                if value is not None and value >= 0:
                    layer[ours] = value
            layers.append(layer)
    return count, layers


def parse_export_layers(text: str) -> List[Json]:
    """``--exportLayerInfo``: per layer ``name, type, inputs, outputs`` (each ``name, shape, format``), ``tactic``.

    With the default verbosity the file holds the names alone; then so do the layers.
    """
    data = _json_or_none(text)
    found = data.get("Layers") if isinstance(data, dict) else None
    layers: List[Json] = []
    for item in found if isinstance(found, list) else []:
        if isinstance(item, str):
            layers.append({"name": item})
        elif isinstance(item, dict) and isinstance(item.get("Name"), str):
            tactic = item.get("TacticName", item.get("TacticValue"))
            layers.append(
                {
                    "name": item["Name"],
                    "type": item.get("LayerType") if isinstance(item.get("LayerType"), str) else None,
                    "inputs": _layer_tensors(item.get("Inputs")),
                    "outputs": _layer_tensors(item.get("Outputs")),
                    "tactic": tactic if isinstance(tactic, str) else None,
                }
            )
    return layers


def _layer_tensors(value: Any) -> List[Json]:
    tensors = []
    for item in value if isinstance(value, list) else []:
        shape = item.get("Dimensions") if isinstance(item, dict) else None
        if isinstance(shape, list) and all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
            tensors.append({"name": item.get("Name"), "shape": shape, "format": item.get("Format/Datatype")})
    return tensors


# ---------------------------------------------------------------------------------------------------------------------
# Results: JSON lines with a checksum each, appended and synced one by one
# ---------------------------------------------------------------------------------------------------------------------


def _canonical(record: Json) -> bytes:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def encode_line(record: Json) -> bytes:
    """One line of a results file, newline included: the record with the crc32 of its canonical JSON under ``crc``."""
    body = {key: value for key, value in record.items() if key != "crc"}
    return _canonical(dict(body, crc=binascii.crc32(_canonical(body)) & 0xFFFFFFFF)) + b"\n"


def decode_line(line: Union[bytes, str]) -> Optional[Json]:
    """The record of one line; None when it is torn, damaged, or none of ours."""
    try:
        record = json.loads(line.decode("utf-8") if isinstance(line, bytes) else line)
        if not isinstance(record, dict) or not isinstance(record.get("type"), str):
            return None
        crc = record.pop("crc", None)
        return record if crc == binascii.crc32(_canonical(record)) & 0xFFFFFFFF else None
    except (ValueError, RecursionError):
        return None


def read_results(path: Union[str, Path]) -> Tuple[List[Json], int]:
    """The sound records of a results file, in order, and how many damaged lines were passed over."""
    records, damaged = [], 0  # type: List[Json], int
    try:
        content = Path(str(path)).read_bytes()
    except FileNotFoundError:
        return [], 0
    for line in content.split(b"\n"):
        if line.strip():
            record = decode_line(line)
            if record is None:
                damaged += 1
            else:
                records.append(record)
    return records, damaged


class ResultsFile:
    """Appends to ``results.jsonl``; on opening, what a cut or a full disk left unfinished at its end is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repaired = self._repair_tail()
        self.records, self.damaged = read_results(path)

    def _repair_tail(self) -> bool:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return False
        if not content or content.endswith(b"\n"):
            return False
        start = content.rfind(b"\n") + 1
        with self.path.open("r+b") as stream:
            if decode_line(content[start:]) is not None:
                stream.seek(0, os.SEEK_END)
                stream.write(b"\n")
            else:
                stream.truncate(start)
            os.fsync(stream.fileno())
        return True

    def append(self, record: Json) -> None:
        """Write one record so that it survives a power cut; on a full disk nothing of it stays behind.

        Raises:
            StopEarly: the disk is full.
        """
        line = encode_line(record)
        handle = os.open(str(self.path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        length = os.fstat(handle).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(handle, line[written:])
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, length)
            if is_disk_full(error):
                raise StopEarly(f"disk full: {self.path} cannot take another line") from error
            raise
        finally:
            os.close(handle)
        self.records.append(json.loads(line.decode("ascii")))

    def finished(self, retry_failures: bool) -> Dict[Tuple[Any, ...], str]:
        """Jobs that have a result, as (id, sha256, precision, power profile) -> ``measurement`` or ``failure``."""
        done: Dict[Tuple[Any, ...], str] = {}
        for record in self.records:
            kind = record["type"]
            if kind == "measurement" or (kind == "failure" and not (record.get("retry") or retry_failures)):
                names = ("job_id", "sha256", "precision", "power_profile")
                done[tuple(record.get(name) for name in names)] = kind
        return done


# ---------------------------------------------------------------------------------------------------------------------
# The board: files and commands below a root, which tests replace by a simulated tree
# ---------------------------------------------------------------------------------------------------------------------


class Output(NamedTuple):
    code: int
    text: str


class Tree:
    """Reads the system's files and runs its commands. Below another root only that root's own commands are run."""

    FOLDERS = (
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
        "/usr/src/tensorrt/bin", "/usr/local/cuda/bin",
    )  # fmt: skip

    def __init__(self, root: str = "/") -> None:
        self.root = Path(root)
        self.is_real = self.root.resolve() == Path("/")
        self._sudo: Optional[bool] = None

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str:
        """The text of a file; empty where it is missing or refuses to be read (sysfs files may)."""
        try:
            return self.path(absolute).read_bytes().decode("utf-8", "replace").replace("\0", "")
        except OSError:
            return ""

    def number(self, absolute: str) -> Optional[int]:
        text = self.read(absolute).strip()
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None

    def glob(self, pattern: str) -> List[str]:
        """Paths below the root that match, sorted, written as if the root were /."""
        found = sorted(glob.glob(str(self.path(pattern))))  # noqa: PTH207 (pathlib's glob of 3.6 fails on /sys links)
        return ["/" + str(Path(path).relative_to(self.root)) for path in found]

    def command(self, name: str) -> Optional[str]:
        if self.is_real and shutil.which(name):
            return shutil.which(name)
        for folder in self.FOLDERS:
            candidate = self.path(folder) / name
            if candidate.is_file() and os.access(str(candidate), os.X_OK):
                return str(candidate)
        return None

    def may_change(self) -> bool:
        """Whether this user may set clocks: root, or sudo without a password."""
        if not self.is_real or os.geteuid() == 0:
            return True
        if self._sudo is None:
            self._sudo = False
            if shutil.which("sudo"):
                self._sudo = (
                    subprocess.call(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
                )
        return self._sudo

    def run(self, name: str, *arguments: str, as_root: bool = False, answer: str = "", timeout_s: float = 60) -> Output:
        """Run a command of the board; code 127 where there is none, 124 where it was stopped after ``timeout_s``."""
        command = self.command(name)
        if command is None:
            return Output(127, "")
        line = [command, *arguments]
        if as_root and self.is_real and os.geteuid() != 0:
            line = ["sudo", "-n", *line]
        try:
            done = subprocess.run(
                line, input=answer.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as late:
            return Output(124, (late.output or b"").decode("utf-8", "replace"))
        except OSError as error:
            return Output(126, str(error))
        return Output(done.returncode, done.stdout.decode("utf-8", "replace"))


class Gpu:
    """The integrated GPU's devfreq folder; all None on a machine without one."""

    FOLDERS = (
        "/sys/devices/57000000.gpu/devfreq/57000000.gpu",
        "/sys/devices/gpu.0/devfreq/*",
        "/sys/class/devfreq/*gpu*",
        "/sys/class/devfreq/*.g[avp]*[0-9][0-9]b",
    )

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        folders = [path for pattern in self.FOLDERS for path in tree.glob(pattern) if tree.read(path + "/cur_freq")]
        self.folder = folders[0] if folders else None

    def hz(self, which: str) -> Optional[int]:
        """``cur``, ``min`` or ``max`` frequency."""
        return self.tree.number(f"{self.folder}/{which}_freq") if self.folder else None

    def frequencies(self) -> List[int]:
        return parse_frequencies(self.tree.read(self.folder + "/available_frequencies")) if self.folder else []

    def top_hz(self) -> Optional[int]:
        """What a GPU locked at its highest runs at: the highest step within its cap (5W caps at 640 MHz and runs at 614.4)."""
        cap = self.hz("max")
        steps = [step for step in self.frequencies() if cap is not None and step <= cap]
        return steps[-1] if steps else cap

    def trans_stat(self) -> TransStat:
        return parse_trans_stat(self.tree.read(self.folder + "/trans_stat")) if self.folder else TransStat({}, None)


def read_temperatures(tree: Tree) -> Dict[str, float]:
    """Degrees by thermal zone. The PMIC's is a constant and left out, so is what no chip can have."""
    temps = {}
    for folder in tree.glob("/sys/class/thermal/thermal_zone*"):
        name, value = tree.read(folder + "/type").strip(), tree.number(folder + "/temp")
        if name and value is not None and not name.upper().startswith("PMIC"):
            degrees = value / 1000.0
            if -50 <= degrees <= 150:
                temps[name] = degrees
    return temps


def chip_temperature(temps: Dict[str, float]) -> Optional[float]:
    """The GPU's where there is one, otherwise the hottest zone's."""
    for name in temps:
        if name.lower().startswith("gpu"):
            return temps[name]
    return max(temps.values()) if temps else None


def read_clocks(tree: Tree) -> Json:
    """Live clocks: GPU and memory in Hz, cores in kHz; None where the board does not tell."""
    gpu = Gpu(tree)
    cpus = [tree.number(path) for path in tree.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    known = [value for value in cpus if value is not None]
    return {
        "gpu_hz": gpu.hz("cur"),
        "gpu_min_hz": gpu.hz("min"),
        "gpu_max_hz": gpu.hz("max"),
        "cpu_khz": max(known) if known else None,
        "cpu_online": tree.read("/sys/devices/system/cpu/online").strip() or None,
        "emc_hz": tree.number("/sys/kernel/debug/clk/emc/clk_rate"),
        "emc_override": tree.number("/sys/kernel/debug/clk/override.emc/clk_state"),
    }


def steady_clocks(clocks: Json, locked: bool) -> Json:
    """Of the live clocks those that tell one set-up from another: unlocked, what they happen to be now tells nothing."""
    steady = ["gpu_max_hz", "cpu_online", *(["gpu_hz", "cpu_khz", "emc_hz", "emc_override"] if locked else [])]
    return {name: clocks[name] for name in steady if clocks[name] is not None}


def read_meminfo(tree: Tree) -> Dict[str, int]:
    """``/proc/meminfo`` in kB."""
    found = [re.fullmatch(r"(\w+):\s+(\d+) kB", line) for line in complete_lines(tree.read("/proc/meminfo"))]
    return {match.group(1): int(match.group(2)) for match in found if match}


def board_model(tree: Tree) -> str:
    for path in ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model", "/sys/class/dmi/id/product_name"):
        text = tree.read(path).strip()
        if text:
            return text
    return "unknown"


def cpu_model(tree: Tree) -> str:
    for line in tree.read("/proc/cpuinfo").splitlines():
        if line.lower().startswith(("model name", "hardware")) and ":" in line:
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or "unknown"


def cuda_version(tree: Tree) -> Optional[str]:
    found = _json_or_none(tree.read("/usr/local/cuda/version.json"))
    version = found.get("cuda", {}) if isinstance(found, dict) else {}
    if isinstance(version, dict) and isinstance(version.get("version"), str):
        return str(version["version"])
    text = re.search(r"CUDA Version (\d+\.\d+(?:\.\d+)?)", tree.read("/usr/local/cuda/version.txt"))
    return text.group(1) if text else None


def installed_tensorrt(tree: Tree) -> Optional[str]:
    """From the package list or the C++ header: also where Python has no ``tensorrt``."""
    packages = tree.read("/var/lib/dpkg/status")
    found = re.search(r"^Package: libnvinfer\d+\n(?:[^\n]+\n)*?Version: (\d+\.\d+\.\d+)", packages, re.MULTILINE)
    if found:
        return found.group(1)
    for path in tree.glob("/usr/include/*/NvInferVersion.h") + tree.glob("/usr/include/NvInferVersion.h"):
        parts = re.findall(r"#define NV_TENSORRT_(?:MAJOR|MINOR|PATCH) (\d+)", tree.read(path))
        if len(parts) == 3:
            return ".".join(parts)
    return None


def power_mode(tree: Tree) -> Optional[PowerMode]:
    return parse_nvpmodel(tree.run("nvpmodel", "-q").text)


def board_facts(tree: Tree) -> Json:
    """All that is worth knowing about the board before it is believed; nothing is changed."""
    l4t = parse_l4t(tree.read("/etc/nv_tegra_release"))
    memory, mode, meter = read_meminfo(tree), power_mode(tree), PowerMeter(tree)
    rails = meter.snapshot()
    note = meter.note or rail_problem(rails)
    may_change = tree.may_change()
    return {
        "board_model": board_model(tree),
        "cpu": cpu_model(tree),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "kernel": tree.read("/proc/sys/kernel/osrelease").strip() or platform.release(),
        "boot_id": tree.read("/proc/sys/kernel/random/boot_id").strip() or None,
        "l4t": l4t,
        "jetpack": JETPACK_OF_L4T.get(l4t or ""),
        "cuda": cuda_version(tree),
        "tensorrt": installed_tensorrt(tree),
        "python": platform.python_version(),
        "power_mode": mode.name if mode else None,
        "power_mode_id": mode.mode_id if mode else None,
        "clocks_now": read_clocks(tree),
        "gpu_frequencies_hz": Gpu(tree).frequencies(),
        "memory_total_mb": memory["MemTotal"] // 1024 if "MemTotal" in memory else None,
        "memory_free_mb": memory["MemAvailable"] // 1024 if "MemAvailable" in memory else None,
        "swap_mb": memory["SwapTotal"] // 1024 if "SwapTotal" in memory else None,
        "rails": [rail.name for rail in meter.rails],
        "rails_mw": rails,
        "power_rail": meter.total if not note else None,
        "power_note": note,
        "temps_c": read_temperatures(tree),
        "oc_alarms": len(parse_oc_alarms(tree.run("dmesg").text)),
        "may_lock_clocks": may_change and tree.command("jetson_clocks") is not None,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Clocks: power mode and jetson_clocks, noted down before they are touched and given back afterwards
# ---------------------------------------------------------------------------------------------------------------------


NANO_MODES = {"maxn": 0, "5w": 1}


class Clocks:
    """Locks the clocks and gives them back; what to give back lies in a file that outlives a crash and a reboot."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.folder = tree.path(STATE_FOLDER)
        self.state_path = self.folder / "state.json"
        self.held: Optional[Lock] = None
        self.note: Optional[str] = None

    def lock(self, profile: Optional[str], wanted: bool) -> None:
        """Set the power mode ``profile`` and lock the clocks.

        Clocks that cannot be locked are told in ``note``: measuring goes on and the results say so.

        Raises:
            UserMistake: another power mode is on and it cannot be changed: the numbers would be another profile's.
        """
        if profile:
            self._set_mode(profile)
        if not wanted:
            self.note = "the job list asks for unlocked clocks"
        elif self.tree.command("jetson_clocks") is None:
            self.note = "no jetson_clocks on this machine"
        elif not self.tree.may_change():
            self.note = "not root, and sudo asks for a password: run the agent as root to lock the clocks"
        else:
            self._jetson_clocks()

    def _set_mode(self, profile: str) -> None:
        current = power_mode(self.tree)
        if current is None:
            self.note = "no nvpmodel on this machine"
            raise UserMistake(
                f"the job list asks for power profile {profile!r}, but nvpmodel does not answer here; "
                "leave power_profile out for machines other than a Jetson"
            )
        if current.name.lower() == profile.lower():
            return
        modes = parse_nvpmodel_conf(self.tree.read("/etc/nvpmodel.conf")) or NANO_MODES
        if profile.lower() not in modes:
            raise UserMistake("this board has no power mode {!r}; it has {}".format(profile, ", ".join(sorted(modes))))
        if not self.tree.may_change():
            raise UserMistake(
                f"power mode {current.name} is on, the job list asks for {profile}, and only root may change it; "
                f"run the agent as root, or first: sudo nvpmodel -m {modes[profile.lower()]}"
            )
        self._save_state({"mode": current.mode_id if current.mode_id is not None else modes.get(current.name.lower())})
        self.tree.run("nvpmodel", "-m", str(modes[profile.lower()]), as_root=True, answer="no\n")
        after = power_mode(self.tree)
        if after is None or after.name.lower() != profile.lower():
            raise UserMistake(
                "nvpmodel did not switch to {} (it says {}); a reboot may be needed: sudo nvpmodel -m {}".format(
                    profile, after.name if after else "nothing", modes[profile.lower()]
                )
            )

    def _jetson_clocks(self) -> None:
        store = self.folder / "jetson_clocks.store"
        self._make_folder()
        if store.exists():
            store.unlink()
        stored = self.tree.run("jetson_clocks", "--store", str(store), as_root=True, answer="y\n")
        if stored.code != 0 or not parse_jetson_clocks_store(_text_of(store)):
            self.note = "jetson_clocks --store failed, so the clocks were left alone: " + stored.text.strip()[-200:]
            return
        self._save_state({"store": str(store)})
        done = self.tree.run("jetson_clocks", as_root=True, timeout_s=120)
        self.note = "jetson_clocks failed: " + done.text.strip()[-200:] if done.code != 0 else self._check()

    def _check(self) -> Optional[str]:
        """None, and ``held`` is set, when GPU min = max = current (it may take a moment); otherwise what is wrong."""
        gpu = Gpu(self.tree)
        seen: Tuple[Optional[int], ...] = (None, None, None)
        for _ in range(10):
            seen = tuple(gpu.hz(which) for which in ("min", "max", "cur"))
            lowest, cap, now = seen
            if now is not None and lowest is not None and now == gpu.top_hz() and lowest in (now, cap):
                self.held = Lock(now, read_clocks(self.tree)["cpu_khz"])
                return None
            time.sleep(0.2)
        return "the GPU clock did not lock: min {}, max {}, current {} Hz".format(*seen)

    def _save_state(self, change: Json) -> None:
        self._make_folder()
        write_durably(self.state_path, json.dumps(dict(self._load_state(), **change)).encode())

    def _make_folder(self) -> None:
        """The folder lies where everybody may write: what another user put there is not given to root's commands."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            owner = self.folder.stat().st_uid
        except OSError as error:
            raise UserMistake(f"what to give back cannot be noted down in {self.folder}: {error}") from error
        if owner not in (0, os.geteuid()) or not os.access(str(self.folder), os.W_OK):
            raise UserMistake(f"{self.folder} belongs to another user: delete it, or run the agent as that user")

    def _load_state(self) -> Json:
        state = _json_or_none(_text_of(self.state_path))
        return state if isinstance(state, dict) else {}

    def restore(self) -> Optional[str]:
        """Give back what was changed, by this run or one that crashed. None: all is as it was; else what is not.

        Safe to call again; the note of what to give back is deleted last.
        """
        if not self.state_path.exists():
            return None
        state, problems = self._load_state(), []
        store = state.get("store")
        if isinstance(store, str) and parse_jetson_clocks_store(_text_of(Path(store))):
            done = self.tree.run("jetson_clocks", "--restore", store, as_root=True, timeout_s=120)
            if done.code != 0:
                problems.append(f"jetson_clocks --restore {store}: {done.text.strip()[-200:]}")
        if isinstance(state.get("mode"), int):
            self.tree.run("nvpmodel", "-m", str(state["mode"]), as_root=True, answer="no\n")
            now = power_mode(self.tree)
            if now is None or now.mode_id not in (state["mode"], None):
                problems.append("nvpmodel -m {} did not take".format(state["mode"]))
        if problems:
            return "; ".join(problems)
        self.held = None
        for path in (self.folder / "jetson_clocks.store", self.state_path):
            if path.exists():
                path.unlink()
        return None


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never half of one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
    finally:
        if temporary.exists():
            temporary.unlink()


# ---------------------------------------------------------------------------------------------------------------------
# Watching: did the board stay the same board while it was measured?
# ---------------------------------------------------------------------------------------------------------------------


class Snapshot(NamedTuple):
    gpu_hz: Optional[int]
    cpu_khz: Optional[int]
    temp_c: Optional[float]
    trans_stat: TransStat
    oc_alarms: List[str]
    clocks: Json


class Problem(NamedTuple):
    throttled: bool
    text: str


class Lock(NamedTuple):
    """What the clocks were locked at when the run began; ``cpu_khz`` None where the board does not tell."""

    gpu_hz: int
    cpu_khz: Optional[int]


class Watch:
    """Compares the board before, during and after a measurement.

    Args:
        lock: the clocks were locked there, so being elsewhere is a fault; None: unlocked, a change only makes noise.
    """

    TEMPERATURE_DRIFT_C = 10.0
    HOT_C = 85.0

    def __init__(self, tree: Tree, lock: Optional[Lock]) -> None:
        self.tree = tree
        self.lock = lock
        self.gpu = Gpu(tree)
        self.seen_gpu_hz: Set[Optional[int]] = set()

    def snapshot(self) -> Snapshot:
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
        first = self.snapshot()
        self.seen_gpu_hz = {first.gpu_hz}
        return first

    def tick(self) -> None:
        """Between two rounds: a short dip that is over at the end is seen here."""
        self.seen_gpu_hz.add(self.gpu.hz("cur"))

    def problems(self, before: Snapshot, after: Snapshot) -> List[Problem]:
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
        """Wait until the chip is at ``target_c`` or for so long."""
        deadline = time.monotonic() + longest_s
        while target_c is not None and time.monotonic() < deadline:
            temp = chip_temperature(read_temperatures(self.tree))
            if temp is None or temp <= target_c:
                return
            time.sleep(min(0.5, longest_s / 4))


def _trans_stat_changes(before: TransStat, after: TransStat) -> Optional[str]:
    """What the kernel's own count says about clock changes in between; it sees dips that nobody else saw."""
    if before.transitions is not None and after.transitions is not None and after.transitions > before.transitions:
        return f"trans_stat counts {after.transitions - before.transitions} GPU clock changes"
    grown = [hz for hz, ms in after.times_ms.items() if ms > before.times_ms.get(hz, 0)]
    if len(grown) > 1:
        return f"trans_stat shows time at {len(grown)} GPU clocks"
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Power: INA3221 rails, integrated over a steady loop
# ---------------------------------------------------------------------------------------------------------------------


class Rail(NamedTuple):
    """A rail and where its power is: one file in mW, or two in mV and mA."""

    name: str
    files: Tuple[str, ...]


class PowerMeter:
    """Reads the board's rails, and on request keeps reading them in a thread.

    ``note`` says why there is no power to report; then every figure is None and never 0.
    """

    TOTALS = ("POM_5V_IN", "VDD_IN", "VIN_SYS_5V0", "SYS5V")
    PERIOD_S = 0.02

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.rails = self._find()
        names = [rail.name for rail in self.rails]
        self.total = next((name for name in self.TOTALS if name in names), None)
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
        return [rail for rail in rails if rail.name and self._read(rail) is not None]

    def _read(self, rail: Rail) -> Optional[int]:
        values = [self.tree.number(path) for path in rail.files]
        if any(value is None or value < 0 for value in values):
            return None
        known = [value for value in values if value is not None]
        return known[0] if len(known) == 1 else known[0] * known[1] // 1000

    def snapshot(self) -> Dict[str, int]:
        """Milliwatts by rail, now."""
        values = [(rail.name, self._read(rail)) for rail in self.rails]
        return {name: value for name, value in values if value is not None}

    def start(self) -> None:
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
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def integral_mj(self, begin: float, end: float) -> Optional[float]:
        """Energy of the whole board between two times of ``time.monotonic``; None with fewer than 3 readings inside."""
        points = [
            (at, values[self.total]) for at, values in self.samples if self.total in values and begin <= at <= end
        ]
        if len(points) < 3 or end <= begin:
            return None
        area = sum((at2 - at1) * (mw1 + mw2) / 2 for (at1, mw1), (at2, mw2) in zip(points, points[1:]))
        return area * (end - begin) / (points[-1][0] - points[0][0])

    def mean_rails(self) -> Dict[str, float]:
        names = {name for _, values in self.samples for name in values}
        return {name: _mean([values[name] for _, values in self.samples if name in values]) for name in names}

    def mean_over(self, seconds: float) -> Optional[float]:
        """Mean power of the board in mW while nothing is done."""
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
    """Why these readings cannot be believed: the whole board takes less than a part of it, or nothing at all.

    On one known carrier board the names are mixed up.
    """
    total_name = next((name for name in PowerMeter.TOTALS if name in rails_mw), None)
    if total_name is None:
        return None
    total = rails_mw[total_name]
    if total <= 0:
        return f"power rail {total_name} reads {total:.0f} mW"
    for name, value in sorted(rails_mw.items()):
        if name != total_name and ("GPU" in name or "CPU" in name) and value > total:
            return f"rails are mislabelled: {name} {value:.0f} mW is more than {total_name} {total:.0f} mW"
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Protocol: warm-up, rounds with the reference in between, as many runs as the wanted confidence takes
# ---------------------------------------------------------------------------------------------------------------------


class Settings(NamedTuple):
    """The job list's ``protocol``. Seconds, counts, and shares.

    ``confidence_rel`` is the wanted half width of the median's 95 % interval over the median; ``max_drift_rel`` the
    change of the reference (or, without one, of the network itself) from the first half of the rounds to the second
    above which a measurement is repeated, at most ``max_repeats`` times.
    """

    warmup_s: float
    min_runs: int
    max_runs: int
    max_s: float
    rounds: int
    confidence_rel: float
    max_drift_rel: float
    max_repeats: int
    energy_s: float
    reference_runs: int
    cool_down_s: float
    build_timeout_s: float


DEFAULTS = {
    "warmup_s": 1.0,
    "min_runs": 50,
    "max_runs": 2000,
    "max_s": 10.0,
    "rounds": 5,
    "confidence_rel": 0.005,
    "max_drift_rel": 0.02,
    "max_repeats": 2,
    "energy_s": 5.0,
    "reference_runs": 5,
    "cool_down_s": 60.0,
    "build_timeout_s": 7200.0,
}  # type: Dict[str, float]


def read_settings(value: Json) -> Settings:
    """Settings from the job list; what it leaves out has its default.

    Raises:
        UserMistake: a name is unknown or a value is no number of the right kind.
    """
    unknown = sorted(set(value) - set(DEFAULTS))
    if unknown:
        raise UserMistake("protocol has no setting {!r}; it has {}".format(unknown[0], ", ".join(sorted(DEFAULTS))))
    merged: Dict[str, Any] = dict(DEFAULTS)
    for name, given in value.items():
        number = finite(given)
        if number is None or number < 0:
            raise UserMistake(f"protocol.{name} must be a number of at least 0, not {given!r}")
        merged[name] = int(number) if isinstance(DEFAULTS[name], int) else number
    for name in ("min_runs", "rounds", "reference_runs"):
        merged[name] = max(1, merged[name])
    return Settings(**merged)


def percentile(values: Sequence[float], share: float) -> float:
    """Linear between the two nearest ranks, as numpy does it. ``share`` in 0..1."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median_confidence(values: Sequence[float]) -> float:
    """Half width of the 95 % interval of the median over the median, from order statistics; inf below 6 values."""
    count = len(values)
    if count < 6:
        return float("inf")
    ordered = sorted(values)
    reach = 0.98 * math.sqrt(count)
    low = max(0, math.floor(count / 2.0 - reach))
    high = min(count - 1, math.ceil(count / 2.0 + reach))
    return (ordered[high] - ordered[low]) / 2 / percentile(ordered, 0.5)


class Loop(NamedTuple):
    """A steady loop: so many runs between two times of ``time.monotonic``."""

    runs: int
    begin: float
    end: float


class Runner(abc.ABC):
    """Something that runs one network. ``samples`` times the network alone, ``end_to_end`` with copies in and out."""

    rounds_at_most = 1000000
    warms_itself = False

    def __init__(self) -> None:
        self.facts: Json = {}

    @abc.abstractmethod
    def samples(self, count: int) -> List[float]:
        """Milliseconds of ``count`` runs (or more)."""

    @abc.abstractmethod
    def end_to_end(self, count: int) -> List[float]:
        """The same with copies in and out."""

    def loop(self, seconds: float) -> Loop:
        """Run without pause for about so long."""
        begin = time.monotonic()
        runs = 0
        while time.monotonic() - begin < seconds:
            runs += len(self.samples(1))
        return Loop(runs, begin, time.monotonic())

    def layers(self) -> List[Tuple[str, float]]:
        """(name, ms) of each launch, measured apart because it distorts; empty where the backend cannot look inside."""
        return []

    def memory_mb(self) -> Optional[float]:
        """Peak memory of the network, where the backend knows better than the process."""
        return None


class Timing(NamedTuple):
    samples_ms: List[float]
    reference_ms: Optional[float]
    drift_rel: float
    confidence_rel: float
    problems: List[Problem]
    before: Snapshot
    after: Snapshot


def time_runner(runner: Runner, reference: Optional[Runner], settings: Settings, watch: Watch) -> Tuple[Timing, int]:
    """The protocol. Returns the best timing (the first one without a problem) and how often it was repeated."""
    attempts: List[Timing] = []
    warm_up(runner, settings)
    for attempt in range(settings.max_repeats + 1):
        if attempt:
            watch.cool_down(attempts[0].before.temp_c, settings.cool_down_s)
            warm_up(runner, settings)
        timing = time_once(runner, reference, settings, watch)
        attempts.append(timing)
        if not timing.problems:
            break
    best = min(
        attempts, key=lambda each: (any(item.throttled for item in each.problems), len(each.problems), each.drift_rel)
    )
    return best, len(attempts) - 1


def warm_up(runner: Runner, settings: Settings) -> None:
    """At least ``warmup_s``, then until two blocks agree within 1 %, three times ``warmup_s`` at most."""
    if runner.warms_itself:
        return
    begin = time.monotonic()
    last: Optional[float] = None
    while True:
        now = percentile(credible(runner.samples(3)), 0.5)
        elapsed = time.monotonic() - begin
        steady = last is not None and abs(now - last) <= 0.01 * now
        if elapsed >= settings.warmup_s and (steady or elapsed >= 3 * settings.warmup_s):
            return
        last = now


def credible(samples: List[float]) -> List[float]:
    """The samples, if each is a positive finite time.

    Raises:
        JobError: otherwise: a clock or a driver is wrong.
    """
    bad = [value for value in samples if not (value > 0 and math.isfinite(value))]
    if bad or not samples:
        raise JobError("the backend reported {} as a time in ms".format(bad[0] if bad else "nothing"), retry=True)
    return samples


def time_once(runner: Runner, reference: Optional[Runner], settings: Settings, watch: Watch) -> Timing:
    rounds = min(settings.rounds, runner.rounds_at_most)
    per_round = -(-settings.min_runs // rounds)
    samples: List[float] = []
    references: List[List[float]] = []
    blocks: List[List[float]] = []

    def take_reference() -> None:
        if reference is not None:
            if not reference.warms_itself:
                reference.samples(1)
            references.append(credible(reference.samples(settings.reference_runs)))

    before = watch.begin()
    begin = time.monotonic()
    take_reference()
    while True:
        block = credible(runner.samples(per_round))
        watch.tick()
        samples += block
        blocks.append(block)
        take_reference()
        elapsed = time.monotonic() - begin
        enough = len(samples) >= settings.min_runs and len(blocks) >= rounds
        if enough and median_confidence(samples) <= settings.confidence_rel:
            break
        if enough and len(samples) >= settings.max_runs:
            break
        if elapsed >= settings.max_s and (enough or elapsed >= 3 * settings.max_s) and len(samples) >= 3:
            break
        if len(blocks) >= runner.rounds_at_most and enough:
            break
    after = watch.snapshot()
    steady = references if reference is not None else blocks
    drift = half_drift(steady)
    problems = watch.problems(before, after)
    if drift > settings.max_drift_rel:
        what = "the reference network" if reference is not None else "the network"
        problems.append(Problem(False, f"{what} drifted by {drift:.1%}"))
    reference_ms = percentile([value for block in references for value in block], 0.5) if references else None
    return Timing(samples, reference_ms, drift, median_confidence(samples), problems, before, after)


def half_drift(blocks: Sequence[Sequence[float]]) -> float:
    """Relative change of the median from the first half of the blocks to the second; 0 with a single block."""
    if len(blocks) < 2:
        return 0.0
    half = (len(blocks) + 1) // 2
    first, second = ([value for block in part for value in block] for part in (blocks[:half], blocks[-half:]))
    early, late = percentile(first, 0.5), percentile(second, 0.5)
    return abs(late - early) / min(late, early)


def measure_energy(runner: Runner, meter: PowerMeter, seconds: float) -> Json:
    """Energy of one inference in mJ, gross and with the idle board's share taken off; or why there is none."""
    result = {
        "energy_mj_gross": None,
        "energy_mj_net": None,
        "power_mw": None,
        "idle_power_mw": None,
        "power_rail": None,
        "power_note": meter.note,
    }  # type: Json
    if meter.note or seconds <= 0:
        result["power_note"] = meter.note or "not asked for"
        return result
    time.sleep(min(1.0, seconds / 4))
    idle_mw = meter.mean_over(min(2.0, seconds))
    meter.start()
    loop = runner.loop(seconds)
    meter.stop()
    energy = meter.integral_mj(loop.begin, loop.end)
    problem = rail_problem(meter.mean_rails())
    if problem or energy is None or loop.runs == 0:
        result["power_note"] = problem or "too few power readings"
        return result
    result["energy_mj_gross"] = energy / loop.runs
    result["power_mw"] = energy / (loop.end - loop.begin)
    result["power_rail"] = meter.total
    if idle_mw is None:
        result["power_note"] = "too few power readings while idle"
        return result
    result["idle_power_mw"] = idle_mw
    net = (energy - idle_mw * (loop.end - loop.begin)) / loop.runs
    if net > 0:
        result["energy_mj_net"] = net
    else:
        result["power_note"] = "the loop takes no more power than the idle board"
    return result


# ---------------------------------------------------------------------------------------------------------------------
# What an ONNX file holds, without the onnx package
# ---------------------------------------------------------------------------------------------------------------------

_ONNX_PRECISION = {1: "fp32", 2: "int8", 3: "int8", 10: "fp16", 16: "bf16"}
_TYPE_BYTES = {1: 4, 2: 1, 3: 1, 10: 2, 16: 2}


def onnx_precision(path: Path) -> Optional[str]:
    """The precision most of the weights are stored in; None where there are none or the file cannot be read.

    Runtimes that run a file as it is (ONNX Runtime, TensorRT 11) measure this precision, whatever was asked for.
    """
    counts: Dict[str, int] = {}
    try:
        for field, graph in _fields(path.read_bytes()):
            if field == 7 and isinstance(graph, bytes):
                for inner, tensor in _fields(graph):
                    if inner == 5 and isinstance(tensor, bytes):
                        _count_weights(tensor, counts)
    except (OSError, ValueError, IndexError, MemoryError):
        return None
    return max(counts, key=lambda name: counts[name]) if counts else None


def _count_weights(tensor: bytes, counts: Dict[str, int]) -> None:
    values = list(_fields(tensor))
    data_type = next((value for field, value in values if field == 2 and isinstance(value, int)), 0)
    name = _ONNX_PRECISION.get(data_type)
    if name:
        size = sum(len(value) for field, value in values if isinstance(value, bytes) and field in (4, 9))
        counts[name] = counts.get(name, 0) + max(1, size // _TYPE_BYTES[data_type])


def _fields(message: bytes) -> Iterable[Tuple[int, Union[int, bytes]]]:
    """(number, value) of a protobuf message's fields. Raises ValueError or IndexError where it is none."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            number, at = _varint(message, at)
            yield key >> 3, number
        elif wire == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("the message ends too early")
            yield key >> 3, message[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("this is no protobuf message")


def _varint(message: bytes, at: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("this is no protobuf message")


def check_precision(path: Path, asked: str, runtime: str) -> None:
    """For runtimes that run the file as it is.

    Raises:
        JobError: its weights are of another precision than the job asks for.
    """
    held = onnx_precision(path)
    if held is not None and held != asked:
        raise JobError(
            f"{runtime} runs a file in its own precision, which is {held}, and the job asks for {asked}: "
            f"export it in {asked}"
        )


# ---------------------------------------------------------------------------------------------------------------------
# CUDA's runtime through ctypes
# ---------------------------------------------------------------------------------------------------------------------


class CudaRuntime:
    """The few calls of libcudart that timing an engine takes. Each raises JobError with CUDA's own words."""

    NAMES = ("libcudart.so", "libcudart.so.10.2", "libcudart.so.11.0", "libcudart.so.12", "libcudart.so.13")
    FOLDERS = ("", "/usr/local/cuda/lib64/", "/usr/lib/aarch64-linux-gnu/")
    TO_DEVICE, TO_HOST = 1, 2

    def __init__(self) -> None:
        self.lib = self._load()
        self.lib.cudaGetErrorString.restype = ctypes.c_char_p

    def _load(self) -> Any:
        wheels = [
            path
            for folder in sys.path
            for path in glob.glob(str(Path(folder) / "nvidia" / "*" / "lib" / "libcudart.so.*"))  # noqa: PTH207
        ]
        for name in [folder + name for folder in self.FOLDERS for name in self.NAMES] + wheels:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
        raise JobError("CUDA's runtime (libcudart.so) was not found; is CUDA installed on this board?")

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self.lib, name)(*arguments)
        if code != 0:
            text = self.lib.cudaGetErrorString(code)
            raise JobError("{}: {}".format(name, text.decode("utf-8", "replace") if text else code))

    def _new(self, name: str, *arguments: Any) -> int:
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def malloc(self, size: int) -> int:
        return self._new("cudaMalloc", ctypes.c_size_t(size))

    def host_alloc(self, size: int) -> int:
        """Pinned host memory: copies from other memory are staged, which is not what a fast program does."""
        return self._new("cudaHostAlloc", ctypes.c_size_t(size), ctypes.c_uint(0))

    def stream(self) -> int:
        return self._new("cudaStreamCreate")

    def event(self) -> int:
        return self._new("cudaEventCreate")

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def elapsed_ms(self, begin: int, end: int) -> float:
        self._call("cudaEventSynchronize", ctypes.c_void_p(end))
        value = ctypes.c_float()
        self._call("cudaEventElapsedTime", ctypes.byref(value), ctypes.c_void_p(begin), ctypes.c_void_p(end))
        return float(value.value)

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    def free_bytes(self) -> int:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return int(free.value)


# ---------------------------------------------------------------------------------------------------------------------
# Backend: TensorRT's Python API, 8.0 to 11
# ---------------------------------------------------------------------------------------------------------------------


class Tensor(NamedTuple):
    name: str
    is_input: bool
    size_bytes: int
    is_float32: bool
    device: int
    host: int


def _trt_logger(trt: Any) -> Any:
    """TensorRT's messages on stderr, where the agent keeps their end for the failure's record."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = "it gave no reason"

        def log(self, severity: Any, message: str) -> None:
            name = str(severity).rsplit(".", 1)[-1]
            if "ERROR" in name:
                self.last_error = message[:500]
            if name != "VERBOSE":
                say(f"[TRT] {name}: {message}", sys.stderr)

    return Logger()


_TRT_BITS = {"FLOAT": 32, "HALF": 16, "BF16": 16, "INT8": 8, "UINT8": 8, "BOOL": 8, "FP8": 8, "INT32": 32, "INT64": 64}


class TensorRt:
    """Builds and runs engines with whichever API the installed version has; nothing asks for its number."""

    name = "tensorrt"
    needs_build = True

    @staticmethod
    def build(spec: Json) -> Json:
        trt = importlib.import_module("tensorrt")
        logger = _trt_logger(trt)
        if hasattr(trt, "init_libnvinfer_plugins"):
            trt.init_libnvinfer_plugins(logger, "")
        builder = trt.Builder(logger)
        explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        network = builder.create_network(1 << int(explicit) if explicit is not None else 0)
        parser = trt.OnnxParser(network, logger)
        if hasattr(parser, "parse_from_file"):
            parsed = parser.parse_from_file(spec["onnx"])
        else:
            parsed = parser.parse(Path(spec["onnx"]).read_bytes())
        if not parsed:
            errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
            raise JobError("TensorRT cannot read this ONNX: {}".format("; ".join(errors)[:1000] or "no reason given"))
        config = builder.create_builder_config()
        if hasattr(config, "set_memory_pool_limit"):
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec["workspace_mb"] << 20)
        else:
            config.max_workspace_size = spec["workspace_mb"] << 20
        TensorRt._set_precision(trt, config, network, spec)
        cache = TensorRt._timing_cache(config, Path(spec["cache"]))
        begin = time.monotonic()
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise JobError("TensorRT could not build an engine: " + logger.last_error)
        seconds = time.monotonic() - begin
        write_durably(Path(spec["plan"]), bytes(plan))
        if cache:
            write_durably(Path(spec["cache"]), bytes(config.get_timing_cache().serialize()))
        return {"build_s": seconds}

    @staticmethod
    def _set_precision(trt: Any, config: Any, network: Any, spec: Json) -> None:
        asked = spec["precision"]
        if asked == "fp32":
            if not hasattr(trt.BuilderFlag, "FP16"):
                check_precision(Path(spec["onnx"]), asked, "this TensorRT")
        elif asked == "fp16":
            if hasattr(trt.BuilderFlag, "FP16"):
                config.set_flag(trt.BuilderFlag.FP16)
            else:
                check_precision(Path(spec["onnx"]), asked, "this TensorRT")
        elif asked == "int8":
            kinds = {network.get_layer(index).type for index in range(network.num_layers)}
            if not hasattr(trt.LayerType, "QUANTIZE") or trt.LayerType.QUANTIZE not in kinds:
                raise JobError("int8 needs an ONNX with QuantizeLinear/DequantizeLinear nodes, and this one has none")
            for flag in ("INT8", "FP16"):
                if hasattr(trt.BuilderFlag, flag):
                    config.set_flag(getattr(trt.BuilderFlag, flag))
        else:
            raise JobError(f"precision is fp32, fp16 or int8, not {asked!r}")

    @staticmethod
    def _timing_cache(config: Any, path: Path) -> bool:
        """Give the builder what earlier builds timed: the greater part of a build is timing tactics."""
        if not hasattr(config, "create_timing_cache"):
            return False
        content = path.read_bytes() if path.exists() else b""
        if not config.set_timing_cache(config.create_timing_cache(content), False):
            config.set_timing_cache(config.create_timing_cache(b""), False)
        return True

    @staticmethod
    def open(spec: Json) -> Runner:
        return TensorRtRunner(Path(spec["plan"]))


class TensorRtRunner(Runner):
    """One deserialised engine with its buffers."""

    def __init__(self, plan: Path) -> None:
        super().__init__()
        trt = importlib.import_module("tensorrt")
        self.trt = trt
        self.cuda = CudaRuntime()
        self.stream = self.cuda.stream()
        self.free_before = self.cuda.free_bytes()
        self.logger = _trt_logger(trt)
        if hasattr(trt, "init_libnvinfer_plugins"):
            trt.init_libnvinfer_plugins(self.logger, "")
        self.runtime = trt.Runtime(self.logger)
        self.engine = self.runtime.deserialize_cuda_engine(plan.read_bytes())
        if self.engine is None:
            raise StaleEngine(f"this TensorRT does not take the kept engine {plan}")
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise JobError("no execution context: not enough memory on the device?")
        self.by_name = hasattr(self.engine, "num_io_tensors")
        self.tensors = self._by_name() if self.by_name else self._by_index()
        self.pointers = [tensor.device for tensor in self.tensors]
        self.asynchronous = self._launcher()
        self.begin_event, self.end_event = self.cuda.event(), self.cuda.event()
        for tensor in self.tensors:
            self._fill(tensor)
        self.least_free = self.cuda.free_bytes()

    def _by_name(self) -> List[Tensor]:
        found = []
        for index in range(self.engine.num_io_tensors):
            name = self.engine.get_tensor_name(index)
            is_input = self.engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT
            shape, kind = self.engine.get_tensor_shape(name), self.engine.get_tensor_dtype(name)
            found.append(self._tensor(name, is_input, shape, kind))
            self.context.set_tensor_address(name, found[-1].device)
        return found

    def _by_index(self) -> List[Tensor]:
        return [
            self._tensor(
                self.engine.get_binding_name(index),
                self.engine.binding_is_input(index),
                self.engine.get_binding_shape(index),
                self.engine.get_binding_dtype(index),
            )
            for index in range(self.engine.num_bindings)
        ]

    def _tensor(self, name: str, is_input: bool, shape: Iterable[int], kind: Any) -> Tensor:
        sizes = [int(size) for size in shape]
        if any(size < 0 for size in sizes):
            raise JobError(f"{name} has the shape {sizes}: export it with fixed shapes")
        count = 1
        for size in sizes:
            count *= size
        kind_name = str(kind).rsplit(".", 1)[-1].upper()
        size_bytes = max(1, count * _TRT_BITS.get(kind_name, 32) // 8)
        device, host = self.cuda.malloc(size_bytes), self.cuda.host_alloc(size_bytes)
        return Tensor(name, bool(is_input), size_bytes, kind_name == "FLOAT", device, host)

    def _fill(self, tensor: Tensor) -> None:
        """Noise for floating inputs, zeros for all else: zeros everywhere would draw less power than an image."""
        ctypes.memset(tensor.host, 0, tensor.size_bytes)
        if tensor.is_input and tensor.is_float32:
            chance = random.Random(0)
            block = struct.pack("<4096f", *(chance.gauss(0, 1) for _ in range(4096)))
            content = (block * (tensor.size_bytes // len(block) + 1))[: tensor.size_bytes]
            ctypes.memmove(tensor.host, content, tensor.size_bytes)
        self.cuda.copy(tensor.device, tensor.host, tensor.size_bytes, self.cuda.TO_DEVICE, self.stream)
        self.cuda.synchronize(self.stream)

    def _launcher(self) -> Callable[[], Any]:
        if self.by_name and hasattr(self.context, "execute_async_v3"):
            return lambda: self.context.execute_async_v3(self.stream)
        return lambda: self.context.execute_async_v2(self.pointers, self.stream)

    def _launch(self) -> None:
        if not self.asynchronous():
            raise JobError("TensorRT refused to run the engine: " + self.logger.last_error)

    def samples(self, count: int) -> List[float]:
        found = []
        for _ in range(count):
            self.cuda.record(self.begin_event, self.stream)
            self._launch()
            self.cuda.record(self.end_event, self.stream)
            found.append(self.cuda.elapsed_ms(self.begin_event, self.end_event))
        self.least_free = min(self.least_free, self.cuda.free_bytes())
        return found

    def end_to_end(self, count: int) -> List[float]:
        found = []
        for _ in range(count):
            begin = time.perf_counter()
            for tensor in self.tensors:
                if tensor.is_input:
                    self.cuda.copy(tensor.device, tensor.host, tensor.size_bytes, self.cuda.TO_DEVICE, self.stream)
            self._launch()
            for tensor in self.tensors:
                if not tensor.is_input:
                    self.cuda.copy(tensor.host, tensor.device, tensor.size_bytes, self.cuda.TO_HOST, self.stream)
            self.cuda.synchronize(self.stream)
            found.append((time.perf_counter() - begin) * 1e3)
        return found

    def layers(self) -> List[Tuple[str, float]]:
        trt = self.trt

        class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)
                self.times: Dict[str, List[float]] = {}

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                self.times.setdefault(layer_name, []).append(ms)

        profiler = Profiler()
        self.context.profiler = profiler
        for _ in range(25):
            if not self.context.execute_v2(self.pointers):
                raise JobError("TensorRT refused to run the engine with its profiler")
        return [(name, percentile(times[5:] or times, 0.5)) for name, times in profiler.times.items()]

    def memory_mb(self) -> Optional[float]:
        return max(0, self.free_before - self.least_free) / float(1 << 20)


# ---------------------------------------------------------------------------------------------------------------------
# Backend: the trtexec program
# ---------------------------------------------------------------------------------------------------------------------


class TrtExec:
    """Builds and times engines with ``trtexec``; which options it has is read from its help."""

    name = "trtexec"
    needs_build = True

    def __init__(self, spec: Json) -> None:
        command = Tree(spec["root"]).command("trtexec")
        if command is None:
            raise JobError("trtexec was not found in {}".format(", ".join(Tree.FOLDERS)))
        self.command = command
        self.help = Tree(spec["root"]).run("trtexec", "--help").text

    def has(self, option: str) -> bool:
        return re.search(re.escape(option) + r"(?![\w])", self.help) is not None

    def run(self, *options: str, on_line: Optional[Callable[[str], None]] = None) -> Json:
        """Run it and give the parsed log.

        Raises:
            JobError: it failed, or says nothing that can be believed; ``log`` is the end of what it printed.
        """
        process = subprocess.Popen(
            [self.command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=die_with_parent
        )
        lines = []
        assert process.stdout is not None
        for raw in process.stdout:
            lines.append(raw.decode("utf-8", "replace"))
            if on_line is not None:
                on_line(lines[-1])
        code = process.wait()
        text = "".join(lines)
        runs = parse_trtexec(text)
        if code != 0 or not runs or runs[-1]["passed"] is not True:
            errors = [line for run in runs for line in run["errors"]]
            say(text[-LOG_TAIL_CHARS:], sys.stderr)
            if re.search(r"no space left on device", text, re.IGNORECASE):
                raise OSError(errno.ENOSPC, "trtexec: no space left on device")
            reason = errors[0][:500] if errors else f"exit code {code}"
            raise JobError("trtexec failed: " + reason, log=text[-LOG_TAIL_CHARS:])
        return runs[-1]

    @staticmethod
    def build(spec: Json) -> Json:
        tool = TrtExec(spec)
        plan = Path(spec["plan"])
        temporary = plan.with_name(plan.name + ".part")
        options = ["--onnx=" + spec["onnx"], "--saveEngine=" + str(temporary)]
        if tool.has("--workspace"):
            options.append("--workspace={}".format(spec["workspace_mb"]))
        elif tool.has("--memPoolSize"):
            options.append("--memPoolSize=workspace:{}".format(spec["workspace_mb"]))
        if spec["precision"] == "int8":
            raise JobError("int8 is measured with the Python API only, where the Q/DQ nodes can be checked")
        if tool.has("--fp16"):
            options += ["--fp16"] if spec["precision"] == "fp16" else []
        else:
            check_precision(Path(spec["onnx"]), spec["precision"], "this trtexec")
        if tool.has("--timingCacheFile"):
            options.append("--timingCacheFile=" + spec["cache"])
        options += [option for option in ("--buildOnly", "--skipInference") if tool.has(option)][:1]
        begin = time.monotonic()
        run = tool.run(*options)
        if not temporary.exists() or temporary.stat().st_size == 0:
            raise JobError("trtexec passed but left no engine")
        temporary.rename(plan)
        return {"build_s": run.get("build_s", time.monotonic() - begin)}

    @staticmethod
    def open(spec: Json) -> Runner:
        return TrtExecRunner(TrtExec(spec), Path(spec["plan"]), Path(spec["work"]))


class TrtExecRunner(Runner):
    """Each call is a process that loads the engine again, so there are few rounds."""

    rounds_at_most = 3
    warms_itself = True
    WARMUP_MS = 200

    def __init__(self, tool: TrtExec, plan: Path, work: Path) -> None:
        super().__init__()
        self.tool = tool
        self.plan = plan
        self.work = work
        self.transfers = ["--noDataTransfers"] if tool.has("--noDataTransfers") else []

    def _records(self, count: int, transfers: bool) -> List[TraceRecord]:
        export = self.work / f"times-{os.getpid()}.json"
        options = ["--loadEngine=" + str(self.plan), "--exportTimes=" + str(export)]
        options += [f"--warmUp={self.WARMUP_MS}", "--duration=0", f"--iterations={max(count, 1)}"]
        options += ["--useSpinWait", *([] if transfers else self.transfers)]
        try:
            run = self.tool.run(*options)
            everything = parse_export_times(_text_of(export))
        finally:
            if export.exists():
                export.unlink()
        records = after_warm_up(everything, self.WARMUP_MS)
        if len(records) < min(count, 3):
            records = everything[-max(count, 1) :]
        summary = run["metrics"].get("gpu_compute_ms")
        if not records or summary is None:
            raise JobError("trtexec gave no times that can be read", retry=True)
        median = percentile([record.compute_ms for record in records], 0.5)
        if not 0.9 * summary["min"] <= median <= 1.1 * summary["max"]:
            raise JobError(
                "trtexec's log ({} ms) and its times ({} ms) disagree".format(summary["median"], median), retry=True
            )
        return records

    def samples(self, count: int) -> List[float]:
        return [record.compute_ms for record in self._records(count, transfers=False)]

    def end_to_end(self, count: int) -> List[float]:
        return [record.latency_ms for record in self._records(count, transfers=True)]

    def loop(self, seconds: float) -> Loop:
        begins: List[float] = []

        def watch(line: str) -> None:
            if "Starting inference" in line:
                begins.append(time.monotonic())

        options = ["--loadEngine=" + str(self.plan), f"--duration={max(1, math.ceil(seconds))}"]
        run = self.tool.run(*options, "--warmUp=0", "--useSpinWait", *self.transfers, on_line=watch)
        if not begins or not run.get("queries") or not run.get("trace_s"):
            raise JobError("trtexec did not say how many queries it ran", retry=True)
        return Loop(run["queries"], begins[0], begins[0] + run["trace_s"])

    def layers(self) -> List[Tuple[str, float]]:
        export = self.work / f"profile-{os.getpid()}.json"
        options = ["--loadEngine=" + str(self.plan), "--exportProfile=" + str(export), "--warmUp=0", "--duration=1"]
        try:
            self.tool.run(*options, "--useSpinWait", *self.transfers)
            _, found = parse_export_profile(_text_of(export))
        finally:
            if export.exists():
                export.unlink()
        return [
            (str(layer["name"]), float(layer["median_ms" if "median_ms" in layer else "average_ms"])) for layer in found
        ]


class NothingToBuild:
    """What backends have in common that run a file as it is."""

    needs_build = False

    @staticmethod
    def build(spec: Json) -> Json:
        return {"build_s": None}


# ---------------------------------------------------------------------------------------------------------------------
# Backend: ONNX Runtime
# ---------------------------------------------------------------------------------------------------------------------


class OnnxRuntime(NothingToBuild):
    """Runs the file as it is, on the GPU where ONNX Runtime has one, otherwise on the CPU."""

    name = "onnxruntime"

    @staticmethod
    def open(spec: Json) -> Runner:
        check_precision(Path(spec["onnx"]), spec["precision"], "ONNX Runtime")
        return OnnxRuntimeRunner(spec)


_ORT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int64)": "int64",
              "tensor(int32)": "int32", "tensor(uint8)": "uint8", "tensor(int8)": "int8", "tensor(bool)": "bool"}  # fmt: skip


def peak_memory_mb() -> float:
    """The most memory that this process held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


class OnnxRuntimeRunner(Runner):
    """With one thread on the CPU, time for which other processes held the core is not counted."""

    def __init__(self, spec: Json) -> None:
        super().__init__()
        self.spec = spec
        for name in ("numpy", "onnxruntime"):
            importlib.import_module(name)
        self.baseline_mb = peak_memory_mb()
        self.session, self.provider = self._session(profile=False)
        self.facts = {"provider": self.provider}
        self.feeds = self._feeds()
        self.on_one_core = spec["threads"] == 1 and self.provider == "CPUExecutionProvider"

    def _session(self, profile: bool) -> Tuple[Any, str]:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.spec["threads"]
        options.inter_op_num_threads = 1
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self.spec["work"]) / f"ort-profile-{os.getpid()}")
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        providers = [name for name in wanted if name in runtime.get_available_providers()]
        try:
            session = runtime.InferenceSession(self.spec["onnx"], options, providers=providers)
        except Exception as error:  # its own exceptions derive from nothing narrower
            raise JobError(f"ONNX Runtime cannot load this ONNX: {str(error)[:1000]}") from error
        return session, str(session.get_providers()[0])

    def _feeds(self) -> Json:
        numpy = importlib.import_module("numpy")
        chance = numpy.random.RandomState(0)
        feeds = {}
        for item in self.session.get_inputs():
            shape = [size if isinstance(size, int) and size > 0 else 1 for size in item.shape]
            kind = _ORT_TYPES.get(item.type)
            if kind is None:
                raise JobError(f"input {item.name} is a {item.type}, which the agent cannot make up")
            noise = chance.standard_normal(shape) if kind.startswith("float") else numpy.zeros(shape)
            feeds[item.name] = noise.astype(kind)
        return feeds

    def samples(self, count: int) -> List[float]:
        found = []
        for _ in range(count):
            core, wall = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID), time.perf_counter()
            self.session.run(None, self.feeds)
            wall, core = time.perf_counter() - wall, time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) - core
            found.append((core if self.on_one_core and wall > 1.01 * core > 0 else wall) * 1e3)
        return found

    def memory_mb(self) -> Optional[float]:
        return max(0.0, peak_memory_mb() - self.baseline_mb)

    def end_to_end(self, count: int) -> List[float]:
        """The inputs lie in host memory and the outputs come back there: ``run`` copies both where it has to."""
        return self.samples(count)

    def layers(self) -> List[Tuple[str, float]]:
        session, _ = self._session(profile=True)
        for _ in range(20):
            session.run(None, self.feeds)
        path = Path(session.end_profiling())
        events = _json_or_none(_text_of(path))
        if path.exists():
            path.unlink()
        times: Dict[str, List[float]] = {}
        for event in events if isinstance(events, list) else []:
            name = event.get("name", "") if isinstance(event, dict) else ""
            duration = finite(event.get("dur")) if name.endswith("_kernel_time") else None
            if duration is not None:
                times.setdefault(name[: -len("_kernel_time")], []).append(duration / 1e3)
        return [(name, percentile(values[5:] or values, 0.5)) for name, values in times.items()]


# ---------------------------------------------------------------------------------------------------------------------
# Backend: torch on CUDA, for hosts with torch
# ---------------------------------------------------------------------------------------------------------------------


class TorchCuda(NothingToBuild):
    """Replays a CUDA graph of a TorchScript file, which a job names as ``torchscript`` with its ``input_shape``."""

    name = "torch"

    @staticmethod
    def open(spec: Json) -> Runner:
        if not spec.get("torchscript") or not spec.get("input_shape"):
            raise JobError("the torch backend runs TorchScript: the job needs torchscript (a file) and input_shape")
        return TorchRunner(spec)


class TorchRunner(Runner):
    """A captured graph, its input and output on the device."""

    def __init__(self, spec: Json) -> None:
        super().__init__()
        torch = importlib.import_module("torch")
        if not torch.cuda.is_available():
            raise JobError("torch sees no CUDA device here")
        kinds = {"fp32": torch.float32, "fp16": torch.float16}
        if spec["precision"] not in kinds:
            raise JobError("the torch backend runs fp32 and fp16, not {}".format(spec["precision"]))
        kind = kinds[spec["precision"]]
        self.torch = torch
        self.facts = {"provider": torch.cuda.get_device_name(0)}
        network = torch.jit.load(spec["torchscript"], map_location="cuda").eval().to(kind)
        self.host = torch.randn(*spec["input_shape"]).to(kind).pin_memory()
        self.image = self.host.to("cuda")
        with torch.no_grad():
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    network(self.image)
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.reset_peak_memory_stats()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.output = network(self.image)

    def samples(self, count: int) -> List[float]:
        found = []
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(count):
            begin.record()
            self.graph.replay()
            end.record()
            end.synchronize()
            found.append(float(begin.elapsed_time(end)))
        return found

    def end_to_end(self, count: int) -> List[float]:
        found = []
        for _ in range(count):
            begin = time.perf_counter()
            self.image.copy_(self.host, non_blocking=True)
            self.graph.replay()
            for output in self.output if isinstance(self.output, (tuple, list)) else (self.output,):
                output.to("cpu")
            self.torch.cuda.synchronize()
            found.append((time.perf_counter() - begin) * 1e3)
        return found

    def memory_mb(self) -> Optional[float]:
        return float(self.torch.cuda.max_memory_allocated()) / (1 << 20)


BACKENDS: Dict[str, Any] = {backend.name: backend for backend in (TensorRt, TrtExec, OnnxRuntime, TorchCuda)}


# ---------------------------------------------------------------------------------------------------------------------
# Child processes: TensorRT may crash, run out of memory or hang, and takes one job with it, not the run
# ---------------------------------------------------------------------------------------------------------------------


_PRCTL = ctypes.CDLL(None).prctl  # looked up here: between fork and exec nothing may take a lock


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent goes: an orphan would go on using the GPU that a resumed run times."""
    _PRCTL(1, signal.SIGKILL)


def child_main(task: str, channel: int, parent: int) -> None:
    """Do one task for the agent: the specification comes on stdin, the answer goes to the pipe ``channel`` as JSON."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(EXIT_RESUMABLE)
    spec = json.loads(sys.stdin.read())
    try:
        answer = dict(CHILD_TASKS[task](spec), ok=True)
    except JobError as error:
        answer = {"ok": False, "kind": "job", "reason": error.reason, "retry": error.retry, "log": error.log}
    except StaleEngine as error:
        answer = {"ok": False, "kind": "stale", "reason": str(error)}
    except ImportError as error:
        answer = {"ok": False, "kind": "job", "reason": str(error), "retry": True}
    except OSError as error:
        if not is_disk_full(error):
            raise
        answer = {"ok": False, "kind": "disk", "reason": str(error)}
    content = json.dumps(answer).encode()
    while content:
        content = content[os.write(channel, content) :]
    os.close(channel)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_DONE)  # without the drivers' own teardown, which is known to crash


def child_probe(spec: Json) -> Json:
    """Is this backend there, and in which version?"""
    name = spec["backend"]
    if name == "trtexec":
        tool = TrtExec(spec)
        found = re.search(r"\[TensorRT v(\d{4,6})\]", tool.help)
        return {"version": trt_version_text(found.group(1)) if found else installed_tensorrt(Tree(spec["root"]))}
    module = importlib.import_module(name)
    if name == "tensorrt":
        CudaRuntime()
    elif name == "torch" and not module.cuda.is_available():
        raise JobError("torch sees no CUDA device here")
    return {"version": str(module.__version__)}


def child_build(spec: Json) -> Json:
    return dict(BACKENDS[spec["backend"]].build(spec))


def child_measure(spec: Json) -> Json:
    """The protocol for one network; gives the measurement's own fields."""
    tree = Tree(spec["root"])
    settings = Settings(**spec["settings"])
    backend = BACKENDS[spec["backend"]]
    watch = Watch(tree, Lock(*spec["lock"]) if spec["lock"] else None)
    runner = backend.open(spec)
    runner.samples(1)
    memory = runner.memory_mb()
    reference = backend.open(dict(spec, **spec["reference"])) if spec["reference"] else None
    timing, repeats = time_runner(runner, reference, settings, watch)
    end_to_end = credible(runner.end_to_end(max(10, min(len(timing.samples_ms), 100))))
    energy = measure_energy(runner, PowerMeter(tree), settings.energy_s)
    samples = timing.samples_ms
    result = {
        "latency_ms_p50": percentile(samples, 0.5),
        "latency_ms_p90": percentile(samples, 0.9),
        "latency_ms_p99": percentile(samples, 0.99),
        "samples_ms": [round(value, 5) for value in thin_out(samples, SAMPLES_KEPT)],
        "runs": len(samples),
        "end_to_end_ms_p50": percentile(end_to_end, 0.5),
        "reference_ms": timing.reference_ms,
        "drift_rel": timing.drift_rel,
        "confidence_rel": finite(timing.confidence_rel),
        "noisy": bool(timing.problems),
        "throttled": any(problem.throttled for problem in timing.problems),
        "reasons": [problem.text for problem in timing.problems],
        "repeats": repeats,
        "temp_c_start": timing.before.temp_c,
        "temp_c_end": timing.after.temp_c,
        "clocks_start": timing.before.clocks,
        "clocks_end": timing.after.clocks,
        "memory_peak_mb": memory,
    }  # type: Json
    result.update(energy)
    result.update(runner.facts)
    if spec["kind"] == "kernels":
        result["layers"] = [[name, ms] for name, ms in runner.layers()]
    return result


def thin_out(values: Sequence[float], keep: int) -> List[float]:
    """At most ``keep`` of them, evenly spread, in order."""
    if len(values) <= keep:
        return list(values)
    return [values[index * len(values) // keep] for index in range(keep)]


CHILD_TASKS = {
    "probe": child_probe,
    "build": child_build,
    "measure": child_measure,
}  # type: Dict[str, Callable[[Json], Json]]


class StopFlag:
    """Set by SIGINT, SIGTERM and a hang-up; looked at where stopping leaves nothing half done."""

    def __init__(self) -> None:
        self.reason: Optional[str] = None

    def listen(self) -> None:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name)
            if not (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                signal.signal(number, self._set)

    def _set(self, number: int, frame: Any) -> None:
        self.reason = signal.Signals(number).name

    def check(self) -> None:
        if self.reason:
            raise StopEarly(f"stopped by {self.reason}")


class Answer(NamedTuple):
    """What a child sent, if it did; the end of what it printed; and why it sent nothing."""

    value: Optional[Json]
    log_tail: str
    crash: str


def run_child(task: str, spec: Json, timeout_s: float, stop: StopFlag) -> Answer:
    """Run a task in a process of its own.

    Raises:
        StopEarly: the agent was told to stop; the child is gone.
    """
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "_child", task, str(writer), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(writer,),
        start_new_session=True,
    )
    os.close(writer)
    assert process.stdin is not None and process.stdout is not None
    log, content = b"", b""
    deadline = time.monotonic() + timeout_s
    try:
        try:
            process.stdin.write(json.dumps(spec).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass
        output = process.stdout.fileno()
        waiting = {reader, output}
        while waiting:
            stop.check()
            if time.monotonic() > deadline:
                return Answer(None, _tail(log), f"took longer than {timeout_s:.0f} s")
            for handle in select.select(list(waiting), [], [], 0.1)[0]:
                chunk = os.read(handle, 65536)
                if not chunk:
                    waiting.discard(handle)
                elif handle == reader:
                    content += chunk
                else:
                    log = (log + chunk)[-4 * LOG_TAIL_CHARS :]
        process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        os.close(reader)
    value = _json_or_none(content.decode("utf-8", "replace"))
    if isinstance(value, dict):
        return Answer(value, _tail(log), "")
    return Answer(None, _tail(log), _why_it_died(process.returncode, _tail(log)))


def _tail(log: bytes) -> str:
    return log.decode("utf-8", "replace")[-LOG_TAIL_CHARS:]


def _why_it_died(code: int, log_tail: str) -> str:
    if code == -signal.SIGKILL:
        return "was killed (signal 9): most likely the board ran out of memory"
    printed = [line for line in log_tail.splitlines() if line.strip()]
    last = printed[-1][:300] if printed else "it printed nothing"
    how = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{how}: {last}"


# ---------------------------------------------------------------------------------------------------------------------
# The run: job list in, results out
# ---------------------------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    id: str
    subject: str
    onnx: Path
    sha256: str
    kind: str
    torchscript: Optional[str]
    input_shape: Optional[List[int]]


class JobList:
    """``jobs.json``, checked.

    Raises:
        UserMistake: it is none, or one field is not what it must be.
    """

    def __init__(self, path: Path) -> None:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserMistake(f"{path} is no job list: {error}") from error
        if not isinstance(data, dict) or data.get("format") != "paretoseg jobs" or data.get("version") != 1:
            raise UserMistake(f"{path} is no job list of version 1: write it again with this agent's paretoseg")
        self.folder = path.resolve().parent
        self.device = str(data.get("device", "device"))
        self.precision = str(data.get("precision") or "fp32")
        self.power_profile = data.get("power_profile")
        self.lock_clocks = bool(data.get("lock_clocks", True))
        self.backend = str(data.get("backend") or "auto")
        if self.backend != "auto" and self.backend not in BACKENDS:
            raise UserMistake(
                "there is no backend {!r}; it is auto or one of {}".format(self.backend, ", ".join(BACKENDS))
            )
        self.settings = read_settings(data.get("protocol") or {})
        self.threads = self._count(data, "threads", 1)
        self.workspace_mb = self._count(data, "workspace_mb", 512)
        reference = data.get("reference")
        self.reference = self._job(dict(reference, id="reference"), False) if reference else None
        self.jobs = [self._job(item, True) for item in data.get("jobs", [])]
        names = [job.id for job in self.jobs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserMistake(f"job ids must differ, and {twice[0]!r} comes twice")

    @staticmethod
    def _count(data: Json, name: str, default: int) -> int:
        value = data.get(name, default)
        if not isinstance(value, int) or value < 1:
            raise UserMistake(f"{name} must be a whole number of at least 1, not {value!r}")
        return value

    def _job(self, item: Any, needs_sha: bool) -> Job:
        if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not isinstance(item.get("onnx"), str):
            raise UserMistake(f"each job needs an id and an onnx file, unlike {item!r}")
        onnx = self.folder / item["onnx"]
        sha = item.get("sha256") or ""
        if not sha:
            if needs_sha:
                raise UserMistake("job {!r} has no sha256".format(item["id"]))
            if not onnx.is_file():
                raise UserMistake(f"the reference network {onnx} is missing")
            sha = file_sha256(onnx)
        torchscript = str(self.folder / item["torchscript"]) if item.get("torchscript") else None
        kind, subject = str(item.get("kind", "network")), str(item.get("subject", item["id"]))
        return Job(item["id"], subject, onnx, str(sha), kind, torchscript, item.get("input_shape"))


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


class Engines:
    """Engines kept in the work folder, by what they were built from, with which TensorRT, in which precision."""

    def __init__(self, work: Path, backend_version: str) -> None:
        self.folder = work / "engines"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.version = re.sub(r"[^\w.]", "_", backend_version)
        self.cache = work / f"timing-{self.version}.cache"

    def plan(self, job: Job, precision: str) -> Path:
        return self.folder / f"{job.sha256[:24]}-{precision}-trt{self.version}.plan"

    def kept(self, plan: Path) -> Optional[Json]:
        """What is known of a kept engine; None when there is none or it is not whole."""
        facts = _json_or_none(_text_of(plan.with_suffix(".json")))
        try:
            whole = isinstance(facts, dict) and facts.get("sha256") == file_sha256(plan)
        except OSError:
            return None
        return facts if whole else None

    def keep(self, plan: Path, build_s: Optional[float]) -> Json:
        facts = {"sha256": file_sha256(plan), "build_s": build_s}
        write_durably(plan.with_suffix(".json"), json.dumps(facts).encode())
        return facts

    def forget(self, plan: Path) -> None:
        for path in (plan, plan.with_suffix(".json")):
            if path.exists():
                path.unlink()

    def make_room(self, unneeded: Iterable[Path]) -> bool:
        """Delete engines whose networks are measured; whether there were any."""
        found = [plan for plan in unneeded if plan.exists()]
        for plan in found:
            self.forget(plan)
        return bool(found)


class Session:
    """One run of a job list."""

    def __init__(self, jobs: JobList, results: ResultsFile, work: Path, tree: Tree, retry_failures: bool) -> None:
        self.jobs = jobs
        self.results = results
        self.work = work
        self.tree = tree
        self.retry_failures = retry_failures
        self.stop = StopFlag()
        self.clocks = Clocks(tree)
        self.run_id = binascii.hexlify(os.urandom(6)).decode("ascii")
        self.backend, self.version = "", ""
        self.engines = Engines(work, "none")

    def run(self) -> int:
        """Measure what has no result yet; returns the exit code. The clocks are given back whatever happens."""
        self.stop.listen()
        atexit.register(self._give_back)
        if self.results.repaired or self.results.damaged:
            say(f"{self.results.path}: a cut line was removed, {self.results.damaged} damaged lines are ignored")
        stopped: Optional[str] = None
        try:
            self._prepare()
            for number, job in enumerate(self.jobs.jobs, 1):
                if self._key(job) not in self.results.finished(self.retry_failures):
                    self._one(job, f"[{number}/{len(self.jobs.jobs)}] {job.id}")
        except StopEarly as error:
            stopped = str(error)
        finally:
            self._give_back()
        try:
            self.results.append(
                dict(self._counts(), type="end", stopped=stopped, run_id=self.run_id, ended_at=now_iso())
            )
        except StopEarly as error:
            stopped = stopped or str(error)
        if stopped:
            say(f"stopped early: {stopped}. Nothing measured is lost; run the same command again to go on.", sys.stderr)
            return EXIT_RESUMABLE
        return EXIT_DONE

    def _key(self, job: Job) -> Tuple[Any, ...]:
        return (job.id, job.sha256, self.jobs.precision, self.jobs.power_profile)

    def _counts(self) -> Json:
        finished = self.results.finished(False)
        kinds = [finished.get(self._key(job)) for job in self.jobs.jobs]
        failed = {record["job_id"] for record in self.results.records if record["type"] == "failure"}
        done = [job.id for job, kind in zip(self.jobs.jobs, kinds) if kind == "measurement"]
        lost = [job.id for job in self.jobs.jobs if job.id in failed and job.id not in done]
        return {"done": len(done), "failed": len(lost), "left": len(self.jobs.jobs) - len(done) - len(lost)}

    def _give_back(self) -> None:
        problem = self.clocks.restore()
        if problem:
            say(f"the clocks could not be given back ({problem}); run: paretoseg_agent.py restore", sys.stderr)

    def _prepare(self) -> None:
        """Choose the backend, lock the clocks, and write down which board this is."""
        leftover = self.clocks.restore()
        if leftover:
            say("clocks that an earlier run locked could not be given back first: " + leftover, sys.stderr)
        self.backend, self.version = self._choose_backend()
        self.engines = Engines(self.work, self.version)
        self.stop.check()
        self.clocks.lock(self.jobs.power_profile, self.jobs.lock_clocks)
        if self.clocks.note:
            say("clocks are not locked: " + self.clocks.note, sys.stderr)
        self.results.append(self._board_record())

    def _choose_backend(self) -> Tuple[str, str]:
        names = list(BACKENDS) if self.jobs.backend == "auto" else [self.jobs.backend]
        reasons = []
        for name in names:
            answer = run_child("probe", {"backend": name, "root": str(self.tree.root)}, 300, self.stop)
            if answer.value and answer.value.get("ok"):
                return name, str(answer.value.get("version") or "unknown")
            reasons.append("{}: {}".format(name, answer.value["reason"] if answer.value else answer.crash))
        raise UserMistake("no backend can run here ({})".format("; ".join(reasons)))

    def _board_record(self) -> Json:
        facts = board_facts(self.tree)
        locked = self.clocks.held is not None
        clocks = steady_clocks(facts["clocks_now"], locked)
        facts["tensorrt" if self.backend == "trtexec" else self.backend] = self.version
        fingerprint = {
            "device": self.jobs.device,
            "board": facts["board_model"],
            "cpu": facts["cpu"],
            "l4t": facts["l4t"],
            "cuda": facts["cuda"],
            "runtime": f"{self.backend} {self.version}",
            "power_mode": facts["power_mode"],
            "clocks_locked": locked,
        }
        fingerprint.update(clocks)
        if self.backend == "onnxruntime":
            fingerprint["threads"] = self.jobs.threads
        return dict(
            facts,
            type="board",
            format_version=FORMAT_VERSION,
            run_id=self.run_id,
            device=self.jobs.device,
            backend=self.backend,
            backend_version=self.version,
            precision=self.jobs.precision,
            power_profile=self.jobs.power_profile,
            clocks=clocks,
            clocks_locked=locked,
            clocks_note=self.clocks.note,
            threads=self.jobs.threads,
            settings=dict(self.jobs.settings._asdict()),
            fingerprint=fingerprint,
            started_at=now_iso(),
        )

    def _one(self, job: Job, label: str) -> None:
        """Measure one job and append its result, whichever it is."""
        self.stop.check()
        self._check_disk()
        common = {
            "run_id": self.run_id,
            "job_id": job.id,
            "subject": job.subject,
            "sha256": job.sha256,
            "kind": job.kind,
            "backend": self.backend,
            "backend_version": self.version,
            "precision": self.jobs.precision,
            "power_profile": self.jobs.power_profile,
            "started_at": now_iso(),
        }
        try:
            measured = self._measure(job)
        except JobFailed as failure:
            say(f"{label}: failed, {failure.reason}")
            record = dict(common, type="failure", stage=failure.stage, reason=failure.reason, retry=failure.retry)
            self.results.append(dict(record, log_tail=failure.log_tail, ended_at=now_iso()))
            return
        self.results.append(dict(common, type="measurement", ended_at=now_iso(), **measured))
        marks = "".join(", " + reason for reason in measured["reasons"])
        build = ", engine built in {:.0f} s".format(measured["build_s"]) if measured["build_s"] else ""
        say(
            "{}: {:.3f} ms (p90 {:.3f}){}{}".format(
                label, measured["latency_ms_p50"], measured["latency_ms_p90"], build, marks
            )
        )

    def _check_disk(self) -> None:
        """Before minutes are spent on what could not be written down; engines that did their work make room first."""
        for folder in (self.work, self.results.path.resolve().parent):
            free = shutil.disk_usage(str(folder)).free
            if free < FREE_BYTES_NEEDED and not self.engines.make_room(self._finished_plans()):
                raise StopEarly(f"disk full: {folder} has {free} bytes free")

    def _measure(self, job: Job) -> Json:
        if not job.onnx.is_file():
            raise JobFailed("file", f"{job.onnx} is missing", "", retry=True)
        if file_sha256(job.onnx) != job.sha256:
            raise JobFailed("file", f"{job.onnx} is not the file of the job list (sha256 differs)", "", retry=True)
        for attempt in (1, 2):
            reference = self._reference_spec()
            engine = self._engine(job)
            spec = self._spec(job)
            spec.update(
                reference=reference,
                settings=dict(self.jobs.settings._asdict()),
                lock=list(self.clocks.held) if self.clocks.held else None,
                kind=job.kind,
            )
            answer = self._child("measure", spec, self._longest_s())
            if answer.value and answer.value.get("kind") == "stale" and attempt == 1:
                for each in (job, self.jobs.reference):
                    if each is not None:
                        self.engines.forget(self.engines.plan(each, self.jobs.precision))
                continue
            break
        value = self._checked(answer, "measure")
        del value["ok"]
        value["build_s"] = engine["build_s"]
        return value

    def _reference_spec(self) -> Optional[Json]:
        reference = self.jobs.reference
        if reference is None:
            return None
        try:
            self._engine(reference)
        except JobFailed as failure:
            raise UserMistake(
                f"the reference network cannot be built: {failure.reason}\n{failure.log_tail}"
            ) from failure
        spec = self._spec(reference)
        return {name: spec[name] for name in ("onnx", "plan", "torchscript", "input_shape")}

    def _spec(self, job: Job) -> Json:
        return {
            "backend": self.backend,
            "onnx": str(job.onnx),
            "torchscript": job.torchscript,
            "input_shape": job.input_shape,
            "precision": self.jobs.precision,
            "plan": str(self.engines.plan(job, self.jobs.precision)),
            "cache": str(self.engines.cache),
            "workspace_mb": self.jobs.workspace_mb,
            "threads": self.jobs.threads,
            "root": str(self.tree.root),
            "work": str(self.work),
        }

    def _engine(self, job: Job) -> Json:
        """The job's engine, kept or built; ``build_s`` is None for backends that build none."""
        if not BACKENDS[self.backend].needs_build:
            return {"build_s": None}
        plan = self.engines.plan(job, self.jobs.precision)
        kept = self.engines.kept(plan)
        if kept is not None:
            return kept
        answer = self._child("build", self._spec(job), self.jobs.settings.build_timeout_s)
        if answer.value and answer.value.get("kind") == "disk" and self.engines.make_room(self._finished_plans()):
            answer = self._child("build", self._spec(job), self.jobs.settings.build_timeout_s)
        value = self._checked(answer, "build")
        try:
            return self.engines.keep(plan, value["build_s"])
        except OSError as error:
            if is_disk_full(error):
                raise StopEarly(f"disk full: no room for the engine of {job.id}") from error
            raise

    def _finished_plans(self) -> List[Path]:
        finished = self.results.finished(False)
        return [self.engines.plan(job, self.jobs.precision) for job in self.jobs.jobs if self._key(job) in finished]

    def _child(self, task: str, spec: Json, timeout_s: float) -> Answer:
        return run_child(task, spec, timeout_s, self.stop)

    def _checked(self, answer: Answer, stage: str) -> Json:
        """The child's answer, if it is a good one.

        Raises:
            JobFailed: this job has none; the next may.
            StopEarly: the disk is full.
        """
        value = answer.value
        if value is None:
            raise JobFailed(stage, f"the {stage} {answer.crash}", answer.log_tail)
        if value.get("ok"):
            return value
        if value.get("kind") == "disk":
            raise StopEarly("disk full: {}".format(value["reason"]))
        raise JobFailed(stage, value["reason"], value.get("log") or answer.log_tail, bool(value.get("retry")))

    def _longest_s(self) -> float:
        settings = self.jobs.settings
        once = settings.max_s + settings.warmup_s + settings.energy_s + settings.cool_down_s
        return 600 + 10 * once * (settings.max_repeats + 1)


class JobFailed(Exception):
    """A job has no measurement; becomes a ``failure`` record."""

    def __init__(self, stage: str, reason: str, log_tail: str, retry: bool = False) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason
        self.log_tail = log_tail
        self.retry = retry


# ---------------------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------------------


def command_run(options: argparse.Namespace) -> int:
    jobs = JobList(Path(options.jobs))
    work, results = Path(options.work), Path(options.results)
    for folder in (work, results.resolve().parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserMistake(f"the folder {folder} cannot be made: {error}") from error
    with (work / "agent.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserMistake(f"another agent is at work in {work}; wait for it or stop it") from None
        session = Session(jobs, ResultsFile(results), work.resolve(), Tree(options.root), options.retry_failures)
        return session.run()


def command_check(options: argparse.Namespace) -> int:
    tree = Tree(options.root)
    facts = board_facts(tree)
    seen = parse_tegrastats(tree.run("tegrastats", "--interval", "200", timeout_s=2).text)
    facts["tegrastats"] = seen[-1] if seen else None
    if tree.may_change():
        facts["jetson_clocks"] = parse_jetson_clocks_show(tree.run("jetson_clocks", "--show", as_root=True).text)
    facts["backends"] = {}
    for name in BACKENDS:
        answer = run_child("probe", {"backend": name, "root": options.root}, 300, StopFlag())
        value = answer.value or {"reason": answer.crash}
        facts["backends"][name] = value.get("version") if value.get("ok") else "not here: " + str(value["reason"])[:300]
    say(json.dumps(facts, indent=2, sort_keys=True))
    return EXIT_DONE


def command_restore(options: argparse.Namespace) -> int:
    clocks = Clocks(Tree(options.root))
    if not clocks.state_path.exists():
        say("nothing to give back: no run left the clocks locked")
        return EXIT_DONE
    problem = clocks.restore()
    if problem:
        raise UserMistake(f"the clocks could not be given back: {problem}; run it as root, or reboot")
    say("the clocks are as they were before the run")
    return EXIT_DONE


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures networks on this device for paretoseg.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    run = commands.add_parser("run", help="measure a job list, or go on with it")
    run.add_argument("--jobs", required=True, help="jobs.json")
    run.add_argument("--results", required=True, help="results.jsonl, appended to")
    run.add_argument("--work", required=True, help="folder for engines and the timing cache")
    run.add_argument("--retry-failures", action="store_true", help="try again what failed in an earlier run")
    check = commands.add_parser("check", help="print what board this is, as JSON")
    restore = commands.add_parser("restore", help="give the clocks back after a crash")
    for command, action in ((run, command_run), (check, command_check), (restore, command_restore)):
        command.add_argument("--root", default="/", help="another root of /sys, /proc and the board's commands")
        command.set_defaults(action=action)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] == "_child":
        child_main(arguments[1], int(arguments[2]), int(arguments[3]))
    options = parse_arguments(arguments)
    try:
        return int(options.action(options))
    except UserMistake as mistake:
        say(str(mistake), sys.stderr)
    except StopEarly as stop:
        say(f"{stop}; run the same command again to go on", sys.stderr)
        return EXIT_RESUMABLE
    except OSError as error:
        if is_disk_full(error):
            say(f"disk full: {error}; make room and run the same command again", sys.stderr)
            return EXIT_RESUMABLE
        say(f"a file or folder cannot be used: {error}", sys.stderr)
    return EXIT_USER


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
