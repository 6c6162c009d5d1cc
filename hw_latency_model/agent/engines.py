"""Cache of built engines and of the tactics timed for them."""

import json
import re
import zlib
from pathlib import Path
from typing import Iterable, Optional

from .files import Json, file_sha256, json_or_none, read_text, write_durably
from .jobs import Job


class Engines:
    """Engines cached in the work folder, keyed by network, TensorRT version and precision.

    Args:
        work: the folder.
        backend_version: version of TensorRT.
        board: facts of the board; an engine of another board, left on a disk that was moved, is built again.
    """

    def __init__(self, work: Path, backend_version: str, board: Optional[Json] = None) -> None:
        self.board = board
        self.folder = work / "engines"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.version = re.sub(r"[^\w.]", "_", backend_version)
        self.cache = work / f"timing-{self.version}.cache"

    def plan(self, job: Job) -> Path:
        """Return the path of a job's engine."""
        kept = "-keep{:08x}".format(zlib.crc32(json.dumps(job.keep_fp32).encode())) if job.keep_fp32 else ""
        return self.folder / f"{job.sha256[:24]}-{job.precision}{kept}-trt{self.version}.plan"

    def kept(self, plan: Path) -> Optional[Json]:
        """Return the stored facts of an engine; None where it is missing or incomplete."""
        facts = json_or_none(read_text(plan.with_suffix(".json")))
        try:
            whole = isinstance(facts, dict) and facts.get("sha256") == file_sha256(plan)
        except OSError:
            return None
        if not whole or not isinstance(facts, dict) or facts.get("board", self.board) != self.board:
            return None
        return facts

    def keep(self, plan: Path, build_s: Optional[float]) -> Json:
        """Store the facts of a new engine: its checksum and build time in seconds."""
        facts = {"sha256": file_sha256(plan), "build_s": build_s, "board": self.board}
        write_durably(plan.with_suffix(".json"), json.dumps(facts).encode())
        return facts

    def forget(self, plan: Path) -> None:
        """Delete an engine."""
        for path in (plan, plan.with_suffix(".json")):
            if path.exists():
                path.unlink()

    def make_room(self, unneeded: Iterable[Path]) -> bool:
        """Delete engines that are no longer needed; return True if there was one."""
        found = [plan for plan in unneeded if plan.exists()]
        for plan in found:
            self.forget(plan)
        return bool(found)
