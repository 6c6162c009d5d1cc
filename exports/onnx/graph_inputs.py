"""Sizes of a graph's inputs: those of the file, those the user gives, and a batch of 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from exports.errors import DynamicShapeError, ExportError
from exports.onnx.macs import Shape
from exports.onnx.values import OpenShape, open_shape
from search_spaces._common.names import nearest_name


@dataclass(frozen=True)
class BoundInputs:
    """Inputs of a graph, all of known size.

    Attributes:
        shapes: (element type, shape) of every input that is not a weight, by name.
        dims: sizes of the file's named dimensions.
        notes: sentences on sizes that were assumed.
    """

    shapes: dict[str, tuple[int, Shape]]
    dims: dict[str, int]
    notes: tuple[str, ...]


def bind_inputs(graph: onnx.GraphProto, given: Mapping[str, Shape], source: str) -> BoundInputs:
    """Give every input a size: the file's, the given one, or 1 for a batch that alone is dynamic.

    Sizes written as -1 or 0 are dynamic. A name that the file gives to several dimensions has one size.

    Raises:
        DynamicShapeError: an input has a size that nobody gives.
        ExportError: an input is no tensor, or the given size does not fit.
    """
    stored = {tensor.name for tensor in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    inputs = {item.name: item for item in graph.input if item.name not in stored}
    for name in given:
        if name not in inputs:
            near = nearest_name(name, inputs)
            hint = f'Did you mean "{near}"? ' if near else ""
            raise ExportError(f'{source} has no input "{name}". {hint}It has: {", ".join(inputs) or "none"}.')
    dims: dict[str, int] = {}
    notes: list[str] = []
    declared: dict[str, tuple[int, OpenShape | None]] = {}
    for name, item in inputs.items():
        tensor = _tensor_type(item, source)
        declared[name] = (tensor.elem_type, open_shape(tensor))
        if name in given:
            _check_given(name, given[name], declared[name][1], source)
            for dim, size in zip(tensor.shape.dim, given[name], strict=False):
                if dim.dim_param and dim.dim_value <= 0:
                    dims.setdefault(dim.dim_param, size)
    shapes: dict[str, tuple[int, Shape]] = {}
    unsized: dict[str, OpenShape | None] = {}
    for name, item in inputs.items():
        kind, _ = declared[name]
        if name in given:
            shapes[name] = (kind, tuple(given[name]))
            continue
        tensor = _tensor_type(item, source)
        known = open_shape(tensor, dims)
        if known is not None and known[:1] == (None,) and None not in known[1:]:
            notes.append(f"the batch of input {name} is dynamic and is taken as 1")
            if tensor.shape.dim[0].dim_param:
                dims.setdefault(tensor.shape.dim[0].dim_param, 1)
            known = (1, *known[1:])
        if known is None or None in known:
            unsized[name] = known
        else:
            shapes[name] = (kind, tuple(int(size or 0) for size in known))
    if unsized:
        raise DynamicShapeError(_open_message(unsized, source))
    return BoundInputs(shapes, dims, tuple(notes))


def _tensor_type(item: onnx.ValueInfoProto, source: str) -> onnx.TypeProto.Tensor:
    kind = item.type
    if kind.HasField("optional_type"):
        kind = kind.optional_type.elem_type
    if kind.HasField("sequence_type") or kind.HasField("map_type"):
        what = "sequence" if kind.HasField("sequence_type") else "map"
        raise ExportError(
            f"input {item.name} of {source} is a {what}, whose sizes the file cannot state. Give it a tensor."
        )
    return kind.sparse_tensor_type if kind.HasField("sparse_tensor_type") else kind.tensor_type


def _check_given(name: str, given: Shape, declared: OpenShape | None, source: str) -> None:
    fits = declared is None or (
        len(declared) == len(given) and all(want in (None, have) for want, have in zip(declared, given, strict=True))
    )
    if not fits:
        raise ExportError(
            f"input {name} of {source} has the shape {shape_text(declared)}, to which {shape_text(given)} does not fit. "
            "Give the sizes that stand there and choose only those written as ?."
        )


def shape_text(shape: OpenShape | None) -> str:
    """A shape as ``1x3x?x?``."""
    return "unknown" if shape is None else "x".join("?" if size is None else str(size) for size in shape) or "scalar"


def _open_message(unsized: Mapping[str, OpenShape | None], source: str) -> str:
    named = " and ".join(f"{name!r} ({shape_text(shape)})" for name, shape in unsized.items())
    examples = " ".join(f"--input {name}={_example(shape)}" for name, shape in unsized.items())
    return (
        f"{source} must have static shapes, that of {named} is not fixed. Give the sizes, for example {examples}, "
        "or export with batch 1 and fixed sizes."
    )


def _example(shape: OpenShape | None) -> str:
    if shape is None:
        return "1x3x512x512"
    return "x".join(str(size) if size is not None else "1" if place == 0 else "512" for place, size in enumerate(shape))
