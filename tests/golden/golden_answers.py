"""Answers to the golden fixtures, by the code of this checkout: `make.py` stores them, the tests hold newer ones against them.

Each function gets a folder that it may write to, and gives JSON values.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_internals import study_records
from golden_kit import FIXTURES, ROOT, copied, inside, paretoseg, scrubbed, shape

from exports import PROFILES, load_network, read_bundle, read_network
from hw_latency_model import KernelSpec, LatencyModel, MeasurementStore, kernels_from_onnx

MODEL = FIXTURES / "latency" / "latency_model.json"
EARLIER_TRAIN_S = 4000.0  # of the stored checkpoint: what is trained afterwards comes on top of it
ATTRIBUTES = ("trial_user_attributes", "trial_system_attributes", "study_user_attributes", "study_system_attributes")


def study(folder: Path) -> dict[str, Any]:
    """Records read from the stored study, and what `paretoseg front` prints for it."""
    yaml = copied("study", folder / "study") / "study.yaml"
    return {
        "records": study_records(yaml),
        "front": paretoseg("front", yaml, "--json").json,
        "front_table": paretoseg("front", yaml).out.splitlines(),
        "front_too_slow": paretoseg("front", yaml, "--json", "--set", "device.latency_budget_ms=0.0001").json,
    }


def words(database: Path) -> dict[str, list[str]]:
    """Names of the attributes in a study's database, and the words for how trials ended."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        keys = {table: _column(connection, f"SELECT DISTINCT key FROM {table}") for table in ATTRIBUTES}
        found = {table: sorted({_numberless(key) for key in names}) for table, names in keys.items()}
        found["states"] = _column(connection, "SELECT DISTINCT state FROM trials ORDER BY state")
        found["directions"] = _column(connection, "SELECT direction FROM study_directions ORDER BY objective")
        found["outcomes"] = _column(
            connection,
            "SELECT DISTINCT value_json FROM trial_user_attributes WHERE key = 'outcome' ORDER BY value_json",
        )
        found["metric_names"] = _column(
            connection, "SELECT value_json FROM study_system_attributes WHERE key = 'study:metric_names'"
        )
    connection.close()
    return found


def attribute_shapes(database: Path) -> dict[str, Any]:
    """Keys and kinds of the values below each attribute of a study's database: of its first trial that has it."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT key, value_json FROM trial_user_attributes ORDER BY trial_id DESC").fetchall()
        rows += connection.execute("SELECT key, value_json FROM study_user_attributes").fetchall()
    connection.close()
    found = {_numberless(key): shape(json.loads(text)) for key, text in rows}
    if "params" in found.get("candidate", {}):
        found["candidate"]["params"] = {}
    return found


def bundle(folder: Path) -> dict[str, Any]:
    """Contents of the stored bundle, its network's output on a fixed input, and its score."""
    found = read_bundle(copied("bundle", folder / "bundle"))
    height, width = found.input_hw
    images = torch.linspace(-2, 2, 3 * height * width, dtype=torch.float32).reshape(1, 3, height, width)
    with torch.no_grad():
        logits = load_network(found)(images).numpy()
    network = read_network(found.checkpoint_path)
    return {
        "manifest": dict(found.manifest),
        "candidate": found.candidate.to_dict(),
        "input_hw": list(found.input_hw),
        "class_names": list(found.class_names),
        "measurements": [dict(item) for item in found.measurements],
        "files": sorted(path.name for path in (found.onnx_path, found.checkpoint_path, found.preview_path)),
        "network": {
            "candidate": network.candidate.to_dict(),
            "input_hw": list(network.input_hw),
            "class_names": list(network.class_names),
            "ignore_index": network.ignore_index,
            "mean": list(network.mean),
            "std": list(network.std),
            "precision": network.precision,
            "weights": sorted(network.net.state_dict()),
        },
        "logits_shape": list(logits.shape),
        "logits": [float(value) for value in logits.ravel()],
        "evaluate": paretoseg("evaluate", found.dir, "--json").json,
        "evaluate_robust_keys": shape(paretoseg("evaluate", found.dir, "--split", "train", "--robust", "--json").json),
    }


def predictions(folder: Path) -> dict[str, Any]:
    """Latencies predicted for the stored network, by the stored model and by the bundled ones."""
    onnx = copied("bundle", folder / "bundle") / "model.onnx"
    with inside(folder):
        return {
            "fitted": paretoseg("predict", onnx, "--model", MODEL, "--json").json,
            "fitted_text": paretoseg("predict", onnx, "--model", MODEL).out,
            "jetson-nano fp16": paretoseg(
                "predict", onnx, "--device", "jetson-nano", "--precision", "fp16", "--json"
            ).json,
            "jetson-nano fp32": paretoseg(
                "predict", onnx, "--device", "jetson-nano", "--precision", "fp32", "--json"
            ).json,
            "estimate": LatencyModel.load(MODEL).predict(kernels_from_onnx(onnx, runtime="onnxruntime")).to_dict(),
            "kernels": {
                runtime: kernels_hash(kernels_from_onnx(onnx, runtime=runtime))
                for runtime in sorted({profile.runtime for profile in PROFILES.values()})
            },
        }


