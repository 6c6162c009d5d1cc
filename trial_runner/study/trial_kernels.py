"""Kernels of a trial's network in the trial's folder, so that its latency by kernel is known again without building the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_latency_model.types import KernelSpec
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path
from search_spaces.candidate import Candidate

KERNELS_FILE = "kernels.json"


def store_kernels(
    folder: Path,
    candidate: Candidate,
    channels: Mapping[str, int] | None,
    num_classes: int,
    runtime: str,
    kernels: Sequence[KernelSpec],
) -> None:
    """Write the kernels of a candidate's pruned shape to the trial's folder.

    The file is a copy of what the candidate decides: where it cannot be written, readers build the network instead.

    Args:
        channels: channels that pruning keeps in each group; None for a uniform prune ratio.
        num_classes: channels of the logits.
        runtime: runtime whose fusion rules were applied.
    """
    rows = [{**kernel.to_dict(), **({"layer": kernel.layer} if kernel.layer else {})} for kernel in kernels]
    content = {**_facts(candidate, channels, num_classes, runtime), "kernels": rows}
    try:
        with atomic_path(folder / KERNELS_FILE) as temporary:
            temporary.write_text(json.dumps(content) + "\n")
    except UserError:
        return


def stored_kernels(
    folder: Path, candidate: Candidate, channels: Mapping[str, int] | None, num_classes: int, runtime: str
) -> tuple[KernelSpec, ...] | None:
    """Return the kernels that `store_kernels` wrote for the same arguments; None without such a file, or with a damaged one."""
    try:
        stored = json.loads((folder / KERNELS_FILE).read_text())
        if not _facts(candidate, channels, num_classes, runtime).items() <= stored.items():
            return None
        return tuple(KernelSpec.from_dict(row) for row in stored["kernels"]) or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _facts(candidate: Candidate, channels: Mapping[str, int] | None, num_classes: int, runtime: str) -> dict[str, Any]:
    """Everything that decides a network's kernels, as JSON values."""
    return {
        "candidate": candidate.id,
        "channels": dict(channels) if channels else None,
        "classes": num_classes,
        "runtime": runtime,
    }
