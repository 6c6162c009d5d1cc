"""Conversion of trained networks to INT8 and FP16."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from exports.onnx.export import onnx_model
from exports.quantization.net import Calibration, HalfNet, QuantizedNet

__all__ = ["HalfNet", "QuantizedNet", "half_precision", "pack_quantized", "quantize", "unpack_quantized"]


def quantize(
    net: nn.Module,
    input_hw: tuple[int, int],
    batches: Iterable[Tensor],
    *,
    calibration: Calibration = "average",
    weight_bits: int = 8,
    opset: int = 13,
    subject: str = "the network",
) -> QuantizedNet:
    """Quantize ``net`` to INT8: batch norms folded, activation ranges calibrated on images; on the CPU in evaluation mode.

    The result is equivalent to its Q/DQ export and can be trained further. ``net`` is unchanged.

    Args:
        batches: normalised float32 images (N, 3, *input_hw), on the CPU.
        calibration: see ``QuantizedNet.calibrate``.
        weight_bits: 7 for x86 processors without VNNI.

    Raises:
        ExportError: the network cannot be exported, or has an unsupported operator.
        ValueError: there are no images, or activations are not finite.
    """
    quantized = QuantizedNet(onnx_model(net, input_hw, opset=opset, subject=subject), weight_bits=weight_bits).eval()
    quantized.calibrate(batches, calibration)
    return quantized


def half_precision(net: nn.Module, input_hw: tuple[int, int], *, subject: str = "the network") -> HalfNet:
    """Simulate ``net`` in FP16, on the CPU in evaluation mode.

    Raises:
        ExportError: as ``quantize``.
    """
    return HalfNet(onnx_model(net, input_hw, subject=subject)).eval()


def pack_quantized(net: QuantizedNet) -> dict[str, Any]:
    """Convert ``net`` to tensors and plain values, for a file that ``torch.load(weights_only=True)`` can read."""
    graph = torch.from_numpy(np.frombuffer(net.graph, np.uint8).copy())
    state = {name: value.detach().cpu() for name, value in net.state_dict().items()}
    return {"graph": graph, "weight_bits": net.weight_bits, "state": state}


def unpack_quantized(packed: Mapping[str, Any]) -> QuantizedNet:
    """Inverse of ``pack_quantized``; in evaluation mode, on the CPU."""
    model = onnx.load_model_from_string(packed["graph"].numpy().tobytes())
    net = QuantizedNet(model, weight_bits=int(packed["weight_bits"]))
    net.load_state_dict(packed["state"])
    return net.eval()
