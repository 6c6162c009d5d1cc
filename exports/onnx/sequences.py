"""Sequences and optionals of an ONNX graph: lists of tensors while it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from exports.errors import ExportError
from exports.onnx.graph import attributes
from exports.onnx.recorder import NODE_LIMIT, Recorder
from exports.onnx.values import VALUE_LIMIT, Value


class SequenceReader(Recorder):
    """Reader of operators on sequences and optionals."""

    def _sequence(
        self, node: onnx.NodeProto, name: str, inputs: Sequence[Value | None], scope: str
    ) -> list[Value | None] | None:
        op = node.op_type
        if not op.startswith(("Sequence", "Optional")) and op not in ("SplitToSequence", "ConcatFromSequence"):
            return None
        values = attributes(node)
        key = scope + node.output[0]
        first = inputs[0] if inputs else None
        if op in ("Optional", "OptionalGetElement"):
            return [first if first is not None else self._value(key, TensorProto.FLOAT, ())]
        if op == "OptionalHasElement":
            return [self._value(key, TensorProto.BOOL, (), constant=True, data=np.array(first is not None))]
        if op == "SequenceEmpty":
            return [Value(key, int(values.get("dtype", TensorProto.FLOAT)), (), True, None, ())]
        if op == "SequenceConstruct":
            return [self._list(key, [item for item in inputs if item is not None])]
        if first is None:
            return None
        items = list(first.items or ())
        if op == "SplitToSequence":
            return [self._split(node, name, first, inputs[1] if len(inputs) > 1 else None, values, key)]
        place = inputs[-1].scalar() if len(inputs) > 1 and inputs[-1] is not None else None
        if op == "SequenceLength":
            return [self._value(key, TensorProto.INT64, (), constant=True, data=np.array(len(items)))]
        if op == "SequenceInsert" and inputs[1] is not None:
            place = None if len(inputs) < 3 else place
            items.insert(len(items) if place is None else int(place), inputs[1])
            return [self._list(key, items)]
        if op == "SequenceErase":
            del items[-1 if place is None or not -len(items) <= place < len(items) else int(place) :][:1]
            return [self._list(key, items[:-1] if place is None else items)]
        if op == "SequenceAt":
            if not items:
                raise ExportError(f"{self.file.source}: {name} reads an element of an empty sequence. Export it again.")
            index = int(place) if place is not None and -len(items) <= place < len(items) else 0
            return [items[index]]
        if op == "ConcatFromSequence":
            return [self._join(node, name, items, values, key)]
        return None

    def _list(self, key: str, items: Sequence[Value]) -> Value:
        first = items[0] if items else None
        shape, kind = ((), TensorProto.FLOAT) if first is None else (first.shape, first.kind)
        return Value(key, kind, shape, all(item.constant for item in items), None, tuple(items))

    def _split(
        self, node: onnx.NodeProto, name: str, source: Value, sizes: Value | None, values: Mapping[str, Any], key: str
    ) -> Value:
        axis = int(values.get("axis", 0)) % max(len(source.shape), 1)
        whole = source.shape[axis] if source.shape else 1
        if whole > NODE_LIMIT:
            raise ExportError(f"{self.file.source}: {name} splits a tensor into too many parts. Export it again.")
        if sizes is not None and sizes.data is not None and sizes.data.ndim:
            parts = [int(size) for size in sizes.data]
        else:
            each = max(int(sizes.scalar() or 1) if sizes is not None else 1, 1)
            parts = [min(each, whole - start) for start in range(0, whole, each)]
        squeezed = sizes is None and not values.get("keepdims", 1)
        shapes = [
            source.shape[:axis] + (() if squeezed else (part,)) + source.shape[axis + 1 :]
            for part in parts[:VALUE_LIMIT]
        ]
        made = [
            self._value(f"{key}/{index}", source.kind, shape, constant=source.constant)
            for index, shape in enumerate(shapes)
        ]
        if not source.constant:
            self._emit(node, name, [source], made, values)
        return self._list(key, made)

    def _join(self, node: onnx.NodeProto, name: str, items: list[Value], values: Mapping[str, Any], key: str) -> Value:
        if not items:
            raise ExportError(f"{self.file.source}: {name} joins an empty sequence. Export it again.")
        shape = list(items[0].shape)
        if values.get("new_axis", 0):
            rank = len(shape) + 1
            shape.insert(int(values["axis"]) % rank, len(items))
        else:
            axis = int(values["axis"]) % max(len(shape), 1)
            shape[axis] = sum(item.shape[axis] for item in items)
        constant = all(item.constant for item in items)
        joined = self._value(key, items[0].kind, tuple(shape), constant=constant)
        if not constant:
            self._emit(node, name, items, [joined], values)
        return joined
