"""Identity of a training configuration: keys added after the first release count only where they are set."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from search_spaces.spaces.config import stored_name
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
_EXCLUDED = {"device"}


def training_identity(training: TrainingSection) -> dict[str, Any]:
    """Return JSON values that differ whenever two configurations train differently.

    A key added after the first release is included only where it differs from its default, so that older checkpoints and
    studies stay usable.
    """
    return _identity(training, training.model_dump(mode="json"))


def _identity(section: BaseModel, dumped: dict[str, Any]) -> dict[str, Any]:
    first = _FIRST_KEYS.get(type(section), frozenset())
    identity: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value, stored = getattr(section, name), stored_name(type(section), name)
        if name in _EXCLUDED:
            continue
        if stored in first or value != field.get_default(call_default_factory=True):
            identity[stored] = _identity(value, dumped[stored]) if isinstance(value, BaseModel) else dumped[stored]
    return identity
