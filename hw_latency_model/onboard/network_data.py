"""A network as plain data: graph in JSON, arrays in a safetensors file; nothing is unpickled."""

import json
import struct
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np

from hw_latency_model.agent.errors import JobError

GRAPH = "graph.json"
WEIGHTS = "weights.safetensors"

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "|i1", "U8": "|u1", "BOOL": "|b1"}

Read = Callable[[str], bytes]
"""Reads a file of a bundle or archive by name."""


class Step(NamedTuple):
    """One node of the graph; see ``exports.quantization.ops.Step``. Files of earlier releases have no names: they are empty."""

    op: str
    name: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    attributes: Dict[str, Any]
    out_shape: Tuple[int, ...]


class Network(NamedTuple):
    """A network: its steps in order of execution and its arrays by name.

    Attributes:
        steps: the nodes.
        arrays: weights and settings by name.
        source: name of the input.
        result: name of the output.
        input_shape: (1, 3, height, width).
        freed: names of the values that are not needed after each step.
    """

    steps: List[Step]
    arrays: Dict[str, Any]
    source: str
    result: str
    input_shape: Tuple[int, ...]
    freed: List[List[str]]


def read_network_data(read: Read) -> Network:
    """Read a network.

    Raises:
        JobError: the files are damaged.
    """
    try:
        graph = json.loads(read(GRAPH).decode("utf-8"))
        arrays = parse_safetensors(read(WEIGHTS))
        steps = [
            Step(
                item["op"],
                item.get("name", ""),
                tuple(item["inputs"]),
                tuple(item["outputs"]),
                item["attributes"],
                tuple(item["out_shape"]),
            )
            for item in graph["steps"]
        ]
        missing = _missing(steps, arrays, graph["source"])
        if missing:
            raise JobError("{} lacks the array {}; export the network again".format(WEIGHTS, missing[0]))
        freed = _last_uses(steps, arrays, graph["result"])
        return Network(steps, arrays, graph["source"], graph["result"], tuple(graph["input_shape"]), freed)
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise JobError("{} or {} is damaged ({}); copy it again".format(GRAPH, WEIGHTS, error))


def parse_safetensors(content: bytes) -> Dict[str, Any]:
    """Return the arrays of a safetensors file by name, as views of its content.

    Raises:
        ValueError, struct.error: the content is no such file, or is truncated.
    """
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length].decode("utf-8"))
    data = memoryview(content)[8 + length :]
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if end > len(data):
            raise ValueError("the file is truncated")
        kind = np.dtype(_TYPES[entry["dtype"]])
        arrays[name] = np.frombuffer(data[begin:end], dtype=kind).reshape(entry["shape"])
    return arrays


def _missing(steps: List[Step], arrays: Dict[str, Any], source: str) -> List[str]:
    known, missing = {source, *arrays}, []
    for step in steps:
        missing += [name for name in step.inputs if name and name not in known]
        known.update(step.outputs)
    return missing


def _last_uses(steps: List[Step], arrays: Dict[str, Any], result: str) -> List[List[str]]:
    last = {name: index for index, step in enumerate(steps) for name in step.inputs + step.outputs}
    last.pop(result, None)
    freed: List[List[str]] = [[] for _ in steps]
    for name, index in last.items():
        if name and name not in arrays:
            freed[index].append(name)
    return freed
