"""NAS-Bench-201 cells: parsing of architecture strings, graphs, and features.

A cell has four tensors, 0 (input) to 3 (output), and one operation on each of the six edges between them; fifteen equal
cells form the network, so the cell determines it. Features are computed on two graphs, because devices differ in what they
execute: an eager framework computes every edge, a compiler removes operations that do not reach the output. The space is
that of Dong and Yang (2020), "NAS-Bench-201"; the features are this project's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, permutations, product

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.pool import NetworkPool
from search_spaces._common.errors import UserError

Array = NDArray[np.float64]

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NONE, SKIP, CONV1, CONV3, POOL = OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
_COMPUTED = (CONV1, CONV3, POOL)
_CONVS = (CONV1, CONV3)
_TERM = re.compile(r"([a-z0-9_]+)~([0-9])")
_FORM = re.compile(r"\|[^|+]+\|\+\|[^|+]+\|[^|+]+\|\+\|[^|+]+\|[^|+]+\|[^|+]+\|")
_OUTPUT = 3

Edge = tuple[int, int, str]


@dataclass(frozen=True)
class CellNetwork:
    """One cell: the operation on each edge, in the order of ``EDGES``."""

    ops: tuple[str, ...]

    @classmethod
    def parse(cls, arch_str: str) -> CellNetwork:
        """Read ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

        Raises:
            UserError: the string has another format, or an operation is not one of ``OPS``.
        """
        terms = _TERM.findall(arch_str) if _FORM.fullmatch(arch_str) else []
        if len(terms) != len(EDGES) or [int(source) for _, source in terms] != [source for source, _ in EDGES]:
            raise UserError(
                f"an architecture has the form |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, found {arch_str!r}; "
                "give NAS-Bench-201 architecture strings."
            )
        unknown = sorted({name for name, _ in terms} - set(OPS))
        if unknown:
            raise UserError(f"an operation is one of {', '.join(OPS)}; found {', '.join(unknown)} in {arch_str!r}.")
        return cls(tuple(name for name, _ in terms))

    @cached_property
    def pruned(self) -> CellNetwork:
        """Copy with ``none`` on every edge that is not on a path from input to output."""
        return self.without(unfed=True, unused=True)

    def without(self, *, unfed: bool, unused: bool) -> CellNetwork:
        """Copy with ``none`` on edges that the input does not reach, and on those that do not reach the output."""
        edges = [(a, b) for (a, b), op in zip(EDGES, self.ops, strict=True) if op != NONE]
        fed, used = {0}, {_OUTPUT}
        for _ in EDGES:
            fed |= {b for a, b in edges if a in fed}
            used |= {a for a, b in edges if b in used}
        kept = [(a in fed or not unfed) and (b in used or not unused) for a, b in EDGES]
        return CellNetwork(tuple(op if keep else NONE for op, keep in zip(self.ops, kept, strict=True)))

    @property
    def connected(self) -> bool:
        """True if a path connects input and output."""
        return any(op != NONE for op in self.pruned.ops)

    @cached_property
    def graph(self) -> tuple[Edge, ...]:
        """Edges (from, to, operation) after pruning, with copied tensors replaced by their source.

        The inner tensors are ordered to make the tuple smallest, so isomorphic cells have equal graphs.
        """
        edges = [(a, b, op) for (a, b), op in zip(EDGES, self.pruned.ops, strict=True) if op != NONE]
        for node in (1, 2):
            into = [edge for edge in edges if edge[1] == node]
            if len(into) == 1 and into[0][2] == SKIP:
                edges = [(into[0][0] if a == node else a, b, op) for a, b, op in edges if b != node]
        inner = sorted({node for a, b, _ in edges for node in (a, b)} - {0, _OUTPUT})
        forms = []
        for order in permutations(range(1, len(inner) + 1)):
            names = {0: 0, _OUTPUT: _OUTPUT, **dict(zip(inner, order, strict=True))}
            renamed = sorted((names[a], names[b], op) for a, b, op in edges)
            if all(a < b for a, b, _ in renamed):
                forms.append(tuple(renamed))
        return min(forms)


def cell_pool(cells: Sequence[CellNetwork], sources_ms: Array | None = None) -> NetworkPool:
    """Build the pool of the cells for few-shot models, with latencies (n, m) in ms on other devices, NaN where unknown."""
    used = [cell.without(unfed=False, unused=True) for cell in cells]
    pruned = edge_features([cell.pruned for cell in cells])
    into_output = pruned[:, -3 * len(OPS[1:]) :]
    views = (edge_features(cells), graph_features(cells), edge_features(used), pruned, into_output)
    groups = np.array([0 if cell.connected else 1 for cell in cells], dtype=np.intp)
    work = np.array([9.0 * cell.ops.count(CONV3) + cell.ops.count(CONV1) for cell in cells])
    return NetworkPool.of(views, prior_terms(cells), sources_ms, groups, work)


def prior_terms(cells: Sequence[CellNetwork]) -> Array:
    """Compute additive terms of a cell's time, (n, 23) and ≥ 0: the rest of the network (1), then counts of operations.

    Five operations as executed eagerly; 1x1, 3x3, pooling, additions and single copies as compiled; then four operations
    each without edges that do not reach the output, without edges that the input does not reach, and without both.
    """
    rows = []
    for cell in cells:
        computed = [op for _, _, op in cell.graph]
        shorter = (cell.without(unfed=False, unused=True), cell.without(unfed=True, unused=False), cell.pruned)
        rows.append(
            [
                1.0,
                *(cell.ops.count(op) for op in OPS),
                *(computed.count(op) for op in _COMPUTED),
                len(computed) - len({b for _, b, _ in cell.graph}),
                sum(_single_copies(cell.graph)),
                *(other.ops.count(op) for other in shorter for op in OPS[1:]),
            ]
        )
    return np.array(rows, dtype=np.float64).reshape(len(cells), -1)


def edge_features(cells: Sequence[CellNetwork]) -> Array:
    """One-hot encode the operation on each edge, (n, 24); ``none`` is all zeros."""
    rows = [[op == known for op in cell.ops for known in OPS[1:]] for cell in cells]
    return np.array(rows, dtype=np.float64).reshape(len(cells), -1)


def graph_features(cells: Sequence[CellNetwork]) -> Array:
    """Count features of the compiled graph, (n, 43): operations, parallel and consecutive pairs, paths, fusions, memory."""
    return np.array([_graph_row(cell.graph) for cell in cells], dtype=np.float64).reshape(len(cells), -1)


def _graph_row(graph: tuple[Edge, ...]) -> list[float]:
    ops = [op for _, _, op in graph]
    into = {node: [op for _, b, op in graph if b == node] for node in range(4)}
    out_of = {node: [op for a, _, op in graph if a == node] for node in range(4)}
    # The next cell reads this one's output as its input, so tensor 3 is consumed as tensor 0 is.
    out_of[_OUTPUT], into[0] = out_of[0], into[_OUTPUT]
    tensors = [node for node in (1, 2, 3) if into[node]]
    row: list[float] = [ops.count(op) for op in _COMPUTED]
    row += [sum(_pairs(out_of[node], pair) for node in range(3)) for pair in _unordered(_COMPUTED)]
    row += [sum(_pairs(into[node], pair) for node in tensors) for pair in _unordered((SKIP, *_COMPUTED))]
    row += [
        sum(into[node].count(first) * out_of[node].count(second) for node in tensors)
        for first, second in product(_COMPUTED, repeat=2)
    ]
    additions = [node for node in tensors if len(into[node]) > 1]
    row += [len(tensors), sum(len(into[node]) - 1 for node in tensors)]
    row.append(sum(not any(op in _CONVS for op in into[node]) for node in additions))
    row.append(sum(SKIP in into[node] for node in additions))
    rectified = [node for node in tensors if any(op in _CONVS for op in out_of[node])]
    row.append(len(rectified))
    row.append(sum(any(op not in _CONVS for op in out_of[node]) for node in rectified))
    row.append(sum(_single_copies(graph)))
    row += [
        _longest(graph, dict.fromkeys(_COMPUTED, 1.0)),
        _longest(graph, dict.fromkeys(_CONVS, 1.0)),
        _longest(graph, {CONV3: 1.0}),
        _longest(graph, {CONV1: 1.0, CONV3: 9.0, POOL: 1.0}),
        _longest(graph, dict.fromkeys(OPS, 1.0)),
    ]
    row.append(max((len(out_of[node]) for node in range(3)), default=0))
    row.append(_peak_tensors(graph))
    row.append(float(any(a == 0 and b == _OUTPUT and op == SKIP for a, b, op in graph)))
    return row


def _unordered(ops: Sequence[str]) -> list[tuple[str, str]]:
    return list(combinations_with_replacement(ops, 2))


def _pairs(ops: Sequence[str], pair: tuple[str, str]) -> float:
    """Count the pairs of these two operations among ``ops``."""
    first, second = pair
    count = ops.count(first)
    return count * (count - 1) / 2 if first == second else count * ops.count(second)


def _single_copies(graph: tuple[Edge, ...]) -> list[bool]:
    """Flag each computed tensor that is a single copy (only the output: inner ones are replaced)."""
    nodes = sorted({b for _, b, _ in graph})
    return [[op for _, b, op in graph if b == node] == [SKIP] for node in nodes]


def _longest(graph: tuple[Edge, ...], weight: dict[str, float]) -> float:
    best = {0: 0.0}
    for a, b, op in sorted(graph, key=lambda edge: (edge[1], edge[0])):
        best[b] = max(best.get(b, 0.0), best.get(a, 0.0) + weight.get(op, 0.0))
    return best.get(_OUTPUT, 0.0)


def _peak_tensors(graph: tuple[Edge, ...]) -> float:
    """Maximum number of tensors alive at once if the inner ones are computed in order."""
    last_read = {a: max(b for first, b, _ in graph if first == a) for a, _, _ in graph}
    return float(max((sum(born <= step <= last_read[born] for born in last_read) + 1 for step in (1, 2, 3)), default=1))
