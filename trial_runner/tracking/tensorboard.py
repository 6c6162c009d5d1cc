"""TensorBoard event files: a folder for each trial, with its curve and its parameters."""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter

from trial_runner.tracking.base import TrackedTrial


class TensorBoardSink:
    """Writes below ``folder``; ``tensorboard --logdir`` of it shows all trials.

    Attributes:
        errors: of the file system.
    """

    errors: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, trial: TrackedTrial) -> None:
        with SummaryWriter(str(self._folder / trial.name)) as writer:
            for epoch, miou in trial.curve:
                writer.add_scalar("curve/val_miou", miou, epoch)
            writer.add_text("outcome", f"{trial.outcome} {trial.reason}".strip())
            final = {f"final/{name}": value for name, value in trial.metrics.items()}
            writer.add_hparams(dict(trial.params), final, name="params")

    def close(self) -> None:
        """Do nothing: each trial's files are closed when it was written."""
