"""Scores of a trial and the epoch of their evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TrialScore:
    """Result of one evaluation of a candidate.

    Attributes:
        val_miou: class-mean IoU on the validation split, 0 to 1, at the labels' own resolution.
        epoch: epochs trained at the evaluation.
        epochs_total: epochs of a full training.
        macs: multiply-accumulates of one image through the evaluated network, pruned or not yet.
        params: parameters of the evaluated network.
        train_s: seconds of training up to the evaluation, over all restarts.
        class_iou: IoU per class in the data set's order; None for a class absent from labels and predictions.
        initial_weights: origin of the encoder's initial weights, for display.
        precision: precision of the evaluated network.
        float_miou: val_miou before quantization; None where not evaluated.
        val_dice: mean over images of each image's class-mean Dice, as LPCVC defines it; None where not evaluated.
        corruption_miou: mIoU on corrupted validation images by corruption; None where not evaluated.
        cached_epochs: epochs taken over from another trial's equal training instead of trained.
        metrics: values of user-defined metrics by reference; None without any, or before the end of training.
    """

    val_miou: float
    epoch: int
    epochs_total: int
    macs: int
    params: int
    train_s: float
    class_iou: tuple[float | None, ...]
    initial_weights: str = "random"
    precision: str = "fp32"
    float_miou: float | None = None
    val_dice: float | None = None
    corruption_miou: Mapping[str, float] | None = None
    metrics: Mapping[str, float] | None = None
    cached_epochs: int = 0

    @property
    def final(self) -> bool:
        """True after a full training."""
        return self.epoch >= self.epochs_total

    @property
    def robust_miou(self) -> float | None:
        """Mean of the mIoU over the corruptions (the mean corruption error of arXiv 1903.12261, as mIoU)."""
        if not self.corruption_miou:
            return None
        return sum(self.corruption_miou.values()) / len(self.corruption_miou)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, as they are stored with a trial."""
        values = asdict(self) | {"class_iou": list(self.class_iou)}
        if self.metrics is None:
            del values["metrics"]
        if not self.cached_epochs:
            del values["cached_epochs"]
        return values

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TrialScore:
        """Inverse of ``to_dict``. Raises KeyError or TypeError for damaged values."""
        return cls(**{**value, "class_iou": tuple(value["class_iou"])})
