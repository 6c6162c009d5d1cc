"""Execution of a network's graph in torch 1.10 on; needs neither onnx nor timm."""

import time
from typing import Any, Dict, Iterable, Tuple

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
        keep_fp32: names of nodes that compute in float32 all the same.
    """

    name = "torch"

    def __init__(self, network: Network, half: bool = False, keep_fp32: Iterable[str] = ()) -> None:
        self.network, self.half = network, half
        self.keep = frozenset(keep_fp32 if half else ())
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.operands: Dict[Tuple[str, bool], Any] = {}
        for step in network.steps:
            exact = step.name in self.keep
            for name in step.inputs if step.op in _OPERANDS else ():
                if name in network.arrays and (name, exact) not in self.operands:
                    array = torch.from_numpy(np.array(network.arrays[name])).to(self.device)
                    self.operands[name, exact] = array if exact else self._rounded(array)

    def run(self, images: Any) -> Tuple[Any, float]:
        """Run images, float32 (N, 3, height, width); return their logits, float32, and the seconds of the network alone."""
        with torch.no_grad():
            source = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
            source = source if self.keep else self._rounded(source)
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
            exact = step.name in self.keep
            found = _KNOWN[step.op](step, *[self._argument(step.op, name, values, exact) for name in step.inputs])
            results = (found,) if isinstance(found, torch.Tensor) else found
            values.update(zip(step.outputs, [result if exact else self._rounded(result) for result in results]))
            for name in freed:
                values.pop(name, None)
        return values[network.result]

    def _rounded(self, value: Any) -> Any:
        if not self.half or not value.is_floating_point():
            return value
        return value.half() if self.device.type == "cuda" else value.half().float()

    def _argument(self, op: str, name: str, values: Dict[str, Any], exact: bool) -> Any:
        if not name:
            return None
        if name in values:
            value = values[name]
            if not self.keep or not value.is_floating_point():
                return value
            return value.float() if exact else self._rounded(value)
        return self.operands[name, exact] if op in _OPERANDS else self.network.arrays[name]
