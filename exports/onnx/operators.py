"""Single operators of an ONNX graph: constants folded, shapes inferred, work counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from exports.errors import DynamicShapeError
from exports.onnx import bounds
from exports.onnx.graph import attributes
from exports.onnx.macs import Shape
from exports.onnx.recorder import STANDARD, Recorder
from exports.onnx.values import EVALUATION_ERRORS, OpenShape, Value, evaluate, infer, open_shape


class OperatorReader(Recorder):
    """Reader of operators that compute tensors from tensors."""

    def _constant(self, node: onnx.NodeProto, scope: str) -> Value:
        name = scope + node.output[0]
        for item in node.attribute:
            if item.name == "value":
                return self._stored(name, item.t)
            if item.name == "sparse_value":
                return self._sparse(name, item.sparse_tensor)
            kinds = {
                "value_float": np.float32,
                "value_floats": np.float32,
                "value_int": np.int64,
                "value_ints": np.int64,
            }
            if item.name in kinds:
                data = np.asarray(onnx.helper.get_attribute_value(item), kinds[item.name])
                kind = int(onnx.helper.np_dtype_to_tensor_dtype(data.dtype))
                return self._value(name, kind, data.shape, constant=True, data=data)
        strings = next((item.strings for item in node.attribute if item.name == "value_strings"), None)
        shape = () if strings is None else (len(strings),)
        return self._value(name, TensorProto.STRING, shape, constant=True)

    def _operator(
        self,
        node: onnx.NodeProto,
        name: str,
        inputs: Sequence[Value | None],
        scope: str,
        opsets: Mapping[str, int],
        declared: Mapping[str, onnx.TypeProto],
    ) -> list[Value | None]:
        values = attributes(node)
        known = self._known(node, inputs, opsets)
        constant = known is not None or (
            any(item is not None for item in inputs) and all(item is None or item.constant for item in inputs)
        )
        if known is None:
            types = self._types(node, name, values, inputs, opsets, declared)
        else:
            types = [(int(onnx.helper.np_dtype_to_tensor_dtype(item.dtype)), item.shape) for item in known]
        found: list[Value | None] = []
        for index, key in enumerate(node.output):
            if not key or index >= len(types) or types[index] is None:
                found.append(None)
                continue
            kind, shape = types[index]  # type: ignore[misc]
            data = None if known is None else known[index]
            found.append(self._value(scope + key, kind, shape, constant=constant, data=data))
        if not constant:
            self._check_weights(node, name, inputs, values)
            self._emit(node, name, inputs, found, values)
        return found

    def _check_weights(
        self, node: onnx.NodeProto, name: str, inputs: Sequence[Value | None], values: Mapping[str, Any]
    ) -> None:
        """Refuse a convolution whose weights have another number of channels, which onnx's inference accepts."""
        plain = node.op_type in ("Conv", "ConvTranspose") and node.domain in STANDARD
        if not plain or len(inputs) < 2 or inputs[0] is None or inputs[1] is None:
            return
        source, weights = inputs[0].shape, inputs[1].shape
        if len(source) < 3 or len(weights) != len(source):
            raise self._invalid(f"{name} ({node.op_type}) has no channels")
        wanted = weights[0] if node.op_type == "ConvTranspose" else weights[1] * int(values.get("group", 1))
        if source[1] != wanted:
            raise self._invalid(
                f"{name} ({node.op_type}) does not fit its inputs: its weights take {wanted} channels and it reads {source[1]}"
            )

    def _known(
        self, node: onnx.NodeProto, inputs: Sequence[Value | None], opsets: Mapping[str, int]
    ) -> list[np.ndarray[Any, Any]] | None:
        """Contents of the outputs where they are small and follow from shapes and constants."""
        if node.domain not in STANDARD or any(item is not None and item.items is not None for item in inputs):
            return None
        first = inputs[0] if inputs else None
        if node.op_type == "Shape" and first is not None:
            values = attributes(node)
            sizes = first.shape[int(values.get("start", 0)) : values.get("end")]
            return [np.array(sizes, np.int64)]
        if node.op_type == "Size" and first is not None:
            return [np.array(math.prod(first.shape), np.int64)]
        if not inputs:
            return None
        return evaluate(node, inputs, opsets)

    def _types(
        self,
        node: onnx.NodeProto,
        name: str,
        values: Mapping[str, Any],
        inputs: Sequence[Value | None],
        opsets: Mapping[str, int],
        declared: Mapping[str, onnx.TypeProto],
    ) -> list[tuple[int, Shape] | None]:
        known = [item for item in inputs if item is not None]
        kind = known[0].kind if known else TensorProto.FLOAT
        standard = node.domain in STANDARD or node.domain == "ai.onnx.ml"
        try:
            shapes = None if standard else self._contributed(node, values, inputs, opsets)
            kind = kind if standard else bounds.contributed_kind(node.op_type, inputs, kind)
            inferred: Sequence[tuple[int, OpenShape | None]] | None
            inferred = infer(node, inputs, opsets) if shapes is None else [(kind, shape) for shape in shapes]
            if inferred is None and standard:
                shapes = bounds.contributed(node.op_type, values, inputs)
                inferred = None if shapes is None else [(kind, shape) for shape in shapes]
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, *EVALUATION_ERRORS) as error:
            inferred = self._declared(node, kind, declared)
            if inferred is None:
                reason = " ".join(str(error).split()).removeprefix("[ShapeInferenceError] ")[:200]
                raise self._invalid(f"{name} ({node.op_type}) does not fit its inputs ({reason})") from error
        if inferred is None:
            label = f"{node.domain}.{node.op_type}" if node.domain not in STANDARD else node.op_type
            self.notes[f"{label} is not a known operator: its work is not known"] = None
        result: list[tuple[int, Shape] | None] = []
        for index, key in enumerate(node.output):
            if not key:
                result.append(None)
                continue
            got = inferred[index] if inferred is not None and index < len(inferred) else (TensorProto.UNDEFINED, None)
            shape = self._closed(got[1], node, values, inputs, index, declared.get(key))
            if shape is None and inferred is None:
                shape = known[0].shape if known else ()
            elif shape is None and index == 0:
                shape = bounds.old_form(node.op_type, values, inputs)
            if shape is None and index > 0:
                result.append(None)
                continue
            if shape is None:
                raise DynamicShapeError(
                    f"{self.file.source} must have static shapes, that of {key!r} is not fixed: {name} ({node.op_type}) takes it "
                    "from the data; export with batch 1 and fixed sizes."
                )
            result.append((got[0] or kind, shape))
        return result

    def _contributed(
        self, node: onnx.NodeProto, values: Mapping[str, Any], inputs: Sequence[Value | None], opsets: Mapping[str, int]
    ) -> list[Shape | None] | None:
        if (node.domain, node.op_type) in bounds.STANDARD_FORM:
            plain = onnx.NodeProto()
            plain.CopyFrom(node)
            plain.op_type, plain.domain = bounds.STANDARD_FORM[node.domain, node.op_type], ""
            allowed = {"kernel_shape", "strides", "pads", "dilations", "group", "auto_pad", "ceil_mode"}
            kept = [item for item in node.attribute if item.name in allowed]
            del plain.attribute[:]
            plain.attribute.extend(kept)
            del plain.input[3:]
            types = infer(plain, inputs[:3], opsets) or []
            return [
                None if shape is None or None in shape else tuple(int(size or 0) for size in shape)
                for _, shape in types
            ]
        return bounds.contributed(node.op_type, values, inputs) if node.domain.startswith("com.microsoft") else None

    def _declared(
        self, node: onnx.NodeProto, kind: int, declared: Mapping[str, onnx.TypeProto]
    ) -> list[tuple[int, OpenShape | None]] | None:
        """Return the shapes declared in the file for the outputs; None without a complete first one."""
        types = [
            (kind, open_shape(declared[key].tensor_type, self.dims) if key in declared else None) for key in node.output
        ]
        return types if types and types[0][1] is not None and None not in types[0][1] else None

    def _closed(
        self,
        shape: OpenShape | None,
        node: onnx.NodeProto,
        values: Mapping[str, Any],
        inputs: Sequence[Value | None],
        output: int,
        declared: onnx.TypeProto | None,
    ) -> Shape | None:
        """Fill the sizes that inference leaves open: by the number of elements, a bound, or what the file declares."""
        if shape is not None and None not in shape:
            return tuple(int(size or 0) for size in shape)
        first = inputs[0] if inputs else None
        if (
            shape is not None
            and node.op_type in ("Reshape", "Flatten")
            and shape.count(None) == 1
            and first is not None
        ):
            rest = math.prod(size for size in shape if size is not None)
            if rest and math.prod(first.shape) % rest == 0:
                return tuple(math.prod(first.shape) // rest if size is None else size for size in shape)
        bound = bounds.largest(node.op_type, values, inputs, output)
        if bound is not None and (shape is None or len(shape) == len(bound)):
            self.notes[f"{node.op_type} keeps as much as the data says: counted with the most it can keep"] = None
            return tuple(
                int(most or 1) if size is None else size for size, most in zip(shape or bound, bound, strict=True)
            )
        stated = open_shape(declared.tensor_type, self.dims) if declared is not None else None
        if stated is None or (shape is not None and len(shape) != len(stated)):
            return None
        merged = [size if size is not None else said for size, said in zip(shape or stated, stated, strict=True)]
        return None if None in merged else tuple(int(size or 0) for size in merged)
