"""Where a network's time goes inside ONNX Runtime: its own profiler's events, assigned to our kernels.

Kernels timed inside their network, with its caches and layouts, tell far more about each kind's cost than the network's
total does. Times of the profiler are whole microseconds and include its own overhead, so only the shares are used.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from hw_latency_model.onnx_graph import node_name
from hw_latency_model.types import KernelSpec

_SUFFIX = "_kernel_time"
_RENAMED = ("_bn_nchwc", "_nchwc")
_TO_PLAIN = "ReorderOutput"
_BLOCKED = frozenset({"conv", "pointwise", "depthwise", "grouped_conv", "vector"})
"""Kinds that run in the blocked layout, and so are not what a change of layout is made for."""


def kernel_shares(onnx_path: Path, kernels: Sequence[KernelSpec], *, runs: int, threads: int) -> tuple[float, ...]:
    """Share of the time that each kernel takes, adding up to 1; medians over ``runs`` runs.

    Events that are no node of the file are changes of layout that the runtime inserts; they count to the neighbour that
    cannot work in the blocked layout.
    """
    events = _events(onnx_path, runs, threads)
    owner = {part: index for index, kernel in enumerate(kernels) for name in kernel.nodes for part in name.split("+")}
    owner.update(
        {
            output: owner[node_name(node, index)]
            for index, node in enumerate(onnx.load(onnx_path, load_external_data=False).graph.node)
            for output in node.output
            if node_name(node, index) in owner
        }
    )
    samples: dict[int, list[float]] = defaultdict(list)
    for run in events:
        owners = [_owner(name, owner) for name, _, _ in run]
        total: dict[int, float] = defaultdict(float)
        for position, (_, operation, duration) in enumerate(run):
            index = owners[position]
            if index is None:
                index = _served(operation, owners, position, kernels)
            if index is not None:
                total[index] += duration
        for index, duration in total.items():
            samples[index].append(duration)
    medians = np.array([np.median(samples[index]) if index in samples else 0.0 for index in range(len(kernels))])
    return tuple(float(value) for value in medians / max(float(medians.sum()), 1e-9))


def _events(onnx_path: Path, runs: int, threads: int) -> list[list[tuple[str, str, float]]]:
    """(name, operation, microseconds) of each node of each run, in order; two warm-up runs are left out."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
        source = session.get_inputs()[0]
        image = np.random.default_rng(0).standard_normal(source.shape, dtype=np.float32)
        for _ in range(runs + 2):
            session.run(None, {source.name: image})
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [
        (event["name"].removesuffix(_SUFFIX), str(event["args"].get("op_name", "")), float(event["dur"]))
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)
    ]
    per_run = len(nodes) // (runs + 2)
    return [nodes[start : start + per_run] for start in range(2 * per_run, len(nodes), per_run)] if per_run else []


def _owner(name: str, owner: dict[str, int]) -> int | None:
    for suffix in _RENAMED:
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    return owner.get(name)


def _served(operation: str, owners: list[int | None], position: int, kernels: Sequence[KernelSpec]) -> int | None:
    before = next((item for item in owners[position::-1] if item is not None), None)
    after = next((item for item in owners[position:] if item is not None), None)
    first, second = (after, before) if operation == _TO_PLAIN else (before, after)
    if first is not None and (second is None or kernels[first].kind not in _BLOCKED):
        return first
    return second
