"""What a candidate can be judged by: each objective with its direction, unit and budget, and how a trial's record tells it.

An objective is one entry of ``METRICS``; only ``class_iou`` names something more, the class: ``class_iou:person``.
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
    """One axis of a front.

    Attributes:
        name: how a study's YAML calls it; units are in the name where there is one.
        direction: which way is better.
        label: how people read it.
        unit: of values and budget; empty for a share from 0 to 1.
        known: ``before`` any training, after each ``epoch``, or only at the ``end`` of a full training.
        read: its value in a trial's record; None where the record does not tell.
        measured: the same as measured on the device afterwards; None for what cannot be.
        budget: the worst value that is wanted; None for no limit.
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
        """What a value is multiplied with to be minimised."""
        return -1.0 if self.direction == "maximize" else 1.0

    def value(self, record: TrialRecord) -> float:
        """The record's value, NaN when it has none."""
        value = self.read(record)
        return math.nan if value is None else float(value)

    def measured_or_predicted(self, record: TrialRecord) -> float:
        """Measured where measured, else ``value``."""
        value = self.measured(record) if self.measured else None
        return self.value(record) if value is None else float(value)

    def violation(self, value: float) -> float:
        """By how much a value breaks the budget, in its unit; zero or negative where it holds, or none is set."""
        return 0.0 if self.budget is None else self.sign * (value - self.budget)

    def holds(self, record: TrialRecord) -> bool:
        """Whether the record keeps the budget, by what was measured where it was; an unknown value keeps none."""
        return self.budget is None or self.violation(self.measured_or_predicted(record)) <= 0.0

    def text(self, value: float) -> str:
        """A value as people read it: ``0.512``, ``4.82 ms``, a count ``68.4 M``; ``–`` for one that is unknown."""
        if math.isnan(value):
            return "–"
        if not self.unit:
            return f"{value:.3f}"
        if self.unit in (_MACS_UNIT, _PARAMS_UNIT):
            limit, factor = next((pair for pair in _FACTORS if abs(value) >= pair[0]), (1.0, ""))
            return f"{value / limit:.3g}{factor}"
        return f"{value:.2f} {self.unit}" if 1 <= abs(value) < 20 else f"{value:.3g} {self.unit}"

    def with_budget(self, budget: float | None) -> Objective:
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
"""Those of a study that lists none."""

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
    """Return True for ``module:name`` of a metric of the user's own, False for ``class_iou:person``."""
    return name.partition(":")[0] not in METRICS and is_reference(name)


def _custom(name: str, direction: Direction | None, budget: float | None) -> Objective:
    """A metric of the user's own, ``module:name``; its value is in the score of a full training."""
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
    """The objective of that name.

    Args:
        name: a key of ``METRICS``; ``class_iou`` with a class, ``class_iou:person``; or ``module:name`` of a `SegmentationMetric`.
        budget: the worst value that is wanted.
        class_names: of the data set. Empty: not known here, and the objective of a class tells no value.
        direction: of a metric of the user's own.

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
    """Those that are neither mIoU nor latency, which every table shows in any case."""
    return tuple(item for item in objectives if item.name not in (MIOU.name, LATENCY.name))


def budget_texts(objectives: Sequence[Objective]) -> list[str]:
    """The budgets as people read them: ``latency 10 ms``, ``mIoU 0.400``."""
    return [f"{item.label} {item.text(item.budget)}" for item in objectives if item.budget is not None]


def intermediate_values(objectives: Sequence[Objective], record: TrialRecord) -> tuple[float, ...]:
    """What a trial that is not trained out yet is compared by, one value an objective, in its own unit.

    What only a full training tells is stood in for by mIoU, which it goes with.
    """
    return tuple(_stand_in(item, record) if item.available == "final" else item.value(record) for item in objectives)


def _stand_in(objective: Objective, record: TrialRecord) -> float:
    """mIoU, or 1 - mIoU for what is to be minimised."""
    miou = MIOU.value(record)
    return miou if objective.direction == "maximize" else 1.0 - miou
