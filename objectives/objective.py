"""Objectives of a study: direction, unit, budget, and the value in a trial record.

Each is an entry of ``METRICS``; ``class_iou`` takes a class as well, ``class_iou:person``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from search_spaces._common.errors import UserError
from search_spaces._common.names import unknown_name
from search_spaces._common.references import is_reference

if TYPE_CHECKING:
    from objectives.trial_record import TrialRecord

Direction = Literal["maximize", "minimize"]
Read = Callable[["TrialRecord"], float | None]
Available = Literal["pre_training", "per_epoch", "final"]


@dataclass(frozen=True)
class Objective:
    """One objective of a multi-objective study.

    Attributes:
        name: name in a study's YAML, with the unit where there is one.
        direction: ``maximize`` or ``minimize``.
        label: name for display.
        unit: unit of values and budget; empty for a share from 0 to 1.
        available: ``pre_training`` (predicted), ``per_epoch`` (evaluated after each epoch) or ``final`` (after a full training only).
        read: returns the value in a trial record, or None if the record has none.
        measured: returns the value measured on the device; None for objectives that are not measured.
        budget: worst acceptable value; None for no limit.
    """

    name: str
    direction: Direction
    label: str
    unit: str
    available: Available
    read: Read = field(compare=False, repr=False)
    measured: Read | None = field(default=None, compare=False, repr=False)
    budget: float | None = None

    @property
    def sign(self) -> float:
        """Factor that turns a value into one to minimise: -1 for maximised objectives, else 1."""
        return -1.0 if self.direction == "maximize" else 1.0

    def value(self, record: TrialRecord) -> float:
        """Return the record's value, NaN if it has none."""
        value = self.read(record)
        return math.nan if value is None else float(value)

    def measured_or_predicted(self, record: TrialRecord) -> float:
        """Return the measured value if there is one, else ``value``."""
        value = self.measured(record) if self.measured else None
        return self.value(record) if value is None else float(value)

    def violation(self, value: float) -> float:
        """Return the constraint violation in the objective's unit: positive over the budget, else zero or negative."""
        return 0.0 if self.budget is None else self.sign * (value - self.budget)

    def holds(self, record: TrialRecord) -> bool:
        """Return True if the measured, else the predicted value is within the budget; an unknown value is not."""
        return self.budget is None or self.violation(self.measured_or_predicted(record)) <= 0.0

    def text(self, value: float) -> str:
        """Format a value for display: ``0.512``, ``4.82 ms``, ``68.4 M`` for counts, ``–`` for NaN."""
        if math.isnan(value):
            return "–"
        if not self.unit:
            return f"{value:.3f}"
        if self.unit in (_MACS_UNIT, _PARAMS_UNIT):
            limit, factor = next((pair for pair in _FACTORS if abs(value) >= pair[0]), (1.0, ""))
            return f"{value / limit:.3g}{factor}"
        return f"{value:.2f} {self.unit}" if 1 <= abs(value) < 20 else f"{value:.3g} {self.unit}"

    def with_budget(self, budget: float | None) -> Objective:
        """Copy with this budget, in the objective's unit; None for no budget."""
        return replace(self, budget=budget)


_MACS_UNIT, _PARAMS_UNIT = "MACs", "parameters"
_FACTORS = ((1e9, " G"), (1e6, " M"), (1e3, " k"))


def _measured_energy_mj(record: TrialRecord) -> float | None:
    return record.measurement.energy_mj if record.measurement else None


def _measured_memory_mb(record: TrialRecord) -> float | None:
    return record.measurement.memory_peak_mb if record.measurement else None


def _cost(name: str) -> Read:
    def read(record: TrialRecord) -> float | None:
        cost = record.costs.get(name)
        return cost.value if cost else None

    return read


def _lpcvc_score(record: TrialRecord) -> float | None:
    if record.val_dice is None or not record.latency_ms:
        return None
    return record.val_dice / (record.latency_ms / 1e3)


def _lpcvc_score_measured(record: TrialRecord) -> float | None:
    return None if record.val_dice is None or not record.measured_ms else record.val_dice / (record.measured_ms / 1e3)


def _class_iou(index: int | None) -> Read:
    def read(record: TrialRecord) -> float | None:
        if index is None or record.score is None or index >= len(record.score.class_iou):
            return None
        return record.score.class_iou[index]

    return read


MIOU = Objective("val_miou", "maximize", "mIoU", "", "per_epoch", lambda record: record.val_miou)
LATENCY = Objective(
    "latency_ms", "minimize", "latency", "ms", "pre_training", lambda record: record.latency_ms, lambda r: r.measured_ms
)
MEASURED_LATENCY = Objective(
    "measured_ms", "minimize", "measured latency", "ms", "final", lambda record: record.measured_ms
)
OBJECTIVES = (MIOU, LATENCY)
"""Default objectives of a study."""

