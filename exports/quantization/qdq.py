"""Export of quantized networks as ONNX with QuantizeLinear/DequantizeLinear pairs, which ONNX Runtime fuses to 8-bit kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from exports.onnx.export import OnnxFile, write_model
from exports.quantization.net import QuantizedNet
from exports.quantization.ops import Step

_INT32 = np.iinfo(np.int32)


def export_quantized(net: QuantizedNet, path: Path) -> OnnxFile:
    """Write ``net`` as ONNX: float32 input and output, 8-bit weights and activations, opset of the float export.

    Raises:
        UserError: the file cannot be written.
    """
    return write_model(qdq_model(net), path)


def qdq_model(net: QuantizedNet) -> onnx.ModelProto:
    """Make the ONNX model with the network's current weights and ranges."""
    model = onnx.load_model_from_string(net.graph)
    writer = _Writer(net, model)
    writer.write()
    onnx.checker.check_model(model, full_check=True)
    return model


class _Writer:
    """Rewrites a float graph's nodes and initializers in place."""

    def __init__(self, net: QuantizedNet, model: onnx.ModelProto) -> None:
        self._net, self._graph = net, model.graph
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._float_constants = {tensor.name: tensor for tensor in self._graph.initializer}
        self._read_as: dict[str, str] = {}
        self._raw: dict[str, str] = {}

    def write(self) -> None:
        net, program = self._net, self._net.program
        self._quantize(program.source)
        constants = [node for node in self._graph.node if node.op_type == "Constant"]
        self._nodes += constants
        for step, node in zip(program.steps, self._computing(), strict=True):
            if step.name in net.placement.fused_activations:
                self._raw[step.outputs[0]] = self._raw.get(step.inputs[0], step.inputs[0])
            else:
                self._nodes.append(self._rewritten(step, node))
            for name in step.outputs:
                self._quantize(name)
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(self._initializers.values())

    def _computing(self) -> list[onnx.NodeProto]:
        return [node for node in self._graph.node if node.op_type != "Constant"]

    def _rewritten(self, step: Step, original: onnx.NodeProto) -> onnx.NodeProto:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        integer = step.name in self._net.placement.integer_steps
        for position, name in enumerate(step.inputs):
            if name in self._float_constants:
                node.input[position] = self._constant(step, position, name, integer)
            else:
                node.input[position] = self._read_as.get(name, name)
        for position, name in enumerate(step.outputs):
            if name == self._net.program.result and self._net.is_quantized(name):
                self._raw[name] = f"{name}_float"
                node.output[position] = self._raw[name]
        return node

    def _constant(self, step: Step, position: int, name: str, integer: bool) -> str:
        if integer and position in (1, 2):
            return self._weight(step) if position == 1 else self._bias(step)
        if not self._net.has_operand(step, position):
            self._initializers[name] = self._float_constants[name]
            return name
        held = f"{step.name}_{position}"
        return self._add(held, self._net.operand(step, position).detach().cpu().numpy())

    def _weight(self, step: Step) -> str:
        scale = self._net.weight_scale(step).cpu().numpy()
        value = self._net.operand(step, 1).detach().cpu().numpy()
        limit = self._net.weight_limit
        steps = np.rint(value / scale.reshape(-1, *[1] * (value.ndim - 1))).clip(-limit, limit).astype(np.int8)
        return self._dequantized(f"{step.name}_weight", steps, scale, np.zeros(len(scale), np.int8), axis=0)

    def _bias(self, step: Step) -> str:
        scale = self._net.qparams(step.inputs[0])[0].cpu().numpy() * self._net.weight_scale(step).cpu().numpy()
        value = self._net.operand(step, 2).detach().cpu().numpy()
        steps = np.rint(value.astype(np.float64) / scale).clip(_INT32.min, _INT32.max).astype(np.int32)
        return self._dequantized(f"{step.name}_bias", steps, scale, np.zeros(len(scale), np.int32), axis=0)

    def _dequantized(self, name: str, steps: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], axis: int) -> str:
        given = [self._add(name, steps), self._add(f"{name}_scale", scale.astype(np.float32))]
        given.append(self._add(f"{name}_zero_point", zero))
        node = helper.make_node("DequantizeLinear", given, [f"{name}_float"], name=f"{name}_dequantize", axis=axis)
        self._nodes.append(node)
        return f"{name}_float"

    def _quantize(self, name: str) -> None:
        """Quantize value ``name`` if the network does; nodes added later read the quantized value."""
        if not self._net.is_quantized(name):
            return
        scale, zero = self._net.qparams(name)
        facts = [
            self._add(f"{name}_scale", scale.detach().cpu().numpy()),
            self._add(f"{name}_zero_point", zero.cpu().numpy().astype(np.uint8)),
        ]
        rounded = name if name == self._net.program.result else f"{name}_rounded"
        raw = self._raw.get(name, name)
        self._nodes.append(
            helper.make_node("QuantizeLinear", [raw, *facts], [f"{name}_steps"], name=f"{name}_quantize")
        )
        steps = [f"{name}_steps", *facts]
        self._nodes.append(helper.make_node("DequantizeLinear", steps, [rounded], name=f"{name}_dequantize"))
        self._read_as[name] = rounded

    def _add(self, name: str, value: NDArray[Any]) -> str:
        self._initializers[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name
