"""SYNTHETIC trtexec logs in the formats of TensorRT 7.0 to 10, for releases without a recording."""

from __future__ import annotations

STATISTICS = ("min", "max", "mean", "median")
COMPUTE = (3.5, 4.25, 3.75, 3.625)
HOST = (3.75, 4.5, 4.0, 3.875)
END_TO_END = (6.5, 8.25, 7.25, 7.0)
COMMAND = "/usr/src/tensorrt/bin/trtexec --onnx=net.onnx --fp16"


def log_7(
    *,
    command: str = COMMAND,
    outcome: str = "PASSED",
    queries: int = 0,
    end_to_end: bool = True,
    title: str = "Host Latency",
) -> str:
    """A run under TensorRT 7: no version in the marks, a line for each statistic; 7.1 and 7.2 count 0 queries of batch 0."""

    def section(title: str, values: tuple[float, ...], beside: tuple[float, ...] | None) -> list[str]:
        notes = ["" for _ in values] if beside is None else [f" (end to end {value:g} ms)" for value in beside]
        lines = [f"{name}: {ms:g} ms{note}" for name, ms, note in zip(STATISTICS, values, notes, strict=True)]
        last = "" if beside is None else f" (end to end {beside[1]:g} ms at 99%)"
        return [title, *lines, f"percentile: {values[1]:g} ms at 99%{last}"]

    body = [
        "=== Model Options ===",
        "Format: ONNX",
        "Starting inference threads",
        "Warmup completed 0 queries over 200 ms",
        f"Timing trace has {queries} queries over 3.01 s",
        "Trace averages of 10 runs:",
        "Average on 10 runs - GPU latency: 3.6 ms - Host latency: 3.9 ms (end to end 7 ms, enqueue 0.6 ms)",
        *section(title, HOST, END_TO_END if end_to_end else None),
        f"throughput: {queries / 3.01:g} qps",
        "walltime: 3.01 s",
        "Enqueue Time",
        "min: 0.5 ms",
        "max: 1.5 ms",
        "median: 0.625 ms",
        *section("GPU Compute", COMPUTE, None),
        "total compute time: 2.9 s",
    ]
    lines = "".join(f"[10/02/2020-11:12:13] [I] {line}\n" for line in body)
    return f"&&&& RUNNING TensorRT.trtexec # {command}\n{lines}&&&& {outcome} TensorRT.trtexec # {command}\n"


def log_8(version: str, *, build: str = "", command: str = COMMAND) -> str:
    """A run under TensorRT 8.0 to 10, whose marks have the version, from 10 on with the number of the ``build``."""
    low, high, mean, median = COMPUTE
    summary = f"min = {low} ms, max = {high} ms, mean = {mean} ms, median = {median} ms"
    percentiles = ", ".join(f"percentile({share}%) = {high} ms" for share in (90, 95, 99))
    body = [
        "Engine built in 12.5 sec.",
        "Starting inference",
        "Timing trace has 800 queries over 3.01 s",
        "=== Performance summary ===",
        "Throughput: 265.78 qps",
        f"GPU Compute Time: {summary}, {percentiles}",
    ]
    lines = "".join(f"[10/02/2026-11:12:13] [I] {line}\n" for line in body)
    mark = f"TensorRT.trtexec [TensorRT v{version}]{build} # {command}\n"
    return f"&&&& RUNNING {mark}{lines}&&&& PASSED {mark}"
