"""Export of torch networks to ONNX files for TensorRT 8.2 and ONNX Runtime."""

from __future__ import annotations

import copy
import io
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import onnx
import onnxslim
import torch
from torch import nn

from exports.errors import ExportError
from exports.onnx.graph import count_graph_macs, opset_of, tensor_shape
from search_spaces import SegmentationNet, reparameterize
from search_spaces._common.files import atomic_path

INPUT_NAME = "image"
OUTPUT_NAME = "logits"

# The TorchScript exporter has global state: one export at a time per process.
_EXPORT_LOCK = threading.Lock()
_CHATTY_LOGGERS = ("torch.onnx", "onnxslim", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class OnnxFile:
    """An exported ONNX file.

    Attributes:
        path: the file.
        opset: version of the default operator set.
        input_name, output_name: tensor names, always ``image`` and ``logits``.
        input_shape: (1, 3, height, width), static.
        output_shape: (1, classes, height / stride, width / stride), static.
        macs: multiply-accumulates of one run.
        size_bytes: size of the file.
    """

    path: Path
    opset: int
    input_name: str
    output_name: str
    input_shape: tuple[int, int, int, int]
    output_shape: tuple[int, int, int, int]
    macs: int
    size_bytes: int


def export_onnx(
    net: nn.Module, input_hw: tuple[int, int], path: Path, *, opset: int = 13, subject: str = "the network"
) -> OnnxFile:
    """Write ``net`` as ONNX: float32, batch 1, static shapes, batch norms folded, simplified by onnxslim.

    Training-time branches (RepVGG) are merged. The output is deterministic. ``net`` is copied to the CPU; its mode, device,
    gradients, and the global random state are unchanged. The file is written atomically.

    Args:
        net: maps (1, 3, height, width) to low-resolution logits (1, classes, h, w).
        input_hw: height and width in pixels.
        path: the file to write; an existing one is replaced.
        opset: 11 to 20; TensorRT 8.2 supports up to 13.
        subject: name of the network in errors, for example ``candidate 3f2a (mobilenetv2, fpn)``.

    Raises:
        ExportError: an operator has no ONNX form at this opset, or the graph does not pass ``onnx.checker``.
        UserError: the file cannot be written.
        ValueError: the network does not return logits (1, classes, h, w), or the opset is out of range.
    """
    return write_model(onnx_model(net, input_hw, opset=opset, subject=subject), path)


def write_model(model: onnx.ModelProto, path: Path) -> OnnxFile:
    """Write a model atomically; the same model gives the same bytes.

    Raises:
        UserError: the file cannot be written.
    """
    payload = model.SerializeToString(deterministic=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(payload)
    return OnnxFile(
        path=path,
        opset=opset_of(model),
        input_name=INPUT_NAME,
        output_name=OUTPUT_NAME,
        input_shape=tensor_shape(model.graph.input[0]),  # type: ignore[arg-type]
        output_shape=tensor_shape(model.graph.output[0]),  # type: ignore[arg-type]
        macs=count_graph_macs(model),
        size_bytes=len(payload),
    )


def onnx_model(
    net: nn.Module, input_hw: tuple[int, int], *, opset: int = 13, subject: str = "the network", batch: int = 1
) -> onnx.ModelProto:
    """Export ``net`` to an ONNX model in memory; arguments and errors as in `export_onnx`.

    Args:
        batch: images per run, part of the model's static shapes.
    """
    if not 11 <= opset <= 20:
        raise ValueError(f"opset must be between 11 and 20, not {opset}")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        copied = cpu_copy(net)
        if isinstance(copied, SegmentationNet):
            copied = reparameterize(copied)
        example = torch.zeros(batch, 3, *input_hw)
        logits = copied(example)
        if not isinstance(logits, torch.Tensor) or logits.dim() != 4 or logits.shape[0] != batch:
            raise ValueError(f"a network to export returns logits ({batch}, classes, h, w), not {_describe(logits)}")
        model = _to_graph(copied, example, opset, subject)
    _strip(model)
    shape_out = tensor_shape(model.graph.output[0])
    if shape_out != tuple(logits.shape):
        raise ExportError(
            f"{subject} cannot be exported: the ONNX graph declares logits of shape {shape_out} "
            f"where the network gives {tuple(logits.shape)}. Please report it with the trial's parameters."
        )
    return model


def cpu_copy(net: nn.Module) -> nn.Module:
    """Copy ``net`` to the CPU as contiguous float32 in evaluation mode."""
    return copy.deepcopy(net).cpu().float().to(memory_format=torch.contiguous_format).eval()


def _to_graph(net: nn.Module, example: torch.Tensor, opset: int, subject: str) -> onnx.ModelProto:
    buffer = io.BytesIO()
    try:
        with _EXPORT_LOCK, _quiet_exporter():
            torch.onnx.export(
                net,
                (example,),
                cast(Any, buffer),
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                do_constant_folding=True,
            )
            model = onnxslim.slim(onnx.load_model_from_string(buffer.getvalue()))
        onnx.checker.check_model(model, full_check=True)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError, RuntimeError, TypeError, ValueError) as error:
        raise ExportError(_explain(error, opset, subject)) from error
    return model


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence Python warnings and the exporter's loggers below ERROR.

    stdout is not redirected, which would also affect other threads.
    """
    loggers = [logging.getLogger(name) for name in _CHATTY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _explain(error: Exception, opset: int, subject: str) -> str:
    text = " ".join(str(error).split())
    found = re.search(r"\b\w+::\w+", text)
    operator = f"operator {found.group()}" if found else "a part of its graph"
    return (
        f"{subject} cannot be exported to ONNX opset {opset}: {operator} has no such form ({text[:200]}). "
        "Leave that family or decoder out of the search space, or choose a device profile with a newer opset."
    )


def _strip(model: onnx.ModelProto) -> None:
    """Remove metadata that differs between machines: stack traces with source paths, tool names."""
    model.producer_name = "paretoseg"
    model.producer_version = ""
    model.doc_string = ""
    model.graph.name = "network"
    model.graph.doc_string = ""
    del model.metadata_props[:]
    for item in (*model.graph.node, *model.graph.initializer, *model.graph.value_info):
        item.doc_string = ""
        del item.metadata_props[:]


def _describe(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
