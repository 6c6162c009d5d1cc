"""Parsers for the logs and exported JSON files of ``trtexec``, TensorRT 7.0 to 10.

They never raise, and drop every value that they cannot read completely.
"""

import math
import re
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from .files import Json, json_or_none
from .parsers import complete_lines, finite

NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?"
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
    rf"([A-Za-z0-9 -]+): min = ({NUMBER}) ms, max = ({NUMBER}) ms, mean = ({NUMBER}) ms, median = ({NUMBER}) ms"
    rf"((?:, percentile\({NUMBER}%\) = {NUMBER} ms)*)"
)
_TRTEXEC_PERCENTILE = re.compile(rf"percentile\(({NUMBER})%\) = ({NUMBER}) ms")
_TRTEXEC_OLD = re.compile(
    rf"(min|max|mean|median|percentile): ({NUMBER}) ms(?: at ({NUMBER})%)?"
    rf"(?: \(end to end ({NUMBER}) ms(?: at {NUMBER}%)?\))?"
)
_TRTEXEC_TABLE = re.compile(r"=== Profile \(([0-9]{1,15}) iterations ?\) ===")
_TRTEXEC_ROW = re.compile(rf"((?:{NUMBER}\s+){{3,4}})(\S.*)")
_TRTEXEC_OLD_ROW = re.compile(rf"(\S.*?)\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})")
_TRTEXEC_FACTS = (
    ("throughput_qps", re.compile(rf"[Tt]hroughput: ({NUMBER}) qps")),
    ("build_s", re.compile(rf"Engine built in ({NUMBER}) sec\.?")),
    ("host_walltime_s", re.compile(rf"(?:Total Host Walltime|walltime): ({NUMBER}) s")),
    ("total_compute_s", re.compile(rf"(?:Total GPU Compute Time|total compute time): ({NUMBER}) s")),
)
_TRTEXEC_QUERIES = re.compile(rf"Timing trace has ([0-9]{{1,15}}) queries over ({NUMBER}) s")
_TRTEXEC_MARK = re.compile(
    r"&&&& (RUNNING|PASSED|WAIVED|FAILED) TensorRT\.trtexec"
    r"(?: \[TensorRT v([0-9]{4,6})\])?(?: \[b[0-9]{1,15}\])?(?: #(?: (.*))?)?"
)
"""First and last line of a run; TensorRT 7 prints no version."""


def trt_version_text(digits: str) -> str:
    """Format a version: ``8201`` as ``8.2.1``, ``100300`` as ``10.3.0`` (two digits per part since 10)."""
    number = int(digits)
    if len(digits) <= 4:
        return f"{number // 1000}.{number // 100 % 10}.{number % 100}"
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def parse_trtexec(text: str) -> List[Json]:
    """Parse the runs in a ``trtexec`` log, in order; a log without its head or its end counts as a run.

    Keys of a run: ``version`` (None in TensorRT 7, which does not print it), ``command, passed`` (True, False, None: not
    printed), ``build_s, throughput_qps, queries, host_walltime_s, total_compute_s``, ``metrics`` (``gpu_compute_ms, latency_ms,
    end_to_end_ms, enqueue_ms, h2d_ms, d2h_ms`` -> ``min, max, mean, median, percentiles``), ``profile`` (rows of the printed
    table) and ``errors``. TensorRT 7 prints no mean of the enqueue time. A metric whose median or mean lies outside min..max is
    dropped, as are a throughput and a number of queries of 0, which some releases of TensorRT 7 print for any run. Text that
    is not a trtexec log has no runs.
    """
    runs: List[Json] = []
    run = _empty_run()
    section: Optional[str] = None
    table: Optional[str] = None
    for line in complete_lines(text):
        mark = _TRTEXEC_MARK.fullmatch(line.rstrip())
        if mark:
            if mark.group(1) == "RUNNING" and not _is_empty_run(run):
                runs.append(run)
                run = _empty_run()
            if mark.group(2):
                run["version"] = trt_version_text(mark.group(2))
            run["command"] = (mark.group(3) or "").strip() or run["command"]
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
        each["metrics"] = {name: value for name, value in each["metrics"].items() if _is_credible(name, value)}
        for name in ("throughput_qps", "queries"):
            if each.get(name) == 0:
                del each[name]
    return runs


