"""Bundled Nano prior against published latencies of whole networks, each predicted by a fit without it.

    python -m benchmarks.latency_published --data FILE.csv --json OUT

Networks are built by name from torchvision, timm, or the few segmentation networks that neither has, and read as TensorRT's
kernels. ``held_out`` names the parameters: ``leave-one-family-out`` for a network whose rows are in the shipped fit (without all
rows of its family, at any size and precision), ``never fitted`` for every other. A row that cannot be predicted has the reason in
``status``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from benchmarks.nano_prior.published import KNOWN, PublishedNetworks, PublishedRow, read_published, read_whole_networks
from hw_latency_model.bundled.load import held_out_models, load_bundled
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_json

DEVICE, NANO = "jetson-nano", "Jetson Nano"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CSV file of published latencies")
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    options = parser.parse_args(arguments)
    try:
        rows = run(read_nano_rows(options.data))
        write_json(options.json, rows)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{'network':24}{'input':>10} {'prec':5}{'measured':>9}{'predicted':>10}{'interval':>18}{'ratio':>7} inside  held out"
    )
    for row in rows:
        head = f"{row['model']:24}{row['input_hxw']:>10} {row['precision']:5}"
        if row["status"] != KNOWN:
            print(f"{head} {row['status']}")
            continue
        interval = f"{row['low_ms']:.1f} - {row['high_ms']:.1f}"
        measured = f"{row['measured_ms']:9.2f}" if row["measured_ms"] else f"{'-':>9}"
        ratio = f"{row['ratio']:7.2f} {'yes' if row['inside'] else 'no':6}" if row["ratio"] else f"{'-':>7} {'-':6}"
        print(f"{head}{measured}{row['predicted_ms']:10.2f}{interval:>18}{ratio}  {row['held_out']}")
    for line in summary(rows):
        print(line)
    return 0


def read_nano_rows(path: Path) -> list[PublishedRow]:
    """Rows of the Nano: all of a table of one device, those of the Nano in a table with the column ``device``.

    Raises:
        UserError: the file is missing or lacks a column.
    """
    several = "device" in path.read_text(errors="replace").partition("\n")[0].split(",") if path.is_file() else False
    return read_whole_networks(path).get(NANO, []) if several else read_published(path)


def run(table: Sequence[PublishedRow]) -> list[dict[str, Any]]:
    """One row per row of the table."""
    networks = PublishedNetworks()
    return [_row(row, networks) for row in table]


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Within ±15 % and ±25 %, and inside the interval: of all predicted rows, and by family."""
    scored = [row for row in rows if row["status"] == KNOWN and row["ratio"]]
    if not scored:
        return ["no row could be scored"]
    lines = []
    for name, members in [
        ("all", scored),
        *((key, _of(scored, key)) for key in sorted({row["family"] for row in scored})),
    ]:
        errors = np.array([abs(row["ratio"] - 1.0) for row in members])
        inside = np.mean([row["inside"] for row in members])
        lines.append(
            f"{name:16}{len(members):4} rows  within 15 %: {np.mean(errors <= 0.15):6.1%}  25 %: {np.mean(errors <= 0.25):6.1%}"
            f"  inside the interval: {inside:6.1%}"
            f"  median error: {np.median(errors):6.1%}"
        )
    return lines


def _of(rows: Sequence[dict[str, Any]], family: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["family"] == family]


def _row(row: PublishedRow, networks: PublishedNetworks) -> dict[str, Any]:
    started = time.perf_counter()
    result: dict[str, Any] = {
        "model": row.model,
        "family": row.family,
        "input_hxw": row.input_hxw,
        "precision": row.precision,
        "measured_ms": row.latency_ms or None,
        "predicted_ms": None,
        "low_ms": None,
        "high_ms": None,
        "coverage": None,
        "ratio": None,
        "inside": None,
        "held_out": None,
        "status": row.status,
    }
    if row.status != KNOWN:
        return result
    kernels = networks.kernels(row)
    if not kernels:
        return {**result, "status": "unknown network"}
    without = held_out_models(DEVICE, row.precision)
    estimate = without.get(row.key, load_bundled(DEVICE, row.precision)).predict(kernels)
    inside = estimate.low_ms <= row.latency_ms <= estimate.high_ms
    return {
        **result,
        "predicted_ms": estimate.latency_ms,
        "low_ms": estimate.low_ms,
        "high_ms": estimate.high_ms,
        "coverage": estimate.coverage,
        "ratio": estimate.latency_ms / row.latency_ms if row.latency_ms else None,
        "inside": bool(inside) if row.latency_ms else None,
        "held_out": "leave-one-family-out" if row.key in without else "never fitted",
        "seconds": time.perf_counter() - started,
    }


if __name__ == "__main__":
    raise SystemExit(main())
