"""Writing of `solution.pyz`, the submission to the segmentation track of the LPCVC 2023."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import onnx

from exports import TrainedNetwork, export_quantized
from exports.bundle.fp16 import Half, half_step
from exports.bundle.inputs import CheckImages
from exports.bundle.plain_network import plain_network
from exports.onnx.export import onnx_model
from exports.onnx.graph import tensor_shape
from hw_latency_model.board.runner_archive import runner_archive
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path

LPCVC_CLASSES = 14
_OPSET = 13  # of the referee's board, TensorRT 8.2
_MAIN = """\
import sys
import zipfile

ARCHIVE = sys.argv[0]


def read(name):
    with zipfile.ZipFile(ARCHIVE) as archive:
        return archive.read("data/" + name)


if __name__ == "__main__":
    from hw_latency_model.onboard.solution import main

    sys.exit(main(sys.argv[1:], read, ARCHIVE))
"""


def write_solution(
    target: Path,
    network: TrainedNetwork,
    *,
    batch: int = 1,
    least_region_pixels: int = 0,
    checked_on: CheckImages | None = None,
) -> Path:
    """Write a network as an archive that the referee runs; return ``target``.

    The archive holds the network for TensorRT, whose plan it builds and packs on the board (``solution.pyz --build``), and as plain
    data for torch. A network in INT8 is packed for torch only: the referee's board has no 8-bit kernels.

    Args:
        target: file to write, usually called ``solution.pyz``.
        network: a network with the 14 classes of the competition.
        batch: images per run.
        least_region_pixels: predicted regions with fewer pixels are removed; 0: none.
        checked_on: the network and images on which one in FP16 is held to a bundle's limits of FP16; nodes that break them stay in float32.
            None: all nodes are in FP16.

    Raises:
        UserError: another number of classes, a batch below 1, or the file cannot be written.
        ParityError: no choice of nodes in float32 meets the limits.
        ExportError: the network cannot be exported.
    """
    if len(network.class_names) != LPCVC_CLASSES:
        raise UserError(
            f"a solution for the LPCVC 2023 tells {LPCVC_CLASSES} classes apart, this network {len(network.class_names)}. "
            "Choose a study on data of kind lpcvc or synthetic."
        )
    if batch < 1 or least_region_pixels < 0:
        raise UserError(
            f"a batch is at least 1 image and a region at least 0 pixels, not {batch} and {least_region_pixels}."
        )
    data: dict[str, bytes] = {}
    keep: tuple[str, ...] = ()
    if network.quantized is None:
        model = onnx_model(network.net, network.input_hw, opset=_OPSET)
        built = model if batch == 1 else onnx_model(network.net, network.input_hw, opset=_OPSET, batch=batch)
        data["network.onnx"] = built.SerializeToString(deterministic=True)
        if network.precision == "fp16" and checked_on is not None:
            keep = _kept_in_fp32(model, checked_on)
    else:
        with tempfile.TemporaryDirectory() as folder:
            model = onnx.load(str(export_quantized(network.quantized, Path(folder) / "network.onnx").path))
    plain = plain_network(model)
    _, classes, height, width = tensor_shape(model.graph.output[0])
    settings = {
        "input_hw": list(network.input_hw),
        "output_shape": [batch, classes, height, width],
        "mean": list(network.mean),
        "std": list(network.std),
        "batch": batch,
        "least_region_pixels": least_region_pixels,
        "precision": network.precision,
        "keep_fp32": list(keep),
    }
    data |= {
        "graph.json": plain.graph_json(),
        "weights.safetensors": plain.weights(),
        "settings.json": json.dumps(settings).encode(),
    }
    with atomic_path(target) as temporary:
        temporary.write_bytes(runner_archive(_MAIN, data, "/usr/bin/env python3.6"))
    target.chmod(0o755)
    return target


def _kept_in_fp32(model: onnx.ModelProto, checked_on: CheckImages) -> tuple[str, ...]:
    """Nodes that stay in float32, by the FP16 step of bundles; none where torch cannot round the network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(model.SerializeToString())
        half = half_step(path, checked_on)
    return half.kept if isinstance(half, Half) else ()
