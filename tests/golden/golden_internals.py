"""The only golden module that imports from inside the packages: when one of these moves, a line changes here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from objectives import TrialRecord, read_study
from objectives.trial_record import estimate_facts
from search_spaces import open_space
from trial_runner.config.load import dump_config, load_config
from trial_runner.search.final_training import spec_of
from trial_runner.study.objectives import open_configured
from trial_runner.study.paths import StudyPaths
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.trial_spec import CHECKPOINT, Continuation, TrainedTrial, TrialSpec

__all__ = [
    "dump_config",
    "load_config",
    "open_configured",
    "record_facts",
    "resumed_epoch",
    "study_records",
    "training_fingerprints",
    "trial_checkpoint",
]


def record_facts(record: TrialRecord) -> dict[str, Any]:
    """Facts of a trial record as JSON values, under names that do not follow the record's fields."""
    return {
        "number": record.number,
        "state": str(record.state),
        "outcome": str(record.outcome) if record.outcome else None,
        "reason": record.reason,
        "candidate": record.candidate.to_dict() if record.candidate else None,
        **estimate_facts(record),
        "unknown_kinds": list(record.estimate.unknown_kinds) if record.estimate else [],
        "score": record.score.to_dict() if record.score else None,
        "curve": [list(point) for point in record.curve],
        "readings": [[epoch, score.to_dict()] for epoch, score in record.rung_scores],
        "measured_ms": record.measured_ms,
        "measurement": record.measurement.to_dict(kernel_shares=True) if record.measurement else None,
        "bundle": record.bundle,
        "export_error": record.export_error,
        "reused_from": record.duplicate_of,
        "continues": record.parent_trial,
        "continues_epochs": record.parent_epochs,
        "teacher": record.teacher.to_dict() if record.teacher else None,
        "channels": _plain(record.channels),
        "costs": {name: cost.to_dict() for name, cost in record.costs.items()},
        "precision": record.precision,
        "complete": record.complete,
    }


def study_records(yaml: Path) -> list[dict[str, Any]]:
    """All trials of a study's YAML, as `record_facts`."""
    return [record_facts(record) for record in read_study(open_configured(load_config(yaml)))]


def _plain(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else dict(value)


def training_fingerprints(yaml: Path) -> dict[str, str]:
    """Fingerprints of trainings of one study: plain, and with each thing that a fingerprint tells apart."""

    def of(*overrides: str, **parts: Any) -> str:
        config = load_config(yaml, overrides)
        space = open_space(config.space)
        folder = Path("/golden/trials/00007")
        return TrialSpec(7, space.default(), config, folder, Path("/golden/cache"), **parts).fingerprint

    config = load_config(yaml)
    space = open_space(config.space)
    return {
        "plain": of(),
        "another folder": of("data.root=/elsewhere", "study.output_dir=/elsewhere", "training.device=cpu"),
        "another study seed": of("study.seed=9"),
        "another seed": of(seed=5),
        "continues": of(continues=Continuation(3, Path("/golden/trials/00003"), 8)),
        "teacher": of(teacher=TrainedTrial(3, Path("/golden/trials/00003"), space.default())),
        "more images": of("data.train_images=13"),
        "more epochs": of("training.epochs=5"),
        "sgd": of("training.optimizer=sgd"),
        "dice": of("training.loss.dice=0.5"),
        "crop": of("training.crop_share=0.5"),
        "admm": of("training.pruning.method=admm", "training.pruning.admm.rho=2.0"),
        "int8": of("device.precision=int8"),
        "int8, simulated": of("device.precision=int8", "training.quantization.method=qat"),
        "searched": of("space.training={batch_size: [2, 4]}", "space.precisions=[fp32, int8]"),
    }


def resumed_epoch(yaml: Path, number: int) -> int | None:
    """Epochs done by a trial's checkpoint, as its training would resume it; None where it would start anew."""
    config = load_config(yaml)
    record = read_study(open_configured(config))[number]
    spec = spec_of(config, StudyPaths(config.study.output_dir), record)
    checkpoint = load_checkpoint(spec.checkpoint_path, spec.fingerprint)
    return checkpoint.epoch if checkpoint else None


def trial_checkpoint(yaml: Path, number: int) -> Path:
    """Path of a trial's checkpoint."""
    return StudyPaths(load_config(yaml).study.output_dir).trial(number) / CHECKPOINT
