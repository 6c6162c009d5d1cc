"""Stage cache: states of trainings that several candidates of a study have in common, by a hash of all that determines them.

Candidates that differ in their prune ratio share the dense training before pruning; those that differ in precision share the training
in float. The entries are checkpoints below the study's cache folder, which the workers of all nodes see.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search_spaces._common.errors import UserError
from search_spaces.candidate import PRECISION, TRAINING_PREFIX
from trial_runner.config.training_hash import training_identity
from trial_runner.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from trial_runner.training.quantization import qat_epoch
from trial_runner.training.trial_spec import TrialSpec

_VERSION = 1
_PRUNE_RATIO = "prune_ratio"
_GB = 1e9


@dataclass(frozen=True)
class Stage:
    """State of a training that other candidates reach as well.

    Attributes:
        key: hash of all that determines the state.
        epoch: epochs after which it is reached.
        whole: True where it is the end of the training, which each candidate evaluates in its own precision.
    """

    key: str
    epoch: int
    whole: bool = False


def shared_stages(spec: TrialSpec) -> tuple[Stage, ...]:
    """Return the stages that a trial may share with others of its study, the latest first.

    None for final trainings and repeated trainings, nor before pruning by ADMM, which depends on the ratio from early on; in a custom
    space only candidates of several precisions share one, since its networks may depend on the prune ratio in other ways.
    """
    if spec.continues is not None or spec.seed is not None:
        return ()
    config, training = spec.config, spec.training
    ratios, prunes = config.space.prune_ratios, bool(spec.candidate.params.get(_PRUNE_RATIO))
    qat = training.quantization.method == "qat"
    rounded_from = qat_epoch(training.quantization, spec.epochs, spec.prune_epoch if prunes else 0)
    stages = []
    if len(config.precisions) > 1 and not (qat and config.space.custom):
        epoch = rounded_from if qat else spec.epochs
        channels = sorted(spec.channels.items()) if spec.channels else None
        identity = _identity(spec, without={PRECISION}, training_without={"quantization"})
        stages.append(Stage(_hash(["float", epoch, identity, channels]), epoch, whole=epoch == spec.epochs))
    admm = prunes and training.pruning.method == "admm"
    rounded_before = qat and spec.precision == "int8" and rounded_from < spec.prune_epoch
    alone = config.space.custom or (ratios and len(ratios) < 2)
    if not (alone or admm or rounded_before or spec.prune_epoch < 1):
        without = {"quantization", "pruning", "prune_after"}
        identity = _identity(spec, without={PRECISION, _PRUNE_RATIO}, training_without=without)
        stages.append(Stage(_hash(["dense", spec.prune_epoch, identity]), spec.prune_epoch))
    return tuple(stages)


def _identity(spec: TrialSpec, *, without: set[str], training_without: set[str]) -> list[Any]:
    """Return the parts of `TrialSpec.fingerprint`, without some dimensions of the candidate and some keys of its training."""
    params = spec.candidate.params.items()
    training = training_identity(spec.training)
    return [
        _VERSION,
        spec.candidate.space,
        spec.candidate.space_version,
        {name: value for name, value in params if name not in without and not name.startswith(TRAINING_PREFIX)},
        spec.config.data.model_dump(mode="json", exclude={"root", "missing_classes"}),
        {key: value for key, value in training.items() if key not in training_without},
        spec.config.study.name,
        spec.config.study.seed,
        spec.teacher.number if spec.teacher else None,
        spec.relative.number if spec.relative else None,
    ]


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class StageCache:
    """Folder of stages, at most ``limit_gb`` large: the entries used longest ago are removed. A limit of 0 switches it off."""

    def __init__(self, folder: Path, limit_gb: float) -> None:
        self._folder, self._limit = folder, int(limit_gb * _GB)

    @classmethod
    def of(cls, spec: TrialSpec) -> StageCache:
        """Return the cache of a trial's study."""
        return cls(spec.cache_dir / "stages", spec.config.compute.stage_cache_gb)

    def restore(self, spec: TrialSpec) -> Checkpoint | None:
        """Return the latest stage in the cache that the trial shares, as its own checkpoint; None without one.

        An entry that cannot be read, or is of another training, counts as none.
        """
        for stage in shared_stages(spec) if self._limit else ():
            path = self._path(stage.key)
            found = load_checkpoint(path, stage.key)
            if found is None or found.score is None or found.epoch != stage.epoch:
                continue
            with suppress(OSError):  # another process has removed it meanwhile; the content has been read
                os.utime(path)
            score = {**found.score, "cached_epochs": found.epoch}
            return replace(found, fingerprint=spec.fingerprint, score=score)
        return None

    def keep(self, spec: TrialSpec, epoch: int, state: Callable[[], Checkpoint]) -> None:
        """Store the state after ``epoch`` epochs if other trials share it. A cache that cannot be written stays as it is."""
        for stage in shared_stages(spec) if self._limit else ():
            path = self._path(stage.key)
            if stage.epoch != epoch or path.is_file():
                continue
            found = state()
            if found.score is None:  # nothing evaluated yet: the origin of the weights would be lost
                continue
            score = {name: value for name, value in found.score.items() if name != "cached_epochs"}
            entry = replace(found, fingerprint=stage.key, score=score)
            if stage.whole:
                curve = tuple(point for point in found.curve if point[0] < epoch)
                entry = replace(entry, curve=curve, quantization=None)
            try:
                save_checkpoint(path, entry)
            except UserError:
                continue
            self._trim(path)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.pt"

    def _trim(self, newest: Path) -> None:
        """Remove the entries used longest ago until the rest fits; other processes may do the same at the same time."""
        entries = []
        for path in self._folder.glob("*.pt"):
            try:
                entries.append((path.stat().st_mtime_ns, path.stat().st_size, path))
            except OSError:
                continue
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries, key=lambda entry: (entry[2] == newest, entry[0])):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= size
