"""Checkpoint of a trial: one file, replaced atomically after every epoch, loaded with ``weights_only``."""

from __future__ import annotations

import hashlib
import io
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exports.network_file import UNREADABLE
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path
from search_spaces._common.untrusted import load_torch
from trial_runner.training.trial_spec import CHECKPOINT, Continuation, RecordedCheckpoint, TrainedTrial, TrialFailed
from trial_runner.training.write_fence import WriteFence


@dataclass(frozen=True)
class Checkpoint:
    """State of a training.

    Attributes:
        fingerprint: hash of everything that determines the training; a checkpoint with another one is not resumed.
        epoch: epochs done.
        pruned: True once the network has been pruned to its final shape.
        model, optimizer: state dicts.
        average: state of the weights' moving average; None where there is none.
        curve: (epoch, val_miou) so far.
        train_s: seconds of training so far, over all restarts.
        score: the last `TrialScore` as a dict; None before the first evaluation.
        pruning: ADMM state before pruning; None without ADMM.
        quantization: the INT8 network that was scored (``pack_quantized``), with the float network that it was trained from
            where training went on in it; None where nothing is quantized, or not yet.
    """

    fingerprint: str
    epoch: int
    pruned: bool
    model: dict[str, Any]
    optimizer: dict[str, Any]
    curve: tuple[tuple[int, float], ...]
    train_s: float
    score: dict[str, Any] | None
    average: dict[str, Any] | None = None
    pruning: dict[str, Any] | None = None
    quantization: dict[str, Any] | None = None

    @property
    def weights(self) -> dict[str, Any]:
        """State dict of the float network that is evaluated, exported and resumed: the EMA where there is one."""
        if self.quantization and "float" in self.quantization:
            return dict(self.quantization["float"])
        return dict(self.average["model"]) if self.average else self.model


def save_checkpoint(path: Path, checkpoint: Checkpoint, fence: WriteFence | None = None) -> str:
    """Write the file atomically; return its SHA-256.

    Args:
        fence: right of the driver that ordered the training; None where there is no driver.

    Raises:
        UserError: it cannot be written, or another driver has taken the study over; the old file is kept.
    """
    buffer = io.BytesIO()  # torch's own file writer hides a full disk behind a RuntimeError
    torch.save({**vars(checkpoint), "curve": [list(point) for point in checkpoint.curve]}, buffer)
    with ExitStack() as until_renamed, atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
        if fence is not None:
            until_renamed.enter_context(fence.held())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def checkpoint_sha256(path: Path) -> str | None:
    """Return the SHA-256 of a file; None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def recorded_mismatch(path: Path, checkpoint: Checkpoint, recorded: RecordedCheckpoint) -> str | None:
    """Return a sentence on a checkpoint that is not the one the trial's record is of; None where it is."""
    if recorded.sha256 is not None:
        if checkpoint_sha256(path) == recorded.sha256:
            return None
    elif _points(checkpoint.curve) == _points(recorded.curve):
        return None
    return f"{path} holds {_end(checkpoint.curve)}, and the trial's record is of {_end(recorded.curve)}"


def _points(curve: tuple[tuple[int, float], ...]) -> list[tuple[int, float]]:
    return [(epoch, round(miou, 9)) for epoch, miou in curve]


def _end(curve: tuple[tuple[int, float], ...]) -> str:
    return (
        f"weights of epoch {curve[-1][0]} with mIoU {curve[-1][1]:.4f}" if curve else "weights before the first epoch"
    )


def load_checkpoint(path: Path, fingerprint: str | None = None) -> Checkpoint | None:
    """Load the checkpoint; None where there is none, it cannot be read, or its fingerprint differs from ``fingerprint``."""
    if not path.is_file():
        return None
    try:
        content = load_torch(path)
        if not isinstance(content, dict) or (fingerprint is not None and content.get("fingerprint") != fingerprint):
            return None
        content["curve"] = tuple((int(epoch), float(value)) for epoch, value in content["curve"])
        return Checkpoint(**content)
    except (UserError, *UNREADABLE):
        return None


def finished_checkpoint(trial: Continuation | TrainedTrial, purpose: str = "go on from") -> Checkpoint:
    """Load the checkpoint of a finished trial that another one starts from or learns from.

    Args:
        purpose: what the other one was to do with it, in errors.

    Raises:
        TrialFailed: it is missing, or not the one that was scored.
    """
    path = trial.folder / CHECKPOINT
    checkpoint = load_checkpoint(path)
    if checkpoint is None:
        raise TrialFailed(f"it was to {purpose} trial {trial.number}, which has no usable checkpoint at {path}")
    mismatch = recorded_mismatch(path, checkpoint, trial.recorded) if trial.recorded else None
    if mismatch is not None:
        raise TrialFailed(f"it was to {purpose} trial {trial.number}, but {mismatch}")
    return checkpoint
