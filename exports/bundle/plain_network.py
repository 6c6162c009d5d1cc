"""A network as plain data for boards: ``graph.json`` and ``weights.safetensors``, without pickle, protobuf or Python classes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from exports.errors import ExportError
from exports.quantization.graph import read_program
from exports.quantization.ops import Step, unsupported

_TYPES = {
    "<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "<i4": "I32", "|i1": "I8", "|u1": "U8", "|b1": "BOOL",
}  # fmt: skip
_INTEGER_OPERATORS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class PlainNetwork:
    """A network as plain data.

    Attributes:
        graph: content of ``graph.json``: steps in order of execution with names, attributes and shapes, names of input and output.
        arrays: weights and settings by name.
    """

    graph: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]

    def graph_json(self) -> bytes:
        """Return the content of ``graph.json``."""
        return (json.dumps(self.graph, indent=1, allow_nan=False) + "\n").encode()

    def weights(self) -> bytes:
        """Return the content of ``weights.safetensors``."""
        return safetensors(self.arrays)


def plain_network(model: onnx.ModelProto) -> PlainNetwork:
    """Convert an exported ONNX model with static shapes.

    Raises:
        ExportError: the interpreter on the board does not know an operator.
    """
    program = read_program(model, _check)
    used = {name for step in program.steps for name in step.inputs}
    graph = {
        "version": 1,
        "source": program.source,
        "result": program.result,
        "input_shape": list(program.input_shape),
        "steps": [
            {
                "op": step.op,
                "name": step.name,
                "inputs": list(step.inputs),
                "outputs": list(step.outputs),
                "attributes": dict(step.attributes),
                "out_shape": list(step.out_shape),
            }
            for step in program.steps
        ],
    }
    return PlainNetwork(graph, {name: program.constants[name] for name in sorted(used & set(program.constants))})


def safetensors(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialize arrays in the safetensors format, in the order of the mapping.

    Raises:
        ValueError: an array has another type than numbers of up to 64 bits and booleans.
    """
    header: dict[str, Any] = {}
    content = bytearray()
    for name, array in arrays.items():
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        if little.dtype.str not in _TYPES:
            raise ValueError(f"{name} has the type {array.dtype}, which safetensors does not hold")
        begin = len(content)
        content += little.tobytes()
        header[name] = {
            "dtype": _TYPES[little.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [begin, len(content)],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(content)


def _check(step: Step) -> None:
    reason = None if step.op in _INTEGER_OPERATORS else unsupported(step)
    if reason is not None:
        raise ExportError(
            f"the network has no form for boards without TensorRT and ONNX Runtime: its torch interpreter is missing a part ({reason}). "
            "Leave the family or decoder with it out of the search space."
        )
