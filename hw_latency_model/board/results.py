"""Parser of ``results.jsonl``; lines whose checksum fails are counted and skipped.

Each line is JSON with a checksum of its content. Dropped connections, full disks and USB drives removed too early leave
truncated and merged lines; a complete record appended to a truncated one is still found.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hw_latency_model.types import JobKind, KernelSpec, Measurement
from search_spaces._common.untrusted import parse_json

_RECORD_START = re.compile(r'\{"')
_MOST_STARTS = 64
_TYPES = frozenset({"board", "measurement", "failure", "end"})
_MAX_SAMPLES = 1000
_LEAST_MS, _MOST_MS = 1e-6, 1e9  # a nanosecond, twelve days
_MOST_NUMBER, _MOST_RUNS = 1e12, 10**9
_LAYER_NAMES = re.compile(r" \+ |\|\||\(|\)|, ")


@dataclass(frozen=True)
class KnownJob:
    """Job sent to a board, as stored on the host.

    Attributes:
        id, subject, sha256: as in ``jobs.json``.
        kind: a whole network or a kernel chain.
        kernels: kernels of the file that was sent.
        family: family of the network.
    """

    id: str
    subject: str
    sha256: str
    kind: JobKind
    kernels: tuple[KernelSpec, ...]
    family: str = ""


@dataclass(frozen=True)
class JobFailure:
    """Failed job with its reason; ``retry``: it may succeed at the next start of the agent."""

    job_id: str
    subject: str
    reason: str
    log_tail: str
    retry: bool


@dataclass(frozen=True)
class EngineOutputs:
    """Logits of a job's images, computed by its engine on the board.

    Attributes:
        measurement: of the same engine.
        file: path of the float32 logits beside the results file; None where there are none, for ``reason``.
        sha256, size_bytes, images: of the file, and the number of images.
        plan_bytes: size of the engine; None without an engine.
        provider: execution provider of ONNX Runtime; None for other runtimes.
    """

    measurement: Measurement
    file: str | None
    reason: str
    sha256: str
    size_bytes: int
    images: int
    plan_bytes: int | None
    provider: str | None


@dataclass(frozen=True)
class BoardResults:
    """Content of a results file.

    Attributes:
        measurements: the last measurement of each job, with its kernels, in order of the file.
        failures: jobs that failed and were not measured later.
        protocols: protocol settings of each measurement; None if not recorded.
        seconds: (wall seconds on the board, of which building the engine) by job id.
        boards: facts of each run of the agent, in order.
        done: ids of jobs with a measurement or a permanent failure.
        damaged: number of truncated or altered lines, which are skipped.
        refused: one sentence for each valid line of an unknown job or with impossible values.
        ended: the agent finished its job list.
        outputs: of jobs with images, by job id.
    """

    measurements: tuple[Measurement, ...]
    protocols: tuple[Mapping[str, Any] | None, ...]
    failures: tuple[JobFailure, ...]
    seconds: Mapping[str, tuple[float, float]]
    boards: tuple[Mapping[str, Any], ...]
    done: frozenset[str]
    damaged: int
    refused: tuple[str, ...]
    ended: bool
    outputs: Mapping[str, EngineOutputs] = field(default_factory=dict)


def read_results(data: bytes, jobs: Mapping[str, KnownJob], *, device: str, precision: str) -> BoardResults:
    """Parse ``results.jsonl``, skipping damaged and impossible records.

    Args:
        data: content of the file; a last line without its newline counts as damaged.
        jobs: all jobs sent, by id.
        device: device name of the measurements.
        precision: precision of the jobs.
    """
    measured: dict[str, tuple[Measurement, Mapping[str, Any] | None]] = {}
    failed: dict[str, JobFailure] = {}
    seconds: dict[str, tuple[float, float]] = {}
    boards: dict[str, Mapping[str, Any]] = {}
    outputs: dict[str, EngineOutputs] = {}
    refused: list[str] = []
    damaged, ended = 0, False
    for record in read_records(data):
        if record is None:
            damaged += 1
            continue
        kind = record["type"]
        if kind in ("board", "end"):
            ended = kind == "end"
            if kind == "board":
                boards[str(record.get("run_id"))] = record
            continue
        job = jobs.get(str(record.get("job_id")))
        board = boards.get(str(record.get("run_id")))
        if job is None:
            refused.append(f"a {kind} of job {record.get('job_id')!r} belongs to no job of this calibration")
        elif record.get("sha256") != job.sha256:
            refused.append(f"{job.subject} was measured with another file than the one that was sent (sha256 differs)")
        elif kind == "failure":
            reason, log = str(record.get("reason", "")), str(record.get("log_tail", ""))
            failed[job.id] = JobFailure(job.id, job.subject, reason, log, bool(record.get("retry")))
        elif board is None or not isinstance(board.get("fingerprint"), dict):
            refused.append(f"{job.subject} was measured on a board that the file does not describe")
        elif record.get("precision", precision) != precision:
            refused.append(f"{job.subject} was measured in {record['precision']}, not in {precision}")
        else:
            try:
                measurement = _measurement(record, board, job, device, precision)
                seconds[job.id] = _seconds(record)
                if isinstance(record.get("outputs"), dict):
                    outputs[job.id] = _outputs(record, measurement)
            except (KeyError, TypeError, ValueError) as error:
                refused.append(f"{job.subject}: the line says what cannot be ({_cause(error)})")
            else:
                settings = board.get("settings")
                measured[job.id] = (measurement, settings if isinstance(settings, dict) else None)
    failures = tuple(failure for job_id, failure in failed.items() if job_id not in measured)
    return BoardResults(
        measurements=tuple(item for item, _ in measured.values()),
        protocols=tuple(protocol for _, protocol in measured.values()),
        failures=failures,
        seconds=seconds,
        boards=tuple(boards.values()),
        done=frozenset({*measured, *(failure.job_id for failure in failures if not failure.retry)}),
        damaged=damaged,
        refused=tuple(refused),
        ended=ended,
        outputs=outputs,
    )


def read_records(data: bytes) -> Iterator[dict[str, Any] | None]:
    """Decode each line; None for a damaged one. Empty lines are skipped."""
    *lines, tail = data.split(b"\n")
    for line in lines:
        if line.strip(b" \t\r\0"):
            yield from _records_of(line)
    if tail.strip(b" \t\r\0"):
        yield None


def record_crc(record: Mapping[str, Any]) -> int:
    """Compute the CRC-32 of a record: its JSON without ``crc``, keys sorted, without blanks."""
    content = {key: value for key, value in record.items() if key != "crc"}
    return zlib.crc32(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()) & 0xFFFFFFFF


def _records_of(line: bytes) -> Iterator[dict[str, Any] | None]:
    text = line.decode("utf-8", errors="replace").strip("\0 \t\r")
    whole = _proven(text)
    if whole is not None:
        yield whole
        return
    yield None
    for start in [match.start() for match in _RECORD_START.finditer(text)][1:_MOST_STARTS]:
        glued = _proven(text[start:])
        if glued is not None:
            yield glued
            return


def _proven(text: str) -> dict[str, Any] | None:
    try:
        value = parse_json(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("type") not in _TYPES:
        return None
    crc = value.get("crc")
    return value if isinstance(crc, int) and not isinstance(crc, bool) and crc == record_crc(value) else None


def _measurement(
    record: Mapping[str, Any], board: Mapping[str, Any], job: KnownJob, device: str, precision: str
) -> Measurement:
    p50, p90, p99 = (_positive(record, f"latency_ms_{name}") for name in ("p50", "p90", "p99"))
    if not p50 <= p90 <= p99:
        raise ValueError(f"percentiles {p50}, {p90}, {p99} do not rise")
    runs, repeats = _count(record["runs"], "runs"), _count(record.get("repeats") or 0, "repeats")
    if runs < 1:
        raise ValueError(f"{runs} runs")
    samples = tuple(_number(value, "samples_ms") for value in (record.get("samples_ms") or [])[:_MAX_SAMPLES])
    drift = abs(_optional(record, "drift_rel") or 0.0)
    confidence = _optional(record, "confidence_rel")
    measurement = Measurement(
        subject=job.subject,
        device=device,
        latency_ms_p50=p50,
        latency_ms_p90=p90,
        latency_ms_p99=p99,
        runs=runs,
        noise_rel=max(_spread(samples) if confidence is None else confidence, drift),
        reference_ms=_positive(record, "reference_ms"),
        fingerprint={**board["fingerprint"], "device": device},
        started_at=str(record["started_at"])[:64],
        drift_rel=drift,
        noisy=bool(record.get("noisy")) or bool(record.get("throttled")),
        repeats=repeats,
        precision=precision,
        samples_ms=samples,
        energy_mj=_optional(record, "energy_mj_gross"),
        energy_net_mj=_optional(record, "energy_mj_net"),
        power_mw=_optional(record, "power_mw"),
        memory_peak_mb=_optional(record, "memory_peak_mb"),
        end_to_end_ms_p50=_optional(record, "end_to_end_ms_p50"),
        build_s=_optional(record, "build_s"),
        temp_c=_optional(record, "temp_c_end"),
        family=job.family,
    )
    return measurement.with_kernels(job.kernels, kernel_shares(job.kernels, record.get("layers") or []))


def _outputs(record: Mapping[str, Any], measurement: Measurement) -> EngineOutputs:
    """Facts of the file of logits; its name may not lead out of the folder of the results."""
    facts = record["outputs"]
    name = facts.get("file")
    if name is not None and not re.fullmatch(r"outputs/[A-Za-z0-9][A-Za-z0-9._-]*", str(name)):
        raise ValueError(f"outputs.file is {repr(name)[:80]}")
    plan, provider = record.get("plan_bytes"), record.get("provider")
    return EngineOutputs(
        measurement=measurement,
        file=None if name is None else str(name),
        reason=str(facts.get("reason", "")),
        sha256=str(facts.get("sha256", "")),
        size_bytes=int(_number(facts.get("bytes", 0), "outputs.bytes")),
        images=_count(facts.get("images", 0), "outputs.images"),
        plan_bytes=None if plan is None else int(_number(plan, "plan_bytes")),
        provider=None if provider is None else str(provider),
    )


def kernel_shares(kernels: Sequence[KernelSpec], layers: Sequence[object]) -> tuple[float, ...]:
    """Compute each kernel's share of the time from the runtime's layer profile.

    Profiling is intrusive, so only proportions are used. A layer is assigned to the kernel whose nodes its name lists
    (``Conv_0 + Relu_1``); the time of a layer that lists nodes of several kernels is divided by their bytes; layers inserted
    by the runtime (reformats) are not assigned.

    Args:
        kernels: kernels with their nodes.
        layers: pairs of name and ms.

    Returns:
        Shares with sum 1; empty if less than 80 % of the time was assigned, or a kernel with arithmetic has none.
    """
    owner = {node: index for index, kernel in enumerate(kernels) for node in (kernel.name, *kernel.nodes)}
    times, total = [0.0] * len(kernels), 0.0
    for layer in layers:
        if not isinstance(layer, list) or len(layer) != 2:
            return ()
        ms = _number(layer[1], "layers")
        total += ms
        names = [name.strip() for name in _LAYER_NAMES.split(str(layer[0]))]
        owners = sorted({owner[name] for name in names if name in owner})
        bytes_of = [kernels[index].activation_bytes + 1 for index in owners]
        for index, size in zip(owners, bytes_of, strict=True):
            times[index] += ms * size / sum(bytes_of)
    found = sum(times)
    missing = any(kernel.macs and not ms for kernel, ms in zip(kernels, times, strict=True))
    if missing or not total > 0 or found < 0.8 * total:
        return ()
    return tuple(ms / found for ms in times)


def _seconds(record: Mapping[str, Any]) -> tuple[float, float]:
    """Wall seconds on the board, and those of building; 0 if the board's clock was set in between."""
    build_s = max(0.0, _optional(record, "build_s") or 0.0)
    try:
        begun, ended = (datetime.fromisoformat(str(record[key])) for key in ("started_at", "ended_at"))
    except (KeyError, ValueError):
        return build_s, build_s
    return max(build_s, (ended - begun).total_seconds()), build_s


def _spread(samples: Sequence[float]) -> float:
    """Half the interquartile range over the median: a bound on the shift of the median by one more or fewer run."""
    if len(samples) < 4:
        return 0.0
    ordered = sorted(samples)
    low, middle, high = (ordered[int(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75))
    return (high - low) / 2 / middle if middle > 0 else 0.0


def _positive(record: Mapping[str, Any], key: str) -> float:
    value = _number(record[key], key)
    if not _LEAST_MS <= value <= _MOST_MS:
        raise ValueError(f"{key} is {value}")
    return value


def _optional(record: Mapping[str, Any], key: str) -> float | None:
    value = record.get(key)
    return None if value is None else _number(value, key)


def _number(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _MOST_NUMBER:
        raise ValueError(f"{key} is {repr(value)[:40]}")
    return float(value)


def _count(value: object, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_RUNS:
        raise ValueError(f"{key} is {repr(value)[:40]}")
    return value


def _cause(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
