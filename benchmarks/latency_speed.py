"""Time of a latency estimate: from candidates including graph extraction, and from extracted kernels.

    python -m benchmarks.latency_speed --json OUT [--candidates 10000] [--model MODEL.json]

Draws random candidates of the whole space, estimates each as a search does, then the last 2,000 again from their cached
kernels, one by one and in one batch. Without a model, one is fitted to synthetic latencies, which has the same speed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from hw_latency_model import KernelSpec, LatencyModel, Measurement
from hw_latency_model.kernels.candidate_kernels import KEPT, CandidateKernels
from search_spaces import Candidate, SearchSpace, get_space
from search_spaces._common.files import write_json

NUM_CLASSES = 14
MADE_UP_NETWORKS = 120
RESOLUTIONS = [[height, width] for height in range(96, 513, 32) for width in range(128, 641, 64)]
RATIOS = [round(0.05 * step, 2) for step in range(15)]
"""Finer than a study's, so that ten thousand candidates are nearly all different networks."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--model", type=Path, help="a calibrated latency model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    space = get_space("encoder_decoder", {"resolutions_px": RESOLUTIONS, "prune_ratios": RATIOS})
    rng = np.random.default_rng(options.seed)
    model = LatencyModel.load(options.model) if options.model else _made_up(space, rng)
    candidates = [space.sample(rng) for _ in range(options.candidates)]
    rows = measure(space, model, candidates)
    networks = len({space.architecture_id(item) for item in candidates})
    traced = len({space.operations_id(item) for item in candidates})
    print(f"{len(candidates)} candidates, {networks} different networks, {traced} traced")
    print(f"{'step':<44}{'mean':>9}{'median':>9}{'95 %':>9}{'99 %':>9}{'max':>9}   ms each")
    for row in rows:
        print(f"{row['step']:<44}" + "".join(f"{row[key]:>9.3f}" for key in ("mean", "p50", "p95", "p99", "max")))
    write_json(options.json, {"rows": rows, "candidates": len(candidates), "networks": networks, "traced": traced})


def measure(space: SearchSpace, model: LatencyModel, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """One row per step, milliseconds per candidate."""
    kernels = CandidateKernels(space, NUM_CLASSES)
    seen: set[str | None] = set()
    fresh, first = [], []
    for candidate in candidates:
        begun = time.perf_counter()
        model.predict(kernels.table(candidate))
        spent = time.perf_counter() - begun
        key = space.operations_id(candidate)
        (fresh if key in seen else first).append(spent)
        seen.add(key)
    tables = [kernels.table(candidate) for candidate in candidates[-KEPT:]]
    begun = time.perf_counter()
    estimates = model.predict_many(tables)
    together = (time.perf_counter() - begun) / max(len(estimates), 1)
    alone = []
    for table in tables:
        begun = time.perf_counter()
        model.predict_many([table])
        alone.append(time.perf_counter() - begun)
    return [
        _row("candidate to estimate, all", [*first, *fresh]),
        _row("candidate to estimate, network traced anew", first),
        _row("candidate to estimate, network known", fresh),
        _row("kernels known, one at a time", alone),
        _row("kernels known, all together", [together]),
    ]


def _row(step: str, seconds: Sequence[float]) -> dict[str, Any]:
    values: NDArray[np.float64] = 1e3 * np.array(seconds if len(seconds) else [0.0])
    p50, p95, p99 = (float(value) for value in np.percentile(values, [50, 95, 99]))
    return {
        "step": step,
        "candidates": len(seconds),
        "mean": float(values.mean()),
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "max": float(values.max()),
    }


def _made_up(space: SearchSpace, rng: np.random.Generator) -> LatencyModel:
    """Fitted, with kernel shares, to latencies out of a simple law."""
    kernels = CandidateKernels(space, NUM_CLASSES)
    facts: dict[str, Any] = {"device": "made-up"}
    measurements = []
    for _ in range(MADE_UP_NETWORKS):
        candidate = space.sample(rng)
        network = kernels(candidate)
        costs = np.array([_law_ms(kernel) for kernel in network])
        ms = float(costs.sum() * np.exp(0.02 * rng.standard_normal()))
        measurement = Measurement(
            subject=space.architecture_id(candidate),
            device="made-up",
            latency_ms_p50=ms,
            latency_ms_p90=ms,
            latency_ms_p99=ms,
            runs=1,
            noise_rel=0.02,
            reference_ms=1.0,
            fingerprint=facts,
            started_at="2026-01-01T00:00:00+00:00",
            family=str(candidate.params["family"]),
        )
        measurements.append(measurement.with_kernels(network, tuple((costs / costs.sum()).tolist())))
    return LatencyModel.fit(measurements, device="made-up", fingerprint=facts)


def _law_ms(kernel: KernelSpec) -> float:
    return 1e-8 * kernel.macs + 2e-7 * (kernel.activation_bytes + kernel.weight_bytes) + 2e-3


if __name__ == "__main__":
    main()
