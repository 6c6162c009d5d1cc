"""The folder that a board gets: the agent, the job list, the networks, the reference network."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from hw_latency_model.board.device_config import DeviceConfig
from hw_latency_model.board.plan import Suggestion
from hw_latency_model.board.results import KnownJob
from hw_latency_model.board.transport.agent_link import AGENT_FILE
from hw_latency_model.local.reference_network import write_reference
from hw_latency_model.types import KernelSpec
from search_spaces._common.files import atomic_folder, write_json

JOBS_FORMAT = "paretoseg jobs"
JOBS_VERSION = 1


def agent_path() -> Path:
    """The agent's one file, as it is installed."""
    return Path(__file__).parents[1] / "agent" / AGENT_FILE


class NetworkSource(Protocol):
    """Where the networks of a kit come from."""

    def write(self, key: str, path: Path) -> tuple[KernelSpec, ...] | None:
        """Write the ONNX file and return its kernels; None where the device would refuse it."""

    def family(self, key: str) -> str:
        """Which networks it belongs with."""


def write_kit(
    target: Path, config: DeviceConfig, source: NetworkSource, chosen: Sequence[Suggestion], *, number: int
) -> tuple[KnownJob, ...]:
    """Write everything for one batch to ``target`` and return its jobs, in order; what the device would refuse is left out.

    Args:
        target: a folder; it appears whole or not at all.
        config: of the device.
        source: where the networks come from.
        chosen: what to measure.
        number: of the batch, part of each job's id.

    Raises:
        UserError: it cannot be written.
    """
    jobs: list[KnownJob] = []
    rows: list[dict[str, str]] = []
    with atomic_folder(target) as folder:
        (folder / "onnx").mkdir()
        for suggestion in chosen:
            job_id = f"b{number:04d}-{len(jobs) + 1:03d}"
            path = folder / "onnx" / f"{suggestion.key}.onnx"
            kernels = source.write(suggestion.key, path)
            if kernels is None:
                continue
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            family = source.family(suggestion.key)
            jobs.append(KnownJob(job_id, suggestion.key, digest, suggestion.kind, kernels, family))
            relative = path.relative_to(folder).as_posix()
            row = {"id": job_id, "subject": suggestion.key, "onnx": relative, "sha256": digest}
            rows.append({**row, "kind": suggestion.kind})
        write_reference(folder / "reference.onnx")
        shutil.copyfile(agent_path(), folder / AGENT_FILE)
        write_json(folder / "jobs.json", {**_header(config), "jobs": rows})
    return tuple(jobs)


def _header(config: DeviceConfig) -> dict[str, Any]:
    device = config.device
    return {
        "format": JOBS_FORMAT,
        "version": JOBS_VERSION,
        "device": device.name,
        "precision": device.precision,
        "power_profile": device.power_profile,
        "lock_clocks": device.lock_clocks,
        "backend": device.backend,
        "protocol": config.protocol_settings(),
        "reference": {"onnx": "reference.onnx"},
    }
