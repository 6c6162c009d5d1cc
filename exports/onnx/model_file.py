"""Reading of ONNX files that anybody wrote: every fault becomes a sentence, and large weights stay on the disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from exports.errors import ExportError

_LARGEST_FILE = 2**31 - 1
"""Bytes that one protobuf message can hold."""
_FOREIGN = {
    b"PK\x03\x04": "an archive, as PyTorch's .pt files are",
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull` where it came from",
    b"<!DOCTYPE": "a web page; download the file itself",
    b"<html": "a web page; download the file itself",
    b"\x1f\x8b": "a compressed file; unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes it",
}
_SPARSE_LIMIT = 1 << 16
_VALUE_ERRORS = (ValueError, TypeError, IndexError, KeyError, AttributeError, RuntimeError, OverflowError, MemoryError)


@dataclass(frozen=True)
class ModelFile:
    """A model with the folder that its external data lies in.

    Attributes:
        model: the graph; weights that lie in other files are not loaded.
        source: name for messages.
        folder: folder of the file; None for a model that was never one.
    """

    model: onnx.ModelProto
    source: str
    folder: Path | None

    def read(self, tensor: TensorProto) -> NDArray[Any] | None:
        """Values of a stored tensor; None where they are not at hand or damaged."""
        try:
            if tensor.data_location != TensorProto.EXTERNAL:
                return np.asarray(numpy_helper.to_array(tensor))
            return None if self.folder is None else _external_values(tensor, self.folder)
        except (*_VALUE_ERRORS, OSError):
            return None


def load_graph(model: onnx.ModelProto | Path) -> onnx.ModelProto:
    """Read an ONNX file without the weights that lie in other files; a model in memory is returned unchanged.

    Raises:
        ExportError: as for `read_model`.
    """
    return read_model(model).model


def read_model(model: onnx.ModelProto | Path) -> ModelFile:
    """Read an ONNX file and check that its external data is there, without loading it.

    Raises:
        ExportError: the file is missing, unreadable, not an ONNX model, over 2 GiB, or its external data is missing, too
            short or outside its folder.
    """
    if isinstance(model, onnx.ModelProto):
        _check_names(model, "the ONNX model")
        return ModelFile(model, "the ONNX model", None)
    proto = _parse(model)
    _check_names(proto, str(model))
    for tensor in _tensors(proto):
        if tensor.data_location == TensorProto.EXTERNAL:
            _check_external(tensor, model)
    return ModelFile(proto, str(model), model.parent)


def _check_names(model: onnx.ModelProto, source: str) -> None:
    """Refuse a model with a name that is no text: protobuf gives such a name as bytes."""
    names: list[object] = []
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        while graphs:
            graph = graphs.pop()
            names += [value.name for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info)]
            nodes += graph.node
        if not nodes:
            break
        node = nodes.pop()
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        for item in node.attribute:
            names.append(item.name)
            graphs += [item.g, *item.graphs] if item.HasField("g") else item.graphs
    if any(not isinstance(name, str) for name in names):
        raise ExportError(f"{source} is damaged: a name in it is no text. Export it again.")


def _parse(path: Path) -> onnx.ModelProto:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ExportError(
                f"cannot read the ONNX model: {path} is no file. Give the path of an exported model.onnx."
            )
        if size > _LARGEST_FILE:
            raise ExportError(
                f"{path} has {size / 2**30:.1f} GiB; one ONNX file holds 2 GiB. Save its weights as external data."
            )
        content = path.read_bytes()
        return onnx.load_model_from_string(content)
    except FileNotFoundError as error:
        raise ExportError(
            f"cannot read the ONNX model: there is no ONNX file {path}; give the path of an exported model.onnx."
        ) from error
    except OSError as error:
        raise ExportError(
            f"cannot read the ONNX model {path}: {error.strerror or error}. Make it readable, or export it again."
        ) from error
    except (DecodeError, ValueError, RecursionError) as error:
        raise ExportError(
            f"{path} is not a readable ONNX model ({_what_it_is(content, error)}). Export it again."
        ) from error


def _what_it_is(content: bytes, error: Exception) -> str:
    start = content[:32].lstrip()
    return next(
        (text for magic, text in _FOREIGN.items() if start.startswith(magic)), " ".join(str(error).split())[:200]
    )


def external_entries(tensor: TensorProto) -> dict[str, str]:
    """Location, offset and length of a tensor that lies in another file, as stored."""
    return {entry.key: entry.value for entry in tensor.external_data}


def _check_external(tensor: TensorProto, path: Path) -> None:
    entries = external_entries(tensor)
    location = entries.get("location", "")
    named = f"{path} keeps {tensor.name or 'a tensor'} in {location or 'another file'}"
    if not location or Path(location).is_absolute() or ".." in Path(location.replace("\\", "/")).parts:
        raise ExportError(f"{named}, which lies outside its folder; put the data beside the model and save it again.")
    try:
        offset, size = int(entries.get("offset", 0)), int(entries.get("length", 0)) or tensor_bytes(tensor)
        there = (path.parent / location).stat().st_size if (path.parent / location).is_file() else None
    except (OSError, ValueError) as error:
        raise ExportError(f"{named}, which cannot be read ({error}); copy that file again.") from error
    if there is None:
        raise ExportError(f"{named}, which is missing; copy that file into the folder of the model too.")
    if offset < 0 or size < 0 or offset + size > there:
        raise ExportError(f"{named}, which ends too early ({there} bytes); copy that file again.")


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes that the values of a tensor take, from its shape and type."""
    try:
        width = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    except (KeyError, TypeError, ValueError):
        width = 1
    elements = int(math.prod(tensor.dims))
    if tensor.data_type in (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1):
        return (elements + 1) // 2
    return elements * int(width)


def _external_values(tensor: TensorProto, folder: Path) -> NDArray[Any]:
    entries = external_entries(tensor)
    with (folder / entries["location"]).open("rb") as file:
        file.seek(int(entries.get("offset", 0)))
        content = file.read(tensor_bytes(tensor))
    loaded = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=content)
    return np.asarray(numpy_helper.to_array(loaded))


def sparse_values(sparse: onnx.SparseTensorProto) -> NDArray[Any] | None:
    """Dense values of a sparse tensor; None where it is large or damaged."""
    try:
        dims = tuple(sparse.dims)
        if math.prod(dims) > _SPARSE_LIMIT:
            return None
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        dense = np.zeros(dims, values.dtype)
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
        return dense
    except _VALUE_ERRORS:
        return None


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every stored tensor: of the graph, of subgraphs and of functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[TensorProto]:
    for item in node.attribute:
        if item.HasField("t"):
            yield item.t
        yield from item.tensors
        if item.HasField("g"):
            yield from _graph_tensors(item.g)
        for graph in item.graphs:
            yield from _graph_tensors(graph)
