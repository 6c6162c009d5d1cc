"""Retraining of one candidate with several seeds, to separate its accuracy from the luck of one short run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from objectives.trial_record import TrialRecord
from search_spaces._common.errors import UserError
from trial_runner.config.study import StudyConfig
from trial_runner.front.export_job import write_trained
from trial_runner.search.final_training import spec_of
from trial_runner.study.paths import StudyPaths
from trial_runner.study.refits import refit_folder, store_refit
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import Progress, TrialFailed, TrialSpec


@dataclass(frozen=True)
class Refit:
    """Accuracy of one candidate over several seeds.

    Attributes:
        trial: the study's trial.
        epochs: of each training.
        val_miou: by seed, in order.
        search_miou: mIoU of the trial in the search; None for one without a score.
        networks: network file of each seed, for `paretoseg evaluate`.
    """

    trial: int
    epochs: int
    val_miou: tuple[float, ...]
    search_miou: float | None
    networks: tuple[Path, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.val_miou)

    @property
    def sd(self) -> float:
        """Sample standard deviation (n - 1) of a single run; 0 with one seed."""
        return statistics.stdev(self.val_miou) if len(self.val_miou) > 1 else 0.0

    @property
    def summary(self) -> str:
        found = "" if self.search_miou is None else f"; in the search {self.search_miou:.3f}"
        seeds = len(self.val_miou)
        spread = "" if seeds == 1 else f" ± {self.sd:.3f}"
        of = "one seed" if seeds == 1 else f"{seeds} seeds"
        lines = [f"trial {self.trial}, {of} of {self.epochs} epochs: mIoU {self.mean:.3f}{spread}{found}"]
        return "\n".join([*lines, *(str(path) for path in self.networks)])

    def to_dict(self) -> dict[str, Any]:
        return {
            "trial": self.trial,
            "epochs": self.epochs,
            "val_miou": list(self.val_miou),
            "mean": self.mean,
            "sd": self.sd if len(self.val_miou) > 1 else None,
            "search_miou": self.search_miou,
            "networks": [str(path) for path in self.networks],
        }


def refit(
    config: StudyConfig,
    paths: StudyPaths,
    record: TrialRecord,
    *,
    seeds: int,
    epochs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Refit:
    """Train a trial's candidate from the start on ``seeds`` seeds, one after the other, and keep each network.

    The data and their split are the study's. Run again, it resumes from the checkpoints.

    Args:
        epochs: of each training; the study's by default.
        say: called with a line after each seed.

    Raises:
        UserError: no seed or epoch asked for, no candidate, or a training that fails.
    """
    if seeds < 1 or (epochs is not None and epochs < 1):
        raise UserError(f"a refit needs at least one seed and one epoch, not {seeds} and {epochs}.")
    if record.candidate is None:
        raise UserError(f"trial {record.number} has no candidate to train again. Choose one of `paretoseg front`.")
    epochs = epochs or (record.score.epochs_total if record.score else config.training.epochs)
    changed = config.model_copy(update={"training": config.training.model_copy(update={"epochs": epochs})})
    first = config.study.seed
    mious, networks = [], []
    for seed in range(first, first + seeds):
        folder = refit_folder(paths, record.number) / f"{epochs}-epochs-seed-{seed}"
        order = replace(spec_of(changed, paths, record), folder=folder, continues=None, seed=seed)
        mious.append(_train(order))
        networks.append(write_trained(order, order.folder / "network.pt"))
        store_refit(paths, record.number, epochs, {seed: mious[-1]})
        say(f"seed {seed}: mIoU {mious[-1]:.3f} after {epochs} epochs")
    return Refit(record.number, epochs, tuple(mious), record.val_miou, tuple(networks))


def _train(order: TrialSpec) -> float:
    last: list[Progress] = []

    def report(progress: Progress) -> bool:
        last[:] = [progress]
        return False

    try:
        run_trial(order, report)
    except TrialFailed as error:
        raise UserError(f"the training on seed {order.seed} failed: {error}.") from error
    return last[0].val_miou
