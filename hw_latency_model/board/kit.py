"""Kit: the folder sent to a board, with the agent, the job list, the networks and the reference network."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from exports import get_profile
from hw_latency_model.board.agent_archive import AGENT_FILE, write_agent
from hw_latency_model.board.device_config import INT8, DeviceConfig
from hw_latency_model.board.plan import Suggestion
from hw_latency_model.board.results import KnownJob
from hw_latency_model.local.reference_network import write_reference
from hw_latency_model.types import KernelSpec
from search_spaces._common.files import atomic_folder, write_error, write_json

JOBS_FORMAT = "paretoseg jobs"
JOBS_VERSION = 1


def agent_path() -> Path:
    """Build the agent's archive and return its path, in a temporary folder that is deleted when the process ends.

    Raises:
        UserError: the folder for temporary files cannot be written.
    """
    try:
        target = Path(_temporary_folder().name) / AGENT_FILE
        return write_agent(target)
    except OSError as error:
        raise write_error(Path(tempfile.gettempdir()), error) from error


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="paretoseg-agent-")


class NetworkSource(Protocol):
    """Source of the networks in a kit."""

    def write(self, key: str, path: Path) -> tuple[KernelSpec, ...] | None:
        """Write the ONNX file and return its kernels; None for a network that the device cannot run."""

    def family(self, key: str) -> str:
        """Return the family of a network, for validation on held-out families."""


def write_kit(
    target: Path,
    config: DeviceConfig,
    source: NetworkSource,
    chosen: Sequence[Suggestion],
    *,
    number: int,
    extra: Callable[[str, Path], Mapping[str, Any]] = lambda key, folder: {},
    workspace_mb: int | None = None,
) -> tuple[KnownJob, ...]:
    """Write one batch to ``target`` and return its jobs, in order, without networks that the device cannot run.

    Args:
        target: folder to create, atomically.
        config: configuration of the device.
        source: source of the networks.
        chosen: networks to measure.
        number: number of the batch, part of each job's id.
        extra: further fields of a network's job, by its key; it may write files into the kit's folder.
        workspace_mb: memory for building an engine; the agent's default if None.

    Raises:
        UserError: the folder cannot be written.
    """
    jobs: list[KnownJob] = []
    rows: list[dict[str, Any]] = []
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
            rows.append({**row, "kind": suggestion.kind, **extra(suggestion.key, folder)})
        write_reference(folder / "reference.onnx")
        write_agent(folder / AGENT_FILE)
        limits = {} if workspace_mb is None else {"workspace_mb": workspace_mb}
        write_json(folder / "jobs.json", {**_header(config), **limits, "jobs": rows})
    return tuple(jobs)


def write_images(folder: Path, content: bytes) -> str:
    """Write an images file among the networks, once for all of the same content; return its path in the kit."""
    name = f"onnx/{hashlib.sha256(content).hexdigest()[:16]}.images"
    (folder / name).write_bytes(content)
    return name


def _header(config: DeviceConfig) -> dict[str, Any]:
    device = config.device
    reference = {"onnx": "reference.onnx"}
    if device.precision == INT8:  # the reference network has no quantized form
        reference["precision"] = get_profile(device.profile_name).float_precision
    return {
        "format": JOBS_FORMAT,
        "version": JOBS_VERSION,
        "device": device.name,
        "precision": device.precision,
        "power_profile": device.power_profile,
        "lock_clocks": device.lock_clocks,
        "backend": device.backend,
        "protocol": config.protocol_settings(),
        "reference": reference,
    }
