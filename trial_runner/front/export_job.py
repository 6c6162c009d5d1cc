"""Export of a finished trial as a bundle: rebuilt from its checkpoint and checked on validation images."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exports import BundleInputs, TrainedNetwork, get_profile, write_bundle, write_network
from exports.bundle.inputs import CheckImages, ImagePart
from exports.quantization.quantize import QuantizedNet, unpack_quantized
from hw_latency_model.board.runner_archive import runner_archive
from objectives.data import ArraySplit, DatasetInfo
from search_spaces import SegmentationNet, open_space
from search_spaces._common.errors import UserError
from search_spaces._common.references import add_import_folder
from search_spaces.pruning.prune import fit_shape
from trial_runner.config.study import DataSection
from trial_runner.training.batches import normalise
from trial_runner.training.checkpoint import Checkpoint, load_checkpoint, recorded_mismatch
from trial_runner.training.trial import load_splits, open_split
from trial_runner.training.trial_spec import TrialSpec

FURTHER_IMAGES = 48
"""Validation images beside those of the parity check, evenly over the split, that the preview's worst ones are chosen among."""
_CALIBRATION_IMAGES = 32
"""Training images that the ranges of an INT8 variant are of."""
_PART_IMAGES = 8


@dataclass(frozen=True)
class ExportOrder:
    """A bundle to export, with the facts for its manifest.

    Attributes:
        spec: the finished trial.
        folder: the bundle's folder; an older one is replaced.
        facts: plain JSON values for the manifest.
        config_yaml: the study's resolved configuration.
        measurements: of the trial on the device, as plain JSON.
    """

    spec: TrialSpec
    folder: Path
    facts: dict[str, Any]
    config_yaml: str
    measurements: tuple[dict[str, Any], ...] = ()


def trained_net(spec: TrialSpec, num_classes: int) -> SegmentationNet:
    """Return the trial's network with its trained weights, in evaluation mode on the CPU.

    Raises:
        UserError: the trial's checkpoint is gone, or belongs to other settings or classes.
    """
    checkpoint = _checkpoint(spec)
    space = open_space(spec.config.space)
    try:
        net = fit_shape(space.build(spec.candidate, num_classes), checkpoint.weights)
        net.load_state_dict(checkpoint.weights)
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"the weights of trial {spec.number} do not fit a network for the data's {num_classes} classes: the classes or the search "
            "space changed since it was trained. Put them back, or launch a new study."
        ) from error
    return net.eval()


def quantized_net(spec: TrialSpec) -> QuantizedNet | None:
    """Return the trial's INT8 network, as it was scored; None for another precision.

    Raises:
        UserError: as `trained_net`.
    """
    packed = _checkpoint(spec).quantization
    return unpack_quantized(packed) if packed else None


def _checkpoint(spec: TrialSpec) -> Checkpoint:
    checkpoint = load_checkpoint(spec.checkpoint_path, spec.fingerprint)
    if checkpoint is None:
        raise UserError(
            f"trial {spec.number} has no usable checkpoint at {spec.checkpoint_path}. It was removed, or the YAML's data, "
            "training or seed have changed since; restore it or launch a new study."
        )
    mismatch = recorded_mismatch(spec.checkpoint_path, checkpoint, spec.recorded) if spec.recorded else None
    if mismatch is not None:
        raise UserError(
            f"the checkpoint of trial {spec.number} is not the one that it was scored with: {mismatch}. Restore that file, or train the "
            "network again with `paretoseg refit`."
        )
    return checkpoint


def write_trained(spec: TrialSpec, path: Path) -> Path:
    """Write the finished trial as a network file, which `paretoseg evaluate` reads; return its path.

    Raises:
        UserError: no usable checkpoint, or the file cannot be written.
    """
    info = open_split(spec.config.data, "val", spec.config.study.seed).info
    space = open_space(spec.config.space)
    write_network(path, trained_network(spec, info, space.input_hw(spec.candidate), data_kind=info.name))
    return path


