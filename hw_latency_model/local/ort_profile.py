"""Kernel profile of a network by the profiler of ONNX Runtime.

Kernel times inside a network, with its caches and layouts, are far more informative than the network's total. The profiler
reports whole microseconds and adds about two per event, which would distort networks of many small kernels: the overhead is
determined by timing the same session without the profiler, and subtracted. The remaining times are used as shares.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exports.onnx.graph import node_name
from exports.onnx.model_file import load_graph
from exports.onnx.runtime import create_session
from hw_latency_model.kernels.layout import BLOCKS_FROM_PLANES, PLANES_FROM_BLOCKS
from hw_latency_model.types import KernelSpec

Array = NDArray[np.float64]

_SUFFIX = "_kernel_time"
_RENAMED = ("_bn_nchwc", "_nchwc")
_COPIES = {"ReorderInput": BLOCKS_FROM_PLANES, "ReorderOutput": PLANES_FROM_BLOCKS}
_BLOCKED = frozenset({"conv", "pointwise", "depthwise", "grouped_conv", "vector"})
"""Kinds that run in the blocked layout and do not cause a layout conversion."""
_QUANTILE = 25
"""Percentile over the runs, a low one because other processes only lengthen an event."""
_LEAST_US = 0.1
_COPY_BYTES = 8000.0
"""Bytes whose copy takes twice as long as an empty one."""


def kernel_shares(onnx_path: Path, kernels: Sequence[KernelSpec], *, runs: int, threads: int) -> tuple[float, ...]:
    """Measure each kernel's share of the time, with sum 1, over ``runs`` runs.

    Layout conversions inserted by the runtime are not nodes of the file. They are assigned to the kernels of kind
    ``relayout`` by size, or without one to the neighbour that does not support the blocked layout.
    """
    names, times_us = _events(onnx_path, runs, threads)
    if not names:
        return tuple(1.0 / max(len(kernels), 1) for _ in kernels)
    spent = np.percentile(times_us, _QUANTILE, axis=0)
    bare_us = _bare_us(onnx_path, runs, threads)
    overhead_us = max(0.0, float(spent.sum()) - bare_us) / len(names)
    spent = np.maximum(spent - overhead_us, _LEAST_US)
    owner = _owners(onnx_path, kernels)
    owners = [_owner(name, owner) for name, _ in names]
    total = np.zeros(len(kernels))
    copies = dict.fromkeys(_COPIES.values(), 0.0)
    for position, (_, operation) in enumerate(names):
        index = owners[position]
        direction = _COPIES.get(operation)
        if index is None and direction is not None and any(_is_copy(kernel, direction) for kernel in kernels):
            copies[direction] += spent[position]
            continue
        if index is None:
            index = _served(operation, owners, position, kernels)
        if index is not None:
            total[index] += spent[position]
    for direction, spent_us in copies.items():
        sizes = np.array(
            [kernel.input_bytes + _COPY_BYTES if _is_copy(kernel, direction) else 0.0 for kernel in kernels]
        )
        total += spent_us * sizes / max(float(sizes.sum()), 1.0)
    return tuple((total / max(float(total.sum()), 1e-9)).tolist())


def _is_copy(kernel: KernelSpec, direction: str) -> bool:
    return kernel.kind == "relayout" and kernel.name == direction


def _owners(onnx_path: Path, kernels: Sequence[KernelSpec]) -> dict[str, int]:
    """Map the name of a node, or of its output, to the index of its kernel."""
    owner = {part: index for index, kernel in enumerate(kernels) for name in kernel.nodes for part in name.split("+")}
    for index, node in enumerate(load_graph(onnx_path).graph.node):
        name = node_name(node, index)
        if name in owner:
            owner.update(dict.fromkeys(node.output, owner[name]))
    return owner


def _session(onnx_path: Path, threads: int, profile: Path | None = None) -> tuple[Any, dict[str, Any]]:
    session = create_session(onnx_path, threads, profile=profile)
    source = session.get_inputs()[0]
    return session, {source.name: np.random.default_rng(0).standard_normal(source.shape, dtype=np.float32)}


def _bare_us(onnx_path: Path, runs: int, threads: int) -> float:
    """Time one run without the profiler in microseconds: CPU time with one thread, otherwise wall time."""
    session, feed = _session(onnx_path, threads)
    clock = time.thread_time if threads == 1 else time.perf_counter
    times = []
    for _ in range(runs + 2):
        begun = clock()
        session.run(None, feed)
        times.append(clock() - begun)
    return float(np.percentile(times[2:], _QUANTILE)) * 1e6


def _events(onnx_path: Path, runs: int, threads: int) -> tuple[list[tuple[str, str]], Array]:
    """Return (name, operation) of each node in order, and (runs, nodes) microseconds, without two warm-up runs."""
    with tempfile.TemporaryDirectory() as folder:
        session, feed = _session(onnx_path, threads, Path(folder) / "profile")
        for _ in range(runs + 2):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [
        (event["name"].removesuffix(_SUFFIX), str(event["args"].get("op_name", "")), float(event["dur"]))
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)
    ]
    per_run = len(nodes) // (runs + 2)
    names = [(name, operation) for name, operation, _ in nodes[:per_run]]
    times = np.array([duration for _, _, duration in nodes[2 * per_run : (runs + 2) * per_run]], dtype=np.float64)
    return names, times.reshape(-1, per_run) if per_run else times


def _owner(name: str, owner: dict[str, int]) -> int | None:
    for suffix in _RENAMED:
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    return owner.get(name)


def _served(operation: str, owners: list[int | None], position: int, kernels: Sequence[KernelSpec]) -> int | None:
    before = next((item for item in owners[position::-1] if item is not None), None)
    after = next((item for item in owners[position:] if item is not None), None)
    first, second = (after, before) if operation == "ReorderOutput" else (before, after)
    if first is not None and (second is None or kernels[first].kind not in _BLOCKED):
        return first
    return second