CLASS_IOU = "class_iou"
ENERGY, MEMORY, MACS, PARAMS = "energy_mj", "memory_peak_mb", "macs", "parameters"
ROBUST = "robust_miou"

METRICS: dict[str, Objective] = {
    item.name: item
    for item in (
        MIOU,
        Objective(CLASS_IOU, "maximize", "IoU", "", "per_epoch", _class_iou(None)),
        Objective("val_dice", "maximize", "Dice by image", "", "per_epoch", lambda record: record.val_dice),
        Objective(
            "lpcvc_score", "maximize", "LPCVC score", "1/s", "per_epoch", _lpcvc_score, measured=_lpcvc_score_measured
        ),
        Objective(ROBUST, "maximize", "mIoU on corrupted images", "", "final", lambda record: record.robust_miou),
        LATENCY,
        Objective(ENERGY, "minimize", "energy of an image", "mJ", "pre_training", _cost(ENERGY), _measured_energy_mj),
        Objective(MEMORY, "minimize", "peak memory", "MB", "pre_training", _cost(MEMORY), _measured_memory_mb),
        Objective(MACS, "minimize", "MACs", _MACS_UNIT, "pre_training", _cost(MACS)),
        Objective(PARAMS, "minimize", "parameters", _PARAMS_UNIT, "pre_training", _cost(PARAMS)),
    )
}


def is_custom(name: str) -> bool:
    """Return True for ``module:name`` of a user-defined metric, False for ``class_iou:person``."""
    return name.partition(":")[0] not in METRICS and is_reference(name)


def _custom(name: str, direction: Direction | None, budget: float | None) -> Objective:
    """Return a user-defined metric, ``module:name``, whose value is in the score of a full training."""
    if direction is None:
        raise UserError(f"the objective {name} is a function of your own: give it a direction, maximize or minimize.")

    def read(record: TrialRecord) -> float | None:
        return (record.score.metrics or {}).get(name) if record.score else None

    label = name.rpartition(":")[2].replace("_", " ")
    return Objective(name, direction, label, "", "final", read, budget=budget)


def get_objective(
    name: str,
    *,
    budget: float | None = None,
    class_names: Sequence[str] = (),
    direction: Direction | None = None,
) -> Objective:
    """Return the objective of that name.

    Args:
        name: a key of ``METRICS``; ``class_iou`` with a class, ``class_iou:person``; or ``module:name`` of a `SegmentationMetric`.
        budget: worst acceptable value.
        class_names: classes of the data set; without them the objective of a class has no value.
        direction: direction of a user-defined metric.

    Raises:
        UserError: there is no such objective, or no such class in the data.
    """
    kind, colon, class_name = name.partition(":")
    if is_custom(name):
        return _custom(name, direction, budget)
    if kind not in METRICS or bool(colon) != (kind == CLASS_IOU):
        known = [f"{CLASS_IOU}:CLASS" if item == CLASS_IOU else item for item in METRICS]
        raise unknown_name("objective", name, known)
    objective = METRICS[kind].with_budget(budget)
    if kind != CLASS_IOU:
        return objective
    if class_names and class_name not in class_names:
        raise UserError(
            f"the objective {name} names no class of the data, which are: {', '.join(class_names)}. Name one of them."
        )
    index = list(class_names).index(class_name) if class_names else None
    return replace(objective, name=name, label=f"IoU of {class_name}", read=_class_iou(index))


def extra_objectives(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Return the objectives besides mIoU and latency, which every table shows in any case."""
    return tuple(item for item in objectives if item.name not in (MIOU.name, LATENCY.name))


def budget_texts(objectives: Sequence[Objective]) -> list[str]:
    """Format the budgets for display: ``latency 10 ms``, ``mIoU 0.400``."""
    return [f"{item.label} {item.text(item.budget)}" for item in objectives if item.budget is not None]


def intermediate_values(objectives: Sequence[Objective], record: TrialRecord) -> tuple[float, ...]:
    """Return the values that compare a partly trained trial with others, one per objective, in its unit.

    Objectives known only after full training are replaced by mIoU as a proxy.
    """
    return tuple(_miou_proxy(item, record) if item.available == "final" else item.value(record) for item in objectives)


def _miou_proxy(objective: Objective, record: TrialRecord) -> float:
    """Return mIoU for a maximised objective, 1 - mIoU for a minimised one."""
    miou = MIOU.value(record)
    return miou if objective.direction == "maximize" else 1.0 - miou
