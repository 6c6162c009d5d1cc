"""Job list: the networks to measure and how to measure them."""

import json
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple

from .backends import BACKENDS
from .errors import UserMistake
from .files import Json, file_sha256
from .protocol import read_settings


class Job(NamedTuple):
    """One network.

    Attributes:
        kind: ``network`` or ``kernels`` (also profile its layers).
        keep_fp32: ONNX nodes that stay in float32 in an FP16 engine.
        images: images file to run through the engine, see ``parity``; None: none.
        precision: of its engine.
    """

    id: str
    subject: str
    onnx: Path
    sha256: str
    kind: str
    torchscript: Optional[str]
    input_shape: Optional[List[int]]
    images: Optional[Path] = None
    keep_fp32: Tuple[str, ...] = ()
    precision: str = "fp32"


class JobList:
    """Validated ``jobs.json``; attributes have the names of its fields.

    Raises:
        UserMistake: the file is not a job list, or a field is invalid.
    """

    def __init__(self, path: Path) -> None:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserMistake(f"{path} is no job list: {error}") from error
        if not isinstance(data, dict) or data.get("format") != "paretoseg jobs" or data.get("version") != 1:
            raise UserMistake(f"{path} is no job list of version 1: write it again with this agent's paretoseg")
        self.folder = path.resolve().parent
        self.device = str(data.get("device", "device"))
        self.precision = str(data.get("precision") or "fp32")
        self.power_profile = data.get("power_profile")
        self.lock_clocks = bool(data.get("lock_clocks", True))
        self.backend = str(data.get("backend") or "auto")
        if self.backend != "auto" and self.backend not in BACKENDS:
            raise UserMistake(
                "there is no backend {!r}; it is auto or one of {}".format(self.backend, ", ".join(BACKENDS))
            )
        self.settings = read_settings(data.get("protocol") or {})
        self.threads = self._count(data, "threads", 1)
        self.workspace_mb = self._count(data, "workspace_mb", 512)
        reference = data.get("reference")
        self.reference = self._job(dict(reference, id="reference"), False) if reference else None
        self.jobs = [self._job(item, True) for item in data.get("jobs", [])]
        names = [job.id for job in self.jobs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserMistake(f"job ids must differ, and {twice[0]!r} comes twice")

    @staticmethod
    def _count(data: Json, name: str, default: int) -> int:
        value = data.get(name, default)
        if not isinstance(value, int) or value < 1:
            raise UserMistake(f"{name} must be a whole number of at least 1, not {value!r}")
        return value

    def _job(self, item: Any, needs_sha: bool) -> Job:
        if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not isinstance(item.get("onnx"), str):
            raise UserMistake(f"each job needs an id and an onnx file, unlike {item!r}")
        onnx = self.folder / item["onnx"]
        sha = item.get("sha256") or ""
        if not sha:
            if needs_sha:
                raise UserMistake("job {!r} has no sha256".format(item["id"]))
            if not onnx.is_file():
                raise UserMistake(f"the reference network {onnx} is missing")
            sha = file_sha256(onnx)
        torchscript = str(self.folder / item["torchscript"]) if item.get("torchscript") else None
        kind, subject = str(item.get("kind", "network")), str(item.get("subject", item["id"]))
        keep = tuple(str(name) for name in item.get("keep_fp32") or ())
        images = self.folder / item["images"] if isinstance(item.get("images"), str) else None
        shape, precision = item.get("input_shape"), str(item.get("precision") or self.precision)
        return Job(item["id"], subject, onnx, str(sha), kind, torchscript, shape, images, keep, precision)