def _empty_run() -> Json:
    return {"version": None, "command": None, "passed": None, "metrics": {}, "profile": [], "errors": []}


def _is_empty_run(run: Json) -> bool:
    return len(run) == 6 and not any(run.values())


def _trtexec_line(
    run: Json, body: str, section: Optional[str], table: Optional[str]
) -> Tuple[Optional[str], Optional[str]]:
    """Add the values of one line to ``run``; return the open section (7.1) and the kind of the open table."""
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
        _add_value(run["metrics"][section], found.group(1), found.group(2), found.group(3))
        if found.group(4):
            _add_value(
                run["metrics"].setdefault("end_to_end_ms", {"percentiles": {}}),
                found.group(1),
                found.group(4),
                found.group(3),
            )
        return section, None
    return None, None


def _add_value(metric: Json, name: str, ms: str, percent: Optional[str]) -> None:
    """Add one statistic of TensorRT 7, which has a line for each; a percentile without its ``percent`` is dropped."""
    if name == "percentile":
        if percent:
            metric["percentiles"][float(percent)] = float(ms)
    elif not percent:
        metric[name] = float(ms)


def _profile_row(run: Json, body: str, table: str) -> Optional[str]:
    """Parse one line of the printed profile; return the kind of table, read from its header (column orders differ by version)."""
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
        found = re.fullmatch(rf"(\S.*?)\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})", body)
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


def _is_credible(name: str, metric: Json) -> bool:
    needed = ("min", "max", "median") if name == "enqueue_ms" else ("min", "max", "median", "mean")
    if any(statistic not in metric for statistic in needed):
        return False
    low, high = metric["min"], metric["max"]
    if not (math.isfinite(high) and 0 <= low <= high):
        return False
    slack = 1e-4 * high
    inner = [metric.get("mean", metric["median"]), metric["median"], *metric["percentiles"].values()]
    return all(low - slack <= value <= high + slack for value in inner)


class TraceRecord(NamedTuple):
    """One query of ``--exportTimes``, in milliseconds; ``start_ms`` is relative to the clock of the trace."""

    start_ms: float
    compute_ms: float
    latency_ms: float
    h2d_ms: float
    d2h_ms: float


def parse_export_times(text: str) -> List[TraceRecord]:
    """Parse ``--exportTimes`` of 7.0 to 10, warm-up included; inconsistent records are left out."""
    data = json_or_none(text)
    records = []
    for item in data if isinstance(data, list) else []:
        if not isinstance(item, dict):
            continue
        values = [finite(item.get(name)) for name in ("startComputeMs", "endComputeMs", "computeMs", "latencyMs")]
        start, end, compute, latency = values
        to_device, from_device = (
            finite(item.get(new, item.get(old))) or 0.0 for new, old in (("h2dMs", "inMs"), ("d2hMs", "outMs"))
        )
        if start is None or end is None or compute is None or latency is None:
            continue
        if not (0 < compute <= latency * 1.001 + 1e-3) or abs(end - start - compute) > 0.02 * compute + 0.02:
            continue
        records.append(TraceRecord(start, compute, latency, to_device, from_device))
    return records


def after_warm_up(records: Sequence[TraceRecord], warmup_ms: float) -> List[TraceRecord]:
    """Drop the records that begin within ``warmup_ms`` of the first; the export includes warm-up queries."""
    return [item for item in records if item.start_ms - records[0].start_ms >= warmup_ms]


def parse_export_profile(text: str) -> Tuple[Optional[int], List[Json]]:
    """Parse ``--exportProfile``: number of runs, and layers with ``name, time_ms, average_ms`` and, in later versions, ``median_ms``."""
    data = json_or_none(text)
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
    """Parse ``--exportLayerInfo``: per layer ``name, type, inputs, outputs`` (each ``name, shape, format``), ``tactic``.

    With the default verbosity the file holds only names; the layers then have only ``name``.
    """
    data = json_or_none(text)
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