def rows(database: Path) -> list[dict[str, Any]]:
    """Rows of a measurement store, with a hash in place of the kernels."""
    with MeasurementStore(database, create=False) as opened:
        return [
            {
                "number": item.number,
                "protocol": None if item.protocol is None else dict(item.protocol),
                "stored_at": item.stored_at,
                "measurement": item.measurement.to_dict(),
                "kernels": len(item.measurement.kernels),
                "kernels_sha256": kernels_hash(item.measurement.kernels),
                "kernel_shares": list(item.measurement.kernel_shares),
            }
            for item in opened.stored()
        ]


def schema(database: Path) -> list[list[str]]:
    """The tables, indices and triggers of a database, in SQL."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        found = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name"
        )
        lines = [list(row) for row in found.fetchall()]
    connection.close()
    return lines


def measurements(folder: Path) -> dict[str, Any]:
    """Contents, listing and export of the stored measurement store."""
    place = copied("latency", folder / "latency") / "measurements.sqlite"
    table = folder / "measurements.csv"
    exported = paretoseg("measurements", "export", table, "--store", place)
    listed = paretoseg("measurements", "list", "--store", place)
    return {
        "rows": rows(place),
        "schema": schema(place),
        "list": paretoseg("measurements", "list", "--store", place, "--json").json,
        "list_text": scrubbed(listed.out, folder),
        "export_text": scrubbed(exported.out, folder),
        "csv_sha256": sha256(table.read_bytes()),
        "csv_header": table.read_text().splitlines()[0].split(","),
    }


def latency_report(folder: Path) -> dict[str, Any]:
    """The report of the stored model, as `paretoseg latency-report` prints it."""
    place = copied("latency", folder / "latency")
    return paretoseg("latency-report", "--model", place / "latency_model.json", "--json").json


def board_results(folder: Path) -> dict[str, Any]:
    """Measurements that the host reads from the agent's stored results."""
    place = copied("board", folder / "board")
    done = paretoseg("calibrate", place / "device.yaml", "--results", place / "results.jsonl")
    assert done.status == 0, done.err
    made = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    found = rows(place / "out" / "measurements.sqlite")
    return {"files": made, "rows": [{**row, "stored_at": None} for row in found]}


def board_kit(folder: Path) -> dict[str, Any]:
    """The folder that the host writes for a board, and what its agent then writes there."""
    place = copied("board", folder / "board")
    for path in (place / "out").rglob("*.json"):
        path.unlink()  # another calibration, from its start
    done = paretoseg("calibrate", place / "device.yaml")
    assert done.status == 0, done.err
    kit = place / "out" / "kit-0001"
    order = json.loads((kit / "jobs.json").read_text())
    for job in order["jobs"]:
        assert job.pop("sha256") == sha256((kit / job["onnx"]).read_bytes())
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(["sh", kit / "run.sh"], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    records = [json.loads(line) for line in (kit / "results.jsonl").read_text().splitlines()]
    batch = json.loads((place / "out" / "session" / "batch-0001.json").read_text())
    return {
        "files": sorted(path.relative_to(kit).as_posix() for path in kit.rglob("*") if "work" not in path.parts),
        "jobs": order,
        "session_keys": sorted(json.loads((place / "out" / "session" / "session.json").read_text())),
        "batch": shape(batch),
        "records": {kind: sorted(_keys(records, kind)) for kind in sorted({record["type"] for record in records})},
    }


def launched(folder: Path) -> dict[str, Any]:
    """State of the stopped study after another launch."""
    place = copied("resumable", folder / "resumable")
    with inside(ROOT):
        done = paretoseg("launch", place / "study.yaml")
    assert done.status == 0, done.err
    newest = torch.load(place / "out" / "trials" / "00001" / "last.pt", weights_only=True)
    exported = read_bundle(sorted((place / "out" / "bundles").glob("trial-*"))[0])
    kept = [path for path in sorted(place.rglob("*")) if path.is_file() and "bundles" not in path.parts]
    return {
        "records": scrubbed(study_records(place / "study.yaml"), place),
        "words": words(place / "study.db"),
        "attributes": attribute_shapes(place / "study.db"),
        "checkpoint": {key: type(value).__name__ for key, value in newest.items()},
        "bundle_files": sorted(path.name for path in exported.dir.iterdir()),
        "manifest": shape({key: value for key, value in exported.manifest.items() if key != "superseded"}),
        "front_csv": (place / "out" / "front.csv").read_text().splitlines()[0].split(","),
        "files": [path.relative_to(place).as_posix() for path in kept],
    }


def onnx_logits(folder: Path) -> np.ndarray:
    """Output of the stored ONNX file on the input of `bundle`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(copied("bundle", folder / "bundle") / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    (taken,) = session.get_inputs()
    _, channels, height, width = taken.shape
    images = np.linspace(-2, 2, channels * height * width, dtype=np.float32).reshape(1, channels, height, width)
    return np.asarray(session.run(None, {taken.name: images})[0])


def _column(connection: sqlite3.Connection, query: str) -> list[str]:
    return [row[0] for row in connection.execute(query).fetchall()]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def kernels_hash(kernels: Sequence[KernelSpec]) -> str:
    """A hash of all that is known of kernels."""
    return sha256(json.dumps([kernel.to_dict() for kernel in kernels], sort_keys=True).encode())


def _numberless(key: str) -> str:
    return re.sub(r"\d+", "N", key)


def _keys(records: list[dict[str, Any]], kind: str) -> set[str]:
    return {key for record in records if record["type"] == kind for key in record}
