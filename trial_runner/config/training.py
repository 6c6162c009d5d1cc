"""Schema of the section ``training`` of a study's YAML: training, pruning and quantization of each candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from search_spaces.spaces.config import Positive, Section, renamed


class LossSection(Section):
    """Weights of the loss terms. ``ohem_ratio``: ratio of a batch's labelled pixels, the hardest, that the cross-entropy averages."""

    cross_entropy: float = Field(default=1.0, ge=0)
    dice: float = Field(default=0.0, ge=0)
    lovasz: float = Field(default=0.0, ge=0)
    ohem_ratio: float = renamed("ohem_ratio", "hardest_share", default=1.0, gt=0, le=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "sqrt_inverse"] = "none"

    @model_validator(mode="after")
    def _something_to_minimise(self) -> LossSection:
        if not self.cross_entropy + self.dice + self.lovasz:
            raise ValueError("one of cross_entropy, dice and lovasz must be above 0")
        return self


class DistillationSection(Section):
    """Distillation from a teacher (a bundle's folder or a network file) at ``temperature``, with ``weight`` in the loss.
    ``study_best`` takes the most accurate trial that the study has finished when a trial starts."""

    teacher: Path | None = None
    study_best: bool = False
    weight: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=2.0, gt=0)

    @model_validator(mode="after")
    def _one_teacher(self) -> DistillationSection:
        if self.teacher is not None and self.study_best:
            raise ValueError(
                f"there is one teacher at most: leave out teacher ({self.teacher}), or set study_best to false"
            )
        return self


class AdmmSection(Section):
    """ADMM pruning: starts after the share ``start_after`` of the epochs before pruning; ``updates`` of the auxiliary variables
    are spread over the rest, and each multiplies the penalty ``rho`` by ``rho_growth``."""

    rho: float = Field(default=1.0, gt=0)
    rho_growth: float = Field(default=2.0, ge=1)
    updates: Positive = 8
    start_after: float = Field(default=0.3, ge=0, lt=1)


class PruningSection(Section):
    """Channel pruning: importance ``method``, ``allocation`` of the ratio to channel groups, and rounding to multiples."""

    method: Literal["l1", "l2", "bn_scale", "geometric_median", "random", "admm"] = "l1"
    allocation: Literal["uniform", "latency", "sensitivity"] = "uniform"
    channel_multiple: Positive = 8
    admm: AdmmSection = AdmmSection()


class QuantizationSection(Section):
    """INT8 quantization: ``ptq`` after training, or ``qat`` with fake quantization from the share ``start`` of the epochs.
    Activation ranges are calibrated on ``calibration_images`` training images: the ``average`` of each image's extremes, or
    those of all images (``minmax``)."""

    method: Literal["ptq", "qat"] = "ptq"
    start: float = Field(default=0.8, ge=0, lt=1)
    calibration_images: Positive = 64
    calibration: Literal["average", "minmax"] = "average"
    weight_bits: Literal[7, 8] = 8


class TrainingSection(Section):
    """Training of each candidate: train, prune after ``prune_after`` of the epochs, fine-tune for the rest. ``weights``: initial
    encoder weights, ``none``, ``hub`` (timm's), or a file or folder of state dicts. ``inherit``: start from the best
    trained relative, as far as its weights fit."""

    omitted_at_default = frozenset({"inherit"})

    epochs: int = Field(default=20, gt=0, le=1_000_000)
    weights: str = "none"
    inherit: bool = False
    batch_size: int = Field(default=8, gt=0, le=65_536)
    warmup_epochs: float = Field(default=0.5, ge=0, le=1_000_000)
    prune_after: float = Field(default=0.25, ge=0, le=0.9)
    pruning: PruningSection = PruningSection()
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["cosine", "poly", "one_cycle"] = "cosine"
    encoder_lr_multiplier: float = renamed("encoder_lr_multiplier", "encoder_rate", default=1.0, gt=0)
    loss: LossSection = LossSection()
    distillation: DistillationSection = DistillationSection()
    quantization: QuantizationSection = QuantizationSection()
    ema_decay: float = renamed("ema_decay", "average_decay", default=0.0, ge=0, lt=1)
    precise_bn_batches: int = renamed("precise_bn_batches", "norm_calibration_batches", default=0, ge=0, le=2**31 - 1)
    mixed_precision: bool = False
    gradient_clip_norm: float = Field(default=5.0, gt=0)
    min_scale: float = Field(default=0.75, gt=0, le=16)
    max_scale: float = Field(default=1.5, gt=0, le=16)
    colour_jitter: float = Field(default=0.2, ge=0, lt=1)
    crop_ratio: float = renamed("crop_ratio", "crop_share", default=1.0, gt=0, le=1)
    label_stride: Literal[1, 2, 4, 8] = 1
    evaluate_every: Positive = 1
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    compile: bool = False
    deterministic: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _sensitivity_of_something(self) -> TrainingSection:
        if self.pruning.allocation == "sensitivity" and self.weights == "none":
            raise ValueError(
                "training.pruning.allocation sensitivity reads how much each layer bears from pretrained weights: "
                "set training.weights, or choose the allocation latency or uniform"
            )
        return self

    @model_validator(mode="after")
    def _scales_ordered(self) -> TrainingSection:
        if self.min_scale > self.max_scale:
            raise ValueError(
                f"training.min_scale ({self.min_scale}) must not exceed training.max_scale ({self.max_scale})"
            )
        return self
