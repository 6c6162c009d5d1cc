"""Control flow and local functions of an ONNX graph: branches taken, bodies repeated, calls inlined."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto

from exports.errors import ExportError
from exports.onnx.graph import attributes
from exports.onnx.macs import Shape
from exports.onnx.recorder import DEPTH_LIMIT, NODE_LIMIT, StaticNode
from exports.onnx.sequences import SequenceReader
from exports.onnx.values import Value, open_shape

STEP_LIMIT = 20_000
"""Operators that repeated bodies are read as, one by one; beyond, a body is read once and its operators are repeated."""


class ControlFlowReader(SequenceReader, ABC):
    """Reader of If, Loop, Scan, SequenceMap and of calls of local functions."""

    @abstractmethod
    def _graph(
        self, graph: onnx.GraphProto, env: dict[str, Value], scope: str, opsets: Mapping[str, int], depth: int
    ) -> list[Value]:
        """Read a graph; ``env`` has its inputs and what the graphs around it hold."""

    @abstractmethod
    def _nodes(
        self,
        nodes: Sequence[onnx.NodeProto],
        env: dict[str, Value],
        scope: str,
        opsets: Mapping[str, int],
        depth: int,
        declared: Mapping[str, onnx.TypeProto],
    ) -> None:
        """Read nodes and put their outputs into ``env``."""

    def _call(
        self, function: onnx.FunctionProto, node: onnx.NodeProto, name: str, inputs: Sequence[Value | None], depth: int
    ) -> list[Value | None]:
        if depth > DEPTH_LIMIT:
            raise ExportError(f"{self.file.source} nests its functions over {DEPTH_LIMIT} deep. Export it again.")
        bound = {item.name: item for item in function.attribute_proto}
        bound.update({item.name: item for item in node.attribute})
        env = {key: value for key, value in zip(function.input, inputs, strict=False) if value is not None}
        absent = set(function.input) - set(env)
        body = [_bound_node(item, bound, absent) for item in function.node]
        opsets = {"" if item.domain == "ai.onnx" else item.domain: item.version for item in function.opset_import}
        declared = {item.name: item.type for item in function.value_info}
        self._nodes(body, env, f"{name}/", opsets, depth + 1, declared)
        return [env.get(key) for key in function.output]

    def _control(
        self,
        node: onnx.NodeProto,
        name: str,
        inputs: Sequence[Value | None],
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
    ) -> Sequence[Value | None]:
        graphs = {item.name: item.g for item in node.attribute if item.HasField("g")}
        if node.op_type == "If":
            condition = inputs[0].scalar() if inputs and inputs[0] is not None else None
            if condition is not None:
                taken = graphs["then_branch" if condition else "else_branch"]
                return self._graph(taken, dict(env), f"{name}/", opsets, depth + 1)
            return self._dearer_branch(graphs, name, env, opsets, depth)
        body = graphs.get("body")
        if body is None:
            raise self._invalid(f"{name} has no body")
        if node.op_type == "Loop":
            return self._loop(body, name, inputs, env, opsets, depth)
        if node.op_type == "Scan":
            return self._scan(node, body, name, inputs, env, opsets, depth)
        return self._map(body, name, inputs, env, opsets, depth)

    def _dearer_branch(
        self,
        graphs: Mapping[str, onnx.GraphProto],
        name: str,
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
    ) -> Sequence[Value | None]:
        """Read both branches and keep the one with more work."""
        start, before = len(self.nodes), dict(self.notes)
        read: list[tuple[tuple[int, int], list[StaticNode], dict[str, None], list[Value]]] = []
        failure: ExportError | None = None
        for key in ("then_branch", "else_branch"):
            self.notes = dict(before)
            try:
                values = self._graph(graphs[key], dict(env), f"{name}/{key}/", opsets, depth + 1)
            except ExportError as error:
                failure = error
            else:
                made = self.nodes[start:]
                read.append(((sum(item.macs for item in made), len(made)), made, dict(self.notes), values))
            del self.nodes[start:]
        self.notes = before
        if not read:
            raise failure or self._invalid(f"{name} has no branch")
        _, nodes, notes, values = max(read, key=lambda item: item[0])
        self.nodes += nodes
        self.notes = {**notes, f"{name}: which branch runs is decided by the data; counted with the dearer one": None}
        return values

    def _loop(
        self,
        body: onnx.GraphProto,
        name: str,
        inputs: Sequence[Value | None],
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
    ) -> list[Value | None]:
        trips = None if inputs[0] is None else inputs[0].scalar()
        condition: Value | None = inputs[1] if len(inputs) > 1 else None
        unsure = inputs[0] is not None and trips is None
        running = True if condition is None else condition.scalar()
        unsure = unsure or running is None or (inputs[0] is None and condition is None)
        carried: list[Value | None] = list(inputs[2:])
        collected: list[list[Value]] = [[] for _ in body.output[1 + len(carried) :]]
        limit = math.inf if trips is None else int(trips)
        counter = 0
        start = len(self.nodes)
        steps = self.steps
        while counter < limit and running is not False and not (running is not None and not running):
            inner = dict(env)
            scope = f"{name}/{counter}/" if counter else f"{name}/"
            number = self._value(f"{scope}iteration", TensorProto.INT64, (), constant=True, data=np.array(counter))
            proceed = self._value(f"{scope}condition", TensorProto.BOOL, (), constant=True, data=np.array(True))
            for item, value in zip(body.input, [number, proceed, *carried], strict=False):
                if value is not None:
                    inner[item.name] = value
            results = self._graph(body, inner, scope, opsets, depth + 1)
            running = results[0].scalar()
            carried = list(results[1 : 1 + len(carried)])
            for held, value in zip(collected, results[1 + len(carried) :], strict=True):
                held.append(value)
            counter += 1
            self.steps += 1
            unsure = unsure or (running is None)
            if unsure:
                break
            if self.steps - steps > STEP_LIMIT:
                if math.isinf(limit):
                    unsure = True
                else:
                    counter = self._repeat(start, counter, int(limit))
                break
        if unsure:
            self.notes[f"{name}: how often the loop runs is decided by the data; its body is counted once"] = None
        stacked: list[Value | None] = []
        for item, held in zip(body.output[1 + len(carried) :], collected, strict=True):
            inside: Shape = held[0].shape if held else ()
            kind = held[0].kind if held else item.type.tensor_type.elem_type or TensorProto.FLOAT
            if not held:
                inside = tuple(size or 1 for size in open_shape(item.type.tensor_type, self.dims) or ())
            stacked.append(self._value(f"{name}/{item.name}/all", kind, (counter, *inside)))
        return [*carried, *stacked]

    def _repeat(self, start: int, done: int, times: int) -> int:
        """Emit the operators read since ``start``, which are ``done`` runs of a body, until they are ``times`` runs."""
        read = self.nodes[start:]
        each = len(read) // max(done, 1)
        last = read[len(read) - each :]
        if not each:
            return times
        if start + each * times > NODE_LIMIT:
            raise ExportError(
                f"{self.file.source} runs over {NODE_LIMIT} operators; its loops are too long to be counted."
            )
        for index in range(done, times):
            self.nodes += [replace(item, name=f"{item.name}/{index}") for item in last]
        return times

    def _scan(
        self,
        node: onnx.NodeProto,
        body: onnx.GraphProto,
        name: str,
        inputs: Sequence[Value | None],
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
    ) -> list[Value | None]:
        values = attributes(node)
        count = int(values.get("num_scan_inputs", 0))
        batched = opsets.get("", 9) < 9
        given = [item for item in (inputs[1:] if batched else inputs) if item is not None]
        carried, scanned = given[: len(given) - count], given[len(given) - count :]
        axes = [int(axis) for axis in values.get("scan_input_axes", [0] * count)]
        batch = given[0].shape[0] if batched and given and given[0].shape else 1
        if batched:
            carried = [replace(item, shape=item.shape[1:]) for item in carried]
            axes = [1] * count
        length = scanned[0].shape[axes[0]] if scanned and scanned[0].shape else 0
        start, steps = len(self.nodes), self.steps
        states, runs, counter = list(carried), batch * length, 0
        collected: list[Value] = []
        while counter < runs:
            scope = f"{name}/{counter}/" if counter else f"{name}/"
            inner = dict(env)
            slices = []
            for index, (item, axis) in enumerate(zip(scanned, axes, strict=True)):
                shape = [size for place, size in enumerate(item.shape) if place != axis % len(item.shape)]
                part = shape[1:] if batched else shape
                slices.append(self._value(f"{scope}slice{index}", item.kind, tuple(part), constant=item.constant))
            for declared, value in zip(body.input, [*states, *slices], strict=False):
                inner[declared.name] = value
            collected = self._graph(body, inner, scope, opsets, depth + 1)
            states = collected[: len(carried)]
            counter += 1
            self.steps += 1
            if self.steps - steps > STEP_LIMIT:
                counter = self._repeat(start, counter, runs)
        front = (batch,) if batched else ()
        found: list[Value | None] = [
            self._value(f"{name}/{index}/last", item.kind, (*front, *item.shape)) for index, item in enumerate(states)
        ]
        out_axes = [int(axis) for axis in values.get("scan_output_axes", [0] * len(body.output))]
        for index, item in enumerate(collected[len(carried) :]):
            shape = list(item.shape)
            axis = out_axes[index] if index < len(out_axes) else 0
            shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, length)
            found.append(self._value(f"{name}/{index}/all", item.kind, (*front, *shape)))
        return found

    def _map(
        self,
        body: onnx.GraphProto,
        name: str,
        inputs: Sequence[Value | None],
        env: Mapping[str, Value],
        opsets: Mapping[str, int],
        depth: int,
    ) -> list[Value | None]:
        first = inputs[0]
        length = len(first.items or ()) if first is not None else 0
        outputs: list[list[Value]] = [[] for _ in body.output]
        for index in range(length):
            inner = dict(env)
            for item, value in zip(body.input, inputs, strict=False):
                if value is not None:
                    inner[item.name] = value.items[index] if value.items else value
            for held, value in zip(
                outputs, self._graph(body, inner, f"{name}/{index}/", opsets, depth + 1), strict=True
            ):
                held.append(value)
        return [self._list(f"{name}/{index}/all", held) for index, held in enumerate(outputs)]


def _bound_node(
    node: onnx.NodeProto, bound: Mapping[str, onnx.AttributeProto], absent: set[str] | frozenset[str]
) -> onnx.NodeProto:
    """A copy of a function's node with the caller's attributes, and without the inputs that the caller left out."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    for item in node.attribute:
        if item.ref_attr_name:
            given = bound.get(item.ref_attr_name)
            if given is not None:
                taken = made.attribute.add()
                taken.CopyFrom(given)
                taken.name = item.name
            continue
        kept = made.attribute.add()
        kept.CopyFrom(item)
        if kept.HasField("g"):
            inner = [_bound_node(part, bound, absent) for part in kept.g.node]
            del kept.g.node[:]
            kept.g.node.extend(inner)
    inputs = ["" if name in absent else name for name in node.input]
    del made.input[:]
    made.input.extend(inputs)
    return made
