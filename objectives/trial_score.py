"""What a trial scored, and how far it had been trained when the score was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TrialScore:
    """One reading of a candidate.

    Attributes:
        val_miou: class-mean IoU on the validation split, 0 to 1, at the labels' own resolution.
        epoch: epochs trained when it was read; with ``epochs_total`` the fidelity of the reading.
        epochs_total: epochs of a full training.
        macs: multiply-accumulates of one image through the network in the shape it was read in.
        params: parameters of the network in the shape it was read in.
        train_s: seconds spent training up to this reading, over all restarts.
        class_iou: IoU per class in the data set's order; None for a class absent from labels and predictions.
        initial_weights: what the encoder was started from, in words.
        precision: ``fp32``, ``fp16`` or ``int8``: of the network that was scored.
        float_miou: val_miou of the same network before it was brought to that precision; None where that was not read.
        val_dice: mean over images of each image's class-mean Dice, as LPCVC takes it; None where it was not taken.
        corruption_miou: mIoU on the validation images by the corruption they went through; None where not taken.
        metrics: values of the user's own metrics by their reference; None where the study has none, or before the end.
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

    @property
    def fidelity(self) -> float:
        """Share of a full training, 0 to 1."""
        return self.epoch / self.epochs_total

    @property
    def final(self) -> bool:
        return self.epoch >= self.epochs_total

    @property
    def robust_miou(self) -> float | None:
        """Mean over the corruptions of the mIoU under each (arXiv 1903.12261 takes the mean error so)."""
        if not self.corruption_miou:
            return None
        return sum(self.corruption_miou.values()) / len(self.corruption_miou)

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self) | {"class_iou": list(self.class_iou)}
        if self.metrics is None:
            del values["metrics"]
        return values

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TrialScore:
        return cls(**{**value, "class_iou": tuple(value["class_iou"])})
