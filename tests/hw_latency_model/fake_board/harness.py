"""Job lists for the agent, and the agent's archive as a process."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from child_signals import default_signals

from hw_latency_model.agent.results import read_results
from hw_latency_model.board.kit import agent_path

AGENT = agent_path()
QUICK = {
    "warmup_s": 0,
    "min_runs": 20,
    "max_runs": 60,
    "max_s": 3.0,
    "rounds": 4,
    "confidence_rel": 0.01,
    "max_drift_rel": 0.02,
    "max_repeats": 1,
    "energy_s": 0,
    "reference_runs": 3,
    "cool_down_s": 0.2,
}


def fake_onnx(**facts: Any) -> bytes:
    """Network for the stand-ins: JSON with its latency (ms) and the faults to simulate."""
    return json.dumps({"ms": 5.0, **facts}).encode()


def write_images(folder: Path, count: int = 2, hw: tuple[int, int] = (32, 32)) -> str:
    """Write black images for the stand-ins' networks; return the file's name."""
    head = json.dumps({"count": count, "height_px": hw[0], "width_px": hw[1]}).encode() + b"\n"
    (folder / "black.images").write_bytes(head + bytes(4 * 3 * 256) + bytes(count * 3 * hw[0] * hw[1]))
    return "black.images"


def fp16_onnx() -> bytes:
    """Smallest protobuf message that reads as a model with fp16 weights; the stand-ins read the JSON before it."""
    tensor = b"\x10\x0a" + b"\x4a\x04\x00\x3c\x00\x3c"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    text = fake_onnx(ms=5.0, typed="fp16", answer=1) + b"#"
    return b"\x12" + bytes([len(text)]) + text + b"\x3a" + bytes([len(graph)]) + graph


class Kit:
    """A folder with ``jobs.json``, its networks, and the files of the runs."""

    def __init__(self, folder: Path, python: str, root: Path | str = "/") -> None:
        self.folder = folder
        self.python = python
        self.root = str(root)
        self.results = folder / "results.jsonl"
        self.work = folder / "work"
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, networks: Mapping[str, bytes], reference: bytes | None = None, **fields: Any) -> None:
        """Write the job list; ``fields`` replace the defaults, ``protocol`` adds to the quick one."""
        jobs = []
        for name, content in networks.items():
            (self.folder / f"{name}.onnx").write_bytes(content)
            sha = hashlib.sha256(content).hexdigest()
            jobs.append({"id": name, "subject": f"s-{name}", "onnx": f"{name}.onnx", "sha256": sha, "kind": "network"})
        (self.folder / "reference.onnx").write_bytes(fake_onnx(ms=3.0) if reference is None else reference)
        value = {
            "format": "paretoseg jobs",
            "version": 1,
            "device": "nano",
            "precision": "fp16",
            "power_profile": None,
            "lock_clocks": True,
            "backend": "auto",
            "reference": {"onnx": "reference.onnx"},
            "jobs": jobs,
            **fields,
            "protocol": {**QUICK, **fields.get("protocol", {})},
        }
        (self.folder / "jobs.json").write_text(json.dumps(value))

    def edit(self, **fields: Any) -> None:
        path = self.folder / "jobs.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    def command(self, *extra: str) -> list[str]:
        files = ["--jobs", str(self.folder / "jobs.json"), "--results", str(self.results), "--work", str(self.work)]
        return [self.python, str(AGENT), "run", *files, "--root", self.root, *extra]

    def run(self, env: Mapping[str, str], *extra: str, wrap: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        line = [*wrap, *self.command(*extra)]
        return subprocess.run(line, env=dict(env), capture_output=True, text=True, timeout=120)

    def start(self, env: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(),
            env=dict(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            preexec_fn=default_signals,
        )

    def records(self, kind: str) -> list[dict[str, Any]]:
        found, damaged = read_results(self.results)
        assert damaged == 0
        return [record for record in found if record["type"] == kind]

    def measured(self) -> dict[str, dict[str, Any]]:
        """Measurements by job id; a job measured twice fails the test."""
        found = self.records("measurement")
        names = [record["job_id"] for record in found]
        assert len(names) == len(set(names)), f"measured twice: {names}"
        return {record["job_id"]: record for record in found}
