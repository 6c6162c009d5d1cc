"""What of a training's configuration counts when two trainings are compared: keys that came later only where they are set."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from trial_runner.config.study import DistillationSection, LossSection, TrainingSection

_FIRST_KEYS: dict[type[BaseModel], frozenset[str]] = {
    TrainingSection: frozenset(
        {
            "epochs",
            "weights",
            "batch_size",
            "warmup_epochs",
            "prune_after",
            "optimizer",
            "schedule",
            "encoder_rate",
            "loss",
            "distillation",
            "average_decay",
            "mixed_precision",
            "gradient_clip_norm",
            "min_scale",
            "max_scale",
            "colour_jitter",
        }
    ),
    LossSection: frozenset({"cross_entropy", "dice", "lovasz", "hardest_share", "label_smoothing", "class_weights"}),
    DistillationSection: frozenset({"teacher", "weight", "temperature"}),
}
_WHERE_NOT_HOW = {"device"}


def training_identity(training: TrainingSection) -> dict[str, Any]:
    """JSON values that differ whenever two configurations train differently.

    A key that was added after the first release stands in it only where it is not at its default, which changes nothing:
    checkpoints and studies from before it stay usable.
    """
    return _told(training, training.model_dump(mode="json"))


def _told(section: BaseModel, dumped: dict[str, Any]) -> dict[str, Any]:
    first = _FIRST_KEYS.get(type(section), frozenset())
    told: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if name in _WHERE_NOT_HOW:
            continue
        if name in first or value != field.get_default(call_default_factory=True):
            told[name] = _told(value, dumped[name]) if isinstance(value, BaseModel) else dumped[name]
    return told
