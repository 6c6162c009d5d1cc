"""Placement of quantization in an exported graph, such that ONNX Runtime uses its 8-bit kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from exports.onnx.graph import attributes, value_shapes
from exports.quantization.ops import COMPUTE_WITH_CONSTANTS, Step, check_step

# Operators with an 8-bit kernel in ONNX Runtime's CPU provider, given Q/DQ around them.
_COMPUTES = frozenset({"Conv", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "Sigmoid", "LeakyRelu"})
# Operators that pass 8-bit values on with unchanged scale.
_PASSES_ON = frozenset({"MaxPool", "Resize"})
_RESIZE_MODES = ("nearest", "linear")
_CLAMPS = frozenset({"Relu", "Clip"})


@dataclass(frozen=True)
class Program:
    """An ONNX graph as a sequence of steps in execution order.

    Attributes:
        steps: the nodes, except constants.
        constants: arrays by name.
        source, result: names of input and output.
        input_shape: (1, 3, height, width).
    """

    steps: tuple[Step, ...]
    constants: Mapping[str, NDArray[Any]]
    source: str
    result: str
    input_shape: tuple[int, ...]

    def last_uses(self) -> list[tuple[str, ...]]:
        """Names of the values that are no longer needed after each step."""
        last = {name: index for index, step in enumerate(self.steps) for name in (*step.inputs, *step.outputs)}
        del last[self.result]
        freed: list[list[str]] = [[] for _ in self.steps]
        for name, index in last.items():
            if name and name not in self.constants:
                freed[index].append(name)
        return [tuple(names) for names in freed]


@dataclass(frozen=True)
class Placement:
    """Placement of quantization in a program.

    Attributes:
        values: names of quantized values, in order of appearance.
        shared_qparams: value to the value whose scale and zero point it reuses.
        truncated: values that the runtime truncates instead of rounding to nearest: results of its 8-bit linear Resize.
        integer_steps: names of the convolutions computed in integers.
        fused_activations: names of the Relu and Clip steps that quantizing their result makes redundant.
    """

    values: tuple[str, ...]
    shared_qparams: Mapping[str, str]
    truncated: frozenset[str]
    integer_steps: frozenset[str]
    fused_activations: frozenset[str]


def with_global_pools(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model with spatial means replaced by GlobalAveragePool, which has an 8-bit kernel."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        values = attributes(node)
        if node.op_type == "ReduceMean" and values.get("axes") in ([2, 3], [-2, -1]) and values.get("keepdims", 1) == 1:
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
    return changed


def read_program(model: onnx.ModelProto, check: Callable[[Step], None] = check_step) -> Program:
    """Convert the graph of a model with static shapes to a program.

    Args:
        check: raises ExportError for a step that is not supported.

    Raises:
        ExportError: an operator is not supported.
    """
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    shapes = value_shapes(model)
    steps: list[Step] = []
    for index, node in enumerate(graph.node):
        values = attributes(node)
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(values["value"])
            continue
        name = node.name if node.name and all(node.name != step.name for step in steps) else f"{node.op_type}_{index}"
        out_shape = tuple(size or 0 for size in shapes.get(node.output[0], ()))
        step = Step(node.op_type, name, tuple(node.input), tuple(node.output), values, out_shape)
        check(step)
        steps.append(step)
    source = next(value.name for value in graph.input if value.name not in constants)
    shape = tuple(size or 0 for size in shapes[source])
    return Program(tuple(steps), constants, source, graph.output[0].name, shape)


def place(program: Program) -> Placement:
    """Quantize the inputs and outputs of 8-bit kernels; all other values stay in float.

    A convolution's result is quantized after the following activation, so that both form one kernel. Hard-swish has no 8-bit
    kernel and stays in float. The scheme is that of arXiv 1806.08342: per-channel weights, one scale for each activation.
    """
    uses = Counter(name for step in program.steps for name in step.inputs)
    uses[program.result] += 1
    readers: dict[str, list[Step]] = {}
    for step in program.steps:
        for name in step.inputs:
            readers.setdefault(name, []).append(step)
    swishes = _swishes(program)
    integer = [step for step in program.steps if _has_kernel(step, program) and step.name not in swishes]
    fused: set[str] = set()
    wanted: set[str] = set()
    for step in integer:
        wanted.update(name for name in step.inputs if name and name not in program.constants)
        result = step.outputs[0]
        behind = readers.get(result, [])
        if uses[result] == 1 and behind and _clamps_around_zero(behind[0], program):
            fused.add(behind[0].name)
            result = behind[0].outputs[0]
        wanted.add(result)
    shared: dict[str, str] = {}
    order = [program.source] if program.source in wanted else []
    for step in program.steps:
        result = step.outputs[0]
        if _passes_on(step) and step.inputs[0] in wanted:
            wanted.add(result)
            shared[result] = shared.get(step.inputs[0], step.inputs[0])
        order += [name for name in step.outputs if name in wanted]
    convolutions = frozenset(step.name for step in integer if step.op == "Conv")
    resized = {step.outputs[0] for step in program.steps if step.op == "Resize" and step.attributes["mode"] == "linear"}
    return Placement(tuple(order), shared, frozenset(resized & set(shared)), convolutions, frozenset(fused))


def _has_kernel(step: Step, program: Program) -> bool:
    if step.op not in _COMPUTES or len(step.out_shape) != 4:
        return False
    if step.op == "Conv":
        return step.inputs[0] not in program.constants and step.inputs[1] in program.constants
    return not any(name in program.constants for name in step.inputs)


def _passes_on(step: Step) -> bool:
    return step.op in _PASSES_ON and (step.op != "Resize" or step.attributes.get("mode", "nearest") in _RESIZE_MODES)


def _clamps_around_zero(step: Step, program: Program) -> bool:
    """True for a Relu or a Clip with bounds around 0, which a quantized range that includes 0 can represent."""
    if step.op not in _CLAMPS:
        return False
    bounds = [program.constants[name] for name in step.inputs[1:3] if name]
    if step.op == "Relu":
        return True
    return len(bounds) == 2 and float(bounds[0]) <= 0.0 < float(bounds[1])


def _swishes(program: Program) -> set[str]:
    """Names of the products ``x * hard_sigmoid(x)``."""
    gates = {step.outputs[0]: step.inputs[0] for step in program.steps if step.op == "HardSigmoid"}
    products = [step for step in program.steps if step.op == "Mul"]
    return {
        step.name
        for step in products
        for gate, other in (step.inputs, step.inputs[::-1])
        if gate in gates and gates[gate] == other
    }


def is_operand(step: Step) -> bool:
    """True if the step's constants are operands, not settings such as axes."""
    return step.op in COMPUTE_WITH_CONSTANTS


def floats(constant: NDArray[Any]) -> NDArray[np.float32]:
    """A constant as float32."""
    return np.asarray(constant, dtype=np.float32)
