"""Execution of a network's graph in torch 1.10 on; needs neither onnx nor timm."""

import time
from typing import Any, Dict, Tuple

import numpy as np
import torch

from exports.onnx.torch_operators import OPERATIONS, as_quantized, as_real

from .network_data import Network

# Operators whose arrays are operands; those of all others are settings such as axes and sizes.
_OPERANDS = (
    ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Concat", "PRelu")
    + ("BatchNormalization", "QuantizeLinear", "DequantizeLinear")
)  # fmt: skip
_KNOWN = dict(OPERATIONS, QuantizeLinear=as_quantized, DequantizeLinear=as_real)


class TorchNetwork(object):
    """A network on the GPU where torch has one, else on the CPU.

    Args:
        half: in FP16; on the CPU weights and activations are rounded to it and sums are in float32.
    """

    name = "torch"

    def __init__(self, network: Network, half: bool = False) -> None:
        self.network, self.half = network, half
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        operands = {
            name for step in network.steps if step.op in _OPERANDS for name in step.inputs if name in network.arrays
        }
        self.operands: Dict[str, Any] = {
            name: self._rounded(torch.from_numpy(np.array(network.arrays[name])).to(self.device)) for name in operands
        }

    def run(self, images: Any) -> Tuple[Any, float]:
        """Run images, float32 (N, 3, height, width); return their logits, float32, and the seconds of the network alone."""
        with torch.no_grad():
            source = self._rounded(torch.from_numpy(np.ascontiguousarray(images)).to(self.device))
            if self.device.type == "cuda":
                cuda: Any = torch.cuda
                begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
                begin.record()
                result = self._forward(source)
                end.record()
                torch.cuda.synchronize()
                seconds = begin.elapsed_time(end) / 1e3
            else:
                started = time.perf_counter()
                result = self._forward(source)
                seconds = time.perf_counter() - started
            return result.float().cpu().numpy(), seconds

    def _forward(self, source: Any) -> Any:
        network = self.network
        values = {network.source: source}
        for step, freed in zip(network.steps, network.freed):
            found = _KNOWN[step.op](step, *[self._argument(step.op, name, values) for name in step.inputs])
            results = (found,) if isinstance(found, torch.Tensor) else found
            values.update(zip(step.outputs, [self._rounded(result) for result in results]))
            for name in freed:
                values.pop(name, None)
        return values[network.result]

    def _rounded(self, value: Any) -> Any:
        if not self.half or not value.is_floating_point():
            return value
        return value.half() if self.device.type == "cuda" else value.half().float()

    def _argument(self, op: str, name: str, values: Dict[str, Any]) -> Any:
        if not name:
            return None
        if name in values:
            return values[name]
        return self.operands[name] if op in _OPERANDS else self.network.arrays[name]
