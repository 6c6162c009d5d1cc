"""Messages between driver and worker: the trial's specification and its progress, as plain JSON values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from objectives.trial_score import TrialScore
from search_spaces._common.references import add_import_folder
from search_spaces.candidate import Candidate, Precision
from trial_runner.config.study import StudyConfig, TrainingSection
from trial_runner.config.training_hash import training_identity
from trial_runner.config.training_search_space import training_of
from trial_runner.training.write_fence import WriteFence

CHECKPOINT = "last.pt"


class TrialFailed(Exception):
    """A trial failed for a reason of its own (loss not finite, out of memory); a retry would fail as well.

    Attributes:
        out_of_memory: the memory did not suffice; on a larger share of the device a retry may succeed.
    """

    def __init__(self, reason: str, *, out_of_memory: bool = False) -> None:
        super().__init__(reason)
        self.out_of_memory = out_of_memory


@dataclass(frozen=True)
class RecordedCheckpoint:
    """Facts of a finished trial's record that its checkpoint must agree with.

    Attributes:
        curve: (epoch, val_miou) of every evaluation.
        sha256: of the file; None for a trial of an earlier release.
    """

    curve: tuple[tuple[int, float], ...]
    sha256: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"curve": [list(point) for point in self.curve], "sha256": self.sha256}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RecordedCheckpoint:
        """Inverse of ``to_dict``."""
        return cls(tuple((int(epoch), float(miou)) for epoch, miou in value["curve"]), value["sha256"])


@dataclass(frozen=True)
class Continuation:
    """A final training: further training of a finished trial's network with a restarted learning rate.

    Attributes:
        number: of the finished trial.
        folder: the finished trial's, with its checkpoint.
        epochs: further epochs.
        recorded: facts of its record that the checkpoint must agree with; None where they are not known.
    """

    number: int
    folder: Path
    epochs: int
    recorded: RecordedCheckpoint | None = None

    def to_dict(self) -> dict[str, Any]:
        recorded = self.recorded.to_dict() if self.recorded else None
        return {"number": self.number, "folder": str(self.folder), "epochs": self.epochs, "recorded": recorded}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Continuation:
        """Inverse of ``to_dict``."""
        recorded = RecordedCheckpoint.from_dict(value["recorded"]) if value.get("recorded") else None
        return cls(int(value["number"]), Path(value["folder"]), int(value["epochs"]), recorded)


@dataclass(frozen=True)
class TrainedTrial:
    """A finished trial of the study, as distillation teacher or as origin of initial weights.

    Attributes:
        number: of the finished trial.
        folder: its own, with its checkpoint.
        candidate: its network.
        recorded: facts of its record that the checkpoint must agree with; None where they are not known.
    """

    number: int
    folder: Path
    candidate: Candidate
    recorded: RecordedCheckpoint | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        known = {"recorded": self.recorded.to_dict()} if self.recorded else {}
        return {"number": self.number, "folder": str(self.folder), "candidate": self.candidate.to_dict(), **known}


@dataclass(frozen=True)
class TrialSpec:
    """Specification of one trial.

    Attributes:
        number: Optuna's trial number.
        candidate: what to train.
        config: the study's configuration.
        folder: the trial's own folder, on a file system that every node sees; holds its checkpoint.
        cache_dir: decoded data, shared by all trials.
        continues: the trial that a final training continues; None for a training from scratch.
        seed: of initial weights, order and augmentation; None takes the study's. The data are the study's in any case.
        teacher: distillation teacher, with ``training.distillation.study_best``.
        relative: origin of the initial weights, with ``training.inherit``.
        channels: channels of each group (by its root) that pruning keeps; None for the same ratio in each.
        fence: right of the ordering driver to write checkpoints; None outside a launch.
        recorded: of a finished trial that is to be exported: facts of its record that the checkpoint must agree with. No part of an
            order to a worker.
    """

    number: int
    candidate: Candidate
    config: StudyConfig
    folder: Path
    cache_dir: Path
    continues: Continuation | None = None
    seed: int | None = None
    teacher: TrainedTrial | None = None
    relative: TrainedTrial | None = None
    channels: Mapping[str, int] | None = None
    fence: WriteFence | None = None
    recorded: RecordedCheckpoint | None = None

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def precision(self) -> Precision:
        """Precision that the network is scored and exported in."""
        return self.config.precision_of(self.candidate)

    @property
    def training(self) -> TrainingSection:
        """The study's training settings, overridden by the candidate's own dimensions."""
        try:
            return training_of(self.config.training, self.candidate)
        except ValidationError as error:
            raise TrialFailed(f"its training settings do not fit together: {error.errors()[0]['msg']}") from error

    @property
    def epochs(self) -> int:
        """Epochs of this training."""
        return self.continues.epochs if self.continues else self.config.training.epochs

    @property
    def prune_epoch(self) -> int:
        """Epochs after which a network with a prune ratio above 0 is pruned."""
        return min(round(self.epochs * self.training.prune_after), self.epochs - 1)

    @property
    def fingerprint(self) -> str:
        """Hash of all that determines the training: a checkpoint with another one is not resumed."""
        parts = [
            self.candidate.id,
            self.config.data.model_dump(mode="json", exclude={"root", "missing_classes"}),
            training_identity(self.config.training),
            self.config.study.seed,
            *([self.continues.number, self.continues.epochs] if self.continues else []),
            *([] if self.seed is None else [f"seed {self.seed}"]),
            *([f"teacher {self.teacher.number}"] if self.teacher else []),
            *([f"relative {self.relative.number}"] if self.relative else []),
            *(["int8"] if self.precision == "int8" else []),
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
            "continues": self.continues.to_dict() if self.continues else None,
            "seed": self.seed,
            "channels": dict(self.channels) if self.channels else None,
            "fence": {"folder": str(self.fence.folder), "driver": self.fence.driver} if self.fence else None,
            "teacher": self.teacher.to_dict() if self.teacher else None,
            **({"relative": self.relative.to_dict()} if self.relative else {}),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TrialSpec:
        """Read what `to_dict` wrote; modules that the configuration refers to become importable in this process."""
        config = StudyConfig.model_validate(value["config"])
        add_import_folder(config.study.python_path)
        return cls(
            number=value["number"],
            candidate=Candidate.from_dict(value["candidate"]),
            config=config,
            folder=Path(value["folder"]),
            cache_dir=Path(value["cache_dir"]),
            continues=Continuation.from_dict(value["continues"]) if value.get("continues") else None,
            seed=value.get("seed"),
            teacher=_trained_trial(value.get("teacher")),
            relative=_trained_trial(value.get("relative")),
            channels=value.get("channels"),
            fence=_fence(value.get("fence")),
        )


def _fence(value: Mapping[str, Any] | None) -> WriteFence | None:
    return WriteFence(Path(value["folder"]), value["driver"]) if value else None


def _trained_trial(value: Mapping[str, Any] | None) -> TrainedTrial | None:
    if not value:
        return None
    recorded = RecordedCheckpoint.from_dict(value["recorded"]) if value.get("recorded") else None
    return TrainedTrial(value["number"], Path(value["folder"]), Candidate.from_dict(value["candidate"]), recorded)


@dataclass(frozen=True)
class Progress:
    """A worker's report after an epoch, with the whole curve, so that a lost report leaves no gap.

    Attributes:
        node: the worker's machine.
        checkpoint_sha256: of the checkpoint that was written before it; None from a process that wrote none.
        gpu_peak: largest share of its GPU's memory so far; 0 without a GPU.
    """

    epoch: int
    val_miou: float
    curve: tuple[tuple[int, float], ...]
    score: TrialScore
    node: str = ""
    checkpoint_sha256: str | None = None
    gpu_peak: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "curve": [list(point) for point in self.curve], "score": self.score.to_dict()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Progress:
        curve = tuple((int(epoch), float(miou)) for epoch, miou in value["curve"])
        score = TrialScore.from_dict(value["score"])
        node, digest = value.get("node", ""), value.get("checkpoint_sha256")
        return cls(
            int(value["epoch"]), float(value["val_miou"]), curve, score, node, digest, value.get("gpu_peak", 0.0)
        )
