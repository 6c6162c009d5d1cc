"""Learning from a trained network as well as from the labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from exports import read_bundle, read_network
from search_spaces.errors import UserError
from search_spaces.networks import upsample_logits
from trial_runner.study_config import DistillationSection


class Teacher:
    """A frozen network whose class probabilities a student is drawn to (Hinton et al. 2015, pixel by pixel).

    Raises:
        UserError: there is no network at ``config.teacher``, or it tells other classes apart.
    """

    def __init__(self, config: DistillationSection, num_classes: int, device: torch.device) -> None:
        assert config.teacher is not None
        folder = config.teacher.is_dir()
        trained = read_network(read_bundle(config.teacher).checkpoint_path if folder else config.teacher)
        if len(trained.class_names) != num_classes:
            raise UserError(
                f"the teacher {config.teacher} tells {len(trained.class_names)} classes apart, the data have {num_classes}. "
                "Set training.distillation.teacher to a network trained on the same classes."
            )
        self._net = trained.net.to(device).requires_grad_(False)
        self._hw = trained.input_hw
        self._weight, self._temperature = config.weight, config.temperature

    def loss(self, images: Tensor, student: Tensor) -> Tensor:
        """Weighted divergence of the student from the teacher, a scalar.

        Args:
            images: the student's normalised batch (N, 3, H, W); the teacher sees it at its own input resolution.
            student: logits (N, C, h, w) of the same batch at any resolution; the teacher's are brought to it.
        """
        with torch.no_grad():
            seen = functional.interpolate(images, size=self._hw, mode="bilinear", align_corners=False, antialias=True)
            logits = upsample_logits(self._net(seen), (student.shape[2], student.shape[3]))
        t = self._temperature
        wanted = (logits.float() / t).softmax(1)
        said = (student.float() / t).log_softmax(1)
        divergence = (wanted * (wanted.clamp_min(1e-12).log() - said)).sum(1).mean()
        return self._weight * t * t * divergence
