"""Schema of the YAML section ``cluster``: the job of a batch system that a launch runs in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from search_spaces.spaces.config import Positive, Section, renamed

Word = Annotated[str, Field(pattern=r"^[\w.:@+-]+$")]
Line = Annotated[str, Field(pattern=r"^[^\r\n\x00]*$")]
_WALLTIME = re.compile(r"^(?:(\d{1,3})-)?(\d{1,4}):([0-5]\d):([0-5]\d)$")


class ClusterSection(Section):
    """Job of a launch in a batch system; ``local``: no job, the launch runs where it is started. Sizes are those of one node."""

    kind: Literal["local", "slurm", "pbs"] = "local"
    nodes: Positive = 1
    cpus_per_node: Positive | None = None
    gpus_per_node: int = Field(default=0, ge=0)
    gpu_model: Word | None = None
    memory_per_node_gb: Positive | None = None
    walltime: str = "24:00:00"
    queue: Word | None = renamed("queue", "partition", None)
    account: Word | None = None
    directives: list[Line] = Field(default_factory=list)
    setup: list[Line] = Field(default_factory=list)
    template: Path | None = None
    stop_before_end_s: int = Field(default=120, ge=30)
    restarts: int = Field(default=20, ge=0)

    @field_validator("walltime")
    @classmethod
    def _a_time(cls, text: str) -> str:
        if not _WALLTIME.match(text) or _seconds(text) < 60:
            raise ValueError(
                "cluster.walltime must be hours:minutes:seconds or days-hours:minutes:seconds, one minute at least"
            )
        return text

    @property
    def walltime_s(self) -> int:
        """Seconds until the batch system ends the job."""
        return _seconds(self.walltime)


def _seconds(text: str) -> int:
    found = _WALLTIME.match(text)
    if found is None:
        raise ValueError(text)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((24 * days + hours) * 60 + minutes) * 60 + seconds