def export_trial(order: ExportOrder) -> Path:
    """Write the bundle; return its folder.

    Raises:
        UserError: no checkpoint, no parity, or the folder cannot be written.
    """
    spec = order.spec
    add_import_folder(spec.config.study.python_path)  # a helper process starts without it
    torch.set_num_threads(spec.config.compute.threads_per_trial)
    space = open_space(spec.config.space)
    hw = space.input_hw(spec.candidate)
    info, train, val = load_splits(spec, hw)
    checked_on = check_images(spec, info, val, hw)
    count = len(checked_on.images)
    others = range(count, len(val.images))
    further = list(others[:: max(1, len(others) // FURTHER_IMAGES)])[:FURTHER_IMAGES]
    calibration = None
    if spec.config.quantized_variant:
        spread = np.linspace(0, len(train.images) - 1, min(_CALIBRATION_IMAGES, len(train.images))).astype(int)
        calibration = normalise(train.images[spread], torch.device("cpu"), info.normalisation).numpy()
    inputs = BundleInputs(
        network=checked_on.network,
        palette=info.palette,
        images=checked_on.images,
        calibration=calibration,
        labels=checked_on.labels,
        profile=get_profile(spec.config.device.name),
        facts=order.facts,
        config_yaml=order.config_yaml,
        measurements=order.measurements,
        more_images=checked_on.more_images,
        runner=runner_archive(),
        further_images=normalise(val.images[further], torch.device("cpu"), info.normalisation).numpy()
        if further
        else None,
        further_labels=[val.labels[index] for index in further],
    )
    return write_bundle(order.folder, inputs).dir


def check_images(spec: TrialSpec, info: DatasetInfo, val: ArraySplit, input_hw: tuple[int, int]) -> CheckImages:
    """Return a finished trial's network with the validation images that its forms are compared on.

    Raises:
        UserError: as `trained_net`.
    """
    count = min(spec.config.export.parity_images, len(val.images))
    return CheckImages(
        trained_network(spec, info, input_hw),
        normalise(val.images[:count], torch.device("cpu"), info.normalisation).numpy(),
        [val.labels[index] for index in range(count)],
        lambda most: _parts(val, info, most),
    )


def _parts(split: ArraySplit, info: DatasetInfo, most: int) -> Iterator[ImagePart]:
    """Up to ``most`` images, spread evenly over a split, in parts of a few."""
    chosen = np.unique(np.linspace(0, len(split.images) - 1, min(most, len(split.images))).round().astype(np.int64))
    for start in range(0, len(chosen), _PART_IMAGES):
        part = chosen[start : start + _PART_IMAGES]
        images = normalise(np.take(split.images, part, axis=0), torch.device("cpu"), info.normalisation).numpy()
        yield ImagePart(images, [split.labels[index] for index in part])


def _plain_options(data: DataSection) -> dict[str, Any]:
    values = data.model_dump(mode="json")
    return {key: values[key] for key in data.file_options}


def trained_network(
    spec: TrialSpec, info: DatasetInfo, input_hw: tuple[int, int], data_kind: str | None = None
) -> TrainedNetwork:
    """Return a finished trial's network with all that is needed to run it.

    Raises:
        UserError: as `trained_net`.
    """
    return TrainedNetwork(
        net=trained_net(spec, info.num_classes),
        candidate=spec.candidate,
        input_hw=input_hw,
        class_names=info.class_names,
        ignore_index=info.ignore_index,
        mean=info.mean,
        std=info.std,
        data_kind=data_kind,
        data_options=_plain_options(spec.config.data) if data_kind else {},
        precision=spec.precision,
        quantized=quantized_net(spec),
    )


def init_worker(parent: int) -> None:
    """Initialise the worker process: ignore stop signals, which the parent handles, and end with the parent.

    Args:
        parent: process id of the parent, which may have died while this process started.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
