"""Execution of one trial, the same under Ray and in process."""

from __future__ import annotations

from collections.abc import Callable

import torch

from objectives.data import ArraySplit, DatasetInfo, SegmentationData, load_arrays, open_dataset
from search_spaces import open_space
from search_spaces._common.errors import UserError
from search_spaces._common.machine import node_name
from trial_runner.config.study import DataSection
from trial_runner.training.checkpoint import Checkpoint, checkpoint_sha256, load_checkpoint, save_checkpoint
from trial_runner.training.distributed import DistributedContext
from trial_runner.training.runtime import begin_gpu_accounting, configure_torch, gpu_peak
from trial_runner.training.stage_cache import StageCache
from trial_runner.training.trainer import Trainer
from trial_runner.training.trial_spec import Progress, TrialSpec


def open_split(data: DataSection, split: str, seed: int) -> SegmentationData:
    """Open a split of the study's data set; ``seed`` selects the synthetic scenes."""
    if data.kind == "synthetic":
        count = data.train_images if split == "train" else data.val_images
        size = {"height_px": data.image_height_px, "width_px": data.image_width_px}
        return open_dataset("synthetic", root=None, split=split, images=count, seed=seed, **size)
    if data.custom:
        return open_dataset(data.kind, root=data.root, split=split, **data.options)
    return open_dataset(data.kind, root=data.root, split=split, **data.file_options)


def torch_device(name: str) -> torch.device:
    """Return the torch device; ``auto`` is CUDA where there is a device, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def load_splits(spec: TrialSpec, hw: tuple[int, int]) -> tuple[DatasetInfo, ArraySplit, ArraySplit]:
    seed = spec.config.study.seed
    train, val = (open_split(spec.config.data, split, seed) for split in ("train", "val"))
    train_arrays = load_arrays(train, hw, cache_dir=spec.cache_dir, with_labels=False)
    return train.info, train_arrays, load_arrays(val, hw, cache_dir=spec.cache_dir)


def make_trainer(spec: TrialSpec, context: DistributedContext) -> Trainer:
    """Make the candidate's trainer, resumed from its checkpoint or a shared stage if there is one, and configure torch.

    Raises as `run_trial`.
    """
    configure_torch(spec.training, spec.config.compute.threads_per_trial)
    space = open_space(spec.config.space)
    device = torch_device(spec.config.training.device)
    info, train, val = load_splits(spec, space.input_hw(spec.candidate))
    if len(train.images) < context.size:
        raise UserError(
            f"compute.workers_per_trial is {context.size}, but the training split has {len(train.images)} images, and each process needs "
            "one at least. Set it to a smaller number."
        )
    return Trainer(
        spec,
        space,
        train,
        val,
        num_classes=info.num_classes,
        ignore_index=info.ignore_index,
        normalisation=info.normalisation,
        device=device,
        resume=_checkpoint(spec, context, device),
        context=context,
    )


def _checkpoint(spec: TrialSpec, context: DistributedContext, device: torch.device) -> Checkpoint | None:
    """Return the trial's checkpoint; for a new trial the first process makes one of a shared stage, where there is one."""
    own = load_checkpoint(spec.checkpoint_path, spec.fingerprint)
    if context.first and own is None:
        stage = StageCache.of(spec).restore(spec)
        if stage is not None:
            save_checkpoint(spec.checkpoint_path, stage, spec.fence)
            own = stage
    if context.size > 1:
        context.mean(torch.zeros((), device=device))  # the others wait for the first
        own = own or load_checkpoint(spec.checkpoint_path, spec.fingerprint)
    return own


def run_trial(spec: TrialSpec, report: Callable[[Progress], bool]) -> bool:
    """Train the candidate, continuing from its checkpoint where there is one.

    Args:
        spec: the order.
        report: called after every evaluation, once the checkpoint is on disk; True stops the trial. Where several processes train
            together, each of them calls it.

    Returns:
        True if it was trained to the end.

    Raises:
        TrialFailed: for a reason of the trial's own.
        UserError: the data cannot be read, nothing can be written, or another driver has taken the study over.
    """
    context = DistributedContext.current()
    begin_gpu_accounting()
    trainer = make_trainer(spec, context)
    cache = StageCache.of(spec)
    if trainer.done and not trainer.evaluated:
        trainer.evaluate()  # trained by a trial of another precision
        if context.first:
            save_checkpoint(spec.checkpoint_path, trainer.state(), spec.fence)
    if trainer.evaluated and report(_progress(trainer, checkpoint_sha256(spec.checkpoint_path))):
        return trainer.done
    while not trainer.done:
        evaluated = trainer.run_epoch() is not None
        if context.first:
            cache.keep(spec, trainer.epoch, trainer.state)
        if not evaluated:
            continue
        digest = save_checkpoint(spec.checkpoint_path, trainer.state(), spec.fence) if context.first else None
        if report(_progress(trainer, digest)):
            return trainer.done
    return True


def _progress(trainer: Trainer, digest: str | None) -> Progress:
    if trainer.score is None:
        raise AssertionError("reported before the first evaluation")
    score, node = trainer.score, node_name()
    return Progress(trainer.epoch, score.val_miou, tuple(trainer.curve), score, node, digest, gpu_peak())
