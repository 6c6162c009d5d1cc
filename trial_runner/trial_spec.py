"""What the driver sends to a worker, and what a worker reports back: plain JSON values, nothing that needs a study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from objectives.trial_score import TrialScore
from search_spaces.candidate import Candidate
from trial_runner.study_config import StudyConfig

CHECKPOINT = "last.pt"


class TrialFailed(Exception):
    """A trial that cannot go on for a reason of its own (loss not finite, out of memory): not worth a retry."""


@dataclass(frozen=True)
class Continuation:
    """A final training: the network of a finished trial, trained on with a learning rate that starts anew.

    Attributes:
        number: of the finished trial.
        folder: the finished trial's, with its checkpoint.
        epochs: to train on.
    """

    number: int
    folder: Path
    epochs: int


@dataclass(frozen=True)
class TrialSpec:
    """One trial's order.

    Attributes:
        number: Optuna's trial number.
        candidate: what to train.
        config: the study's configuration.
        folder: the trial's own folder, on a file system that every node sees; holds its checkpoint.
        cache_dir: decoded data, shared by all trials.
        continues: what it goes on from; None for a training from the start.
        seed: of initial weights, order and augmentation; None takes the study's. The data are the study's in any case.
    """

    number: int
    candidate: Candidate
    config: StudyConfig
    folder: Path
    cache_dir: Path
    continues: Continuation | None = None
    seed: int | None = None

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def epochs(self) -> int:
        """Of this training."""
        return self.continues.epochs if self.continues else self.config.training.epochs

    @property
    def fingerprint(self) -> str:
        """Hash of all that determines the training: a checkpoint with another one is not resumed."""
        parts = [
            self.candidate.id,
            self.config.data.model_dump(mode="json", exclude={"root"}),
            self.config.training.model_dump(mode="json", exclude={"device"}),
            self.config.study.seed,
            *([self.continues.number, self.continues.epochs] if self.continues else []),
            *([] if self.seed is None else [f"seed {self.seed}"]),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """JSON values. The storage URL, which may hold a password, stays with the driver."""
        config = self.config.model_dump(mode="json")
        config["study"]["storage"] = "sqlite://"
        return {
            "number": self.number,
            "candidate": self.candidate.to_dict(),
            "config": config,
            "folder": str(self.folder),
            "cache_dir": str(self.cache_dir),
            "continues": {**vars(self.continues), "folder": str(self.continues.folder)} if self.continues else None,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TrialSpec:
        return cls(
            number=value["number"],
            candidate=Candidate.from_dict(value["candidate"]),
            config=StudyConfig.model_validate(value["config"]),
            folder=Path(value["folder"]),
            cache_dir=Path(value["cache_dir"]),
            continues=_continuation(value.get("continues")),
            seed=value.get("seed"),
        )


def _continuation(value: Mapping[str, Any] | None) -> Continuation | None:
    return Continuation(**{**value, "folder": Path(value["folder"])}) if value else None


@dataclass(frozen=True)
class Progress:
    """A worker's report after an epoch. It carries the whole curve, so a lost report leaves no hole."""

    epoch: int
    val_miou: float
    curve: tuple[tuple[int, float], ...]
    score: TrialScore

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "curve": [list(point) for point in self.curve], "score": self.score.to_dict()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Progress:
        curve = tuple((int(epoch), float(miou)) for epoch, miou in value["curve"])
        return cls(int(value["epoch"]), float(value["val_miou"]), curve, TrialScore.from_dict(value["score"]))
