"""Weights & Biases runs: a project for the study, a run for each trial; offline unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import wandb

from trial_runner.tracking.base import TrackedTrial


class WandbSink:
    """Writes to ``wandb`` in the study's folder; ``wandb sync`` uploads it.

    Attributes:
        errors: of wandb and of the file system.
    """

    errors: tuple[type[Exception], ...] = (wandb.Error, OSError)

    def __init__(self, study: str, folder: Path) -> None:
        self._study, self._folder = study, folder

    def write(self, trial: TrackedTrial) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self._study,
            name=trial.name,
            dir=str(self._folder),
            config=dict(trial.params),
            tags=[trial.outcome],
            notes=trial.reason or None,
            mode=None if "WANDB_MODE" in os.environ else "offline",  # W&B reads the variable itself
            settings=wandb.Settings(silent=True),
        )
        for epoch, miou in trial.curve:
            run.log({"curve/val_miou": miou}, step=epoch)
        run.summary.update(dict(trial.metrics))
        run.finish()

    def close(self) -> None:
        """Do nothing: each trial's run is finished when it was written."""
