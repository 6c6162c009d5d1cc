"""Steps of an ONNX graph in torch, and the operators that a conversion to a lower precision supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from exports.errors import ExportError
from exports.onnx.torch_operators import OPERATIONS, RESIZES

# Operators whose constant inputs are operands; the constants of all others are settings (sizes, axes, bounds).
COMPUTE_WITH_CONSTANTS = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Concat", "PRelu"}
    | {"BatchNormalization"}
)


@dataclass(frozen=True)
class Step:
    """One node of the graph.

    Attributes:
        op: ONNX operator.
        name: unique within the graph.
        inputs: names of tensors; empty for an omitted optional one.
        outputs: names of tensors.
        attributes: plain values, strings decoded.
        out_shape: shape of the first output, for batch 1.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    out_shape: tuple[int, ...]


def run_step(step: Step, arguments: Sequence[Any]) -> Sequence[Tensor]:
    """Compute the outputs of ``step``.

    Args:
        arguments: one per input: a tensor, a numpy array for a setting, None if omitted. The batch size of activations
            may differ from the graph's.
    """
    result = OPERATIONS[step.op](step, *arguments)
    return (result,) if isinstance(result, Tensor) else tuple(result)


def unsupported(step: Step) -> str | None:
    """Return the reason why torch does not run a step, a clause; None where it does."""
    if step.op not in OPERATIONS:
        return f"operator {step.op} is not known to it"
    if step.op == "Resize":
        way = (
            step.attributes.get("mode", "nearest"),
            step.attributes.get("coordinate_transformation_mode", "half_pixel"),
        )
        if way not in RESIZES:
            return f"Resize with mode {way[0]} and coordinates {way[1]} is not known to it"
    elif step.op in ("AveragePool", "MaxPool"):
        top, left, bottom, right = step.attributes.get("pads", (0, 0, 0, 0))
        if (top, left) != (bottom, right):
            return f"{step.op} with uneven padding is not known to it"
    return None


def check_step(step: Step) -> None:
    """Raise ExportError for an operator, or a mode of one, that is not supported."""
    reason = unsupported(step)
    if reason is not None:
        raise ExportError(
            f"the network cannot be brought to a lower precision: {reason}. Set device.precision to fp32, or leave the family "
            "or decoder with it out of the search space."
        )
