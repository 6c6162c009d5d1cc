"""Knowledge distillation from a trained network, in addition to the labels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from exports import TrainedNetwork, read_bundle, read_network
from objectives.data.base import IMAGENET, Normalisation
from search_spaces import SearchSpace
from search_spaces._common.errors import UserError
from search_spaces.networks.segmentation_net import upsample_logits
from search_spaces.pruning.prune import fit_shape
from trial_runner.config.study import DistillationSection
from trial_runner.training.checkpoint import finished_checkpoint
from trial_runner.training.trial_spec import TrialSpec

_MULTIPLE_PX = 32


class Teacher:
    """A frozen teacher network; pixel-wise distillation of its class probabilities (Hinton et al. 2015).

    Args:
        net, input_hw: the teacher and its input height and width in pixels.
        student_hw: input height and width of the student.
        normalisation: of the images that the teacher expects; student_normalisation: of the student's batches.
    """

    def __init__(
        self,
        net: nn.Module,
        input_hw: tuple[int, int],
        student_hw: tuple[int, int],
        config: DistillationSection,
        device: torch.device,
        normalisation: Normalisation = IMAGENET,
        student_normalisation: Normalisation = IMAGENET,
    ) -> None:
        self._net = net.to(device).eval().requires_grad_(False)
        self._ratio = (input_hw[0] / student_hw[0], input_hw[1] / student_hw[1])
        self._weight, self._temperature = config.weight, config.temperature
        mean, std, own_mean, own_std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1)
            for source in (student_normalisation, normalisation)
            for values in (source.mean, source.std)
        )
        self._renormalise = normalisation != student_normalisation
        self._factor, self._shift = std / own_std, (mean - own_mean) / own_std

    def loss(self, images: Tensor, student: Tensor) -> Tensor:
        """Weighted divergence of the student from the teacher, a scalar.

        Args:
            images: the student's normalised batch (N, 3, H, W), whole images or crops; resized to the teacher's scale.
            student: logits (N, C, h, w) of the same batch at any resolution; the teacher's are resampled to it.
        """
        with torch.no_grad():
            sides = [
                max(round(side * ratio / _MULTIPLE_PX), 1) * _MULTIPLE_PX
                for side, ratio in zip(images.shape[2:], self._ratio, strict=True)
            ]
            seen = functional.interpolate(images, size=sides, mode="bilinear", align_corners=False, antialias=True)
            if self._renormalise:
                seen = seen * self._factor + self._shift
            logits = upsample_logits(self._net(seen), (student.shape[2], student.shape[3]))
        t = self._temperature
        target = (logits.float() / t).softmax(1)
        predicted = (student.float() / t).log_softmax(1)
        divergence = (target * (target.clamp_min(1e-12).log() - predicted)).sum(1).mean()
        return self._weight * t * t * divergence


def teacher_of(
    spec: TrialSpec,
    space: SearchSpace,
    num_classes: int,
    device: torch.device,
    normalisation: Normalisation = IMAGENET,
) -> Teacher | None:
    """Return the teacher of a trial: a given network, or a finished trial of its study; None without one.

    Raises:
        UserError: there is no network at ``training.distillation.teacher``, or it has other classes.
        TrialFailed: the finished trial's checkpoint is missing, or not the one that was scored.
    """
    config = spec.training.distillation
    if config.teacher is not None:
        return _given(config, config.teacher, num_classes, space.input_hw(spec.candidate), device, normalisation)
    if not config.study_best or spec.teacher is None:
        return None
    trial = spec.teacher
    checkpoint = finished_checkpoint(trial, "learn from")
    net = fit_shape(space.build(trial.candidate, num_classes), checkpoint.weights)
    net.load_state_dict(checkpoint.weights)
    sizes = space.input_hw(trial.candidate), space.input_hw(spec.candidate)
    return Teacher(net, *sizes, config, device, normalisation, normalisation)


def _given(
    config: DistillationSection,
    path: Path,
    num_classes: int,
    student_hw: tuple[int, int],
    device: torch.device,
    normalisation: Normalisation,
) -> Teacher:
    trained = read_teacher(path, num_classes)
    own = Normalisation(trained.mean, trained.std)
    return Teacher(trained.net, trained.input_hw, student_hw, config, device, own, normalisation)


def read_teacher(path: Path, num_classes: int) -> TrainedNetwork:
    """Read the network of ``training.distillation.teacher``: a bundle's folder or a network file.

    Raises:
        UserError: there is none, or it has other classes than the data.
    """
    trained = read_network(read_bundle(path).checkpoint_path if path.is_dir() else path)
    if len(trained.class_names) != num_classes:
        raise UserError(
            f"the teacher {path} tells {len(trained.class_names)} classes apart, the data have {num_classes}. "
            "Set training.distillation.teacher to a network trained on the same classes."
        )
    return trained
