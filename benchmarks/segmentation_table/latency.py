"""Latencies of the table's candidates: measured on one core of this machine, and predicted for the Jetson Nano.

    python -m benchmarks.segmentation_table.latency --data DIR [--table FILE]

Training should not run at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.segmentation_table.table import TABLE, read_table
from benchmarks.segmentation_table.train import study
from exports import export_onnx
from hw_latency_model import measure_bundle
from hw_latency_model.bundled.load import load_bundled
from search_spaces import open_space
from search_spaces._common.files import atomic_path
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.launch_checks import check_data

NANO = ("fp32", "fp16")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the CamVid folder")
    parser.add_argument("--table", type=Path, default=TABLE, help="JSON Lines file of the trainings")
    options = parser.parse_args(arguments)
    config = study(options.data, Path("runs/segmentation_table"), "none", 1)
    add_latencies(config, options.table, len(check_data(config).class_names))


def add_latencies(config: StudyConfig, table: Path, classes: int) -> None:
    """Add ``latency_ms`` (``local-cpu``, ``jetson-nano-fp32``, ``jetson-nano-fp16``) to the rows without it; the networks are
    measured as they are exported, in their pruned shape, with random weights."""
    space = open_space(config.space)
    models = [LatencyConstraint(space, classes, load_bundled("jetson-nano", precision), 1.0) for precision in NANO]
    rows = read_table(table)
    known = {row["candidate"]: row["latency_ms"] for row in rows if "latency_ms" in row}
    for row in rows:
        number = row["candidate"]
        if number not in known:
            candidate = space.candidate(row["params"])
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                export_onnx(space.build_pruned(candidate, classes), space.input_hw(candidate), path)
                measured = measure_bundle(path, "local-cpu").latency_ms_p50
            known[number] = {
                "local-cpu": round(measured, 4),
                **{
                    f"jetson-nano-{name}": round(model.estimate(candidate).latency_ms, 4)
                    for name, model in zip(NANO, models, strict=True)
                },
            }
            print(f"{number}: {known[number]}", flush=True)
        row["latency_ms"] = known[number]
        with atomic_path(table) as new:
            new.write_text("".join(json.dumps(item) + "\n" for item in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
