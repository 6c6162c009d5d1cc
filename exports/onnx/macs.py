"""Multiply-accumulates of one ONNX operator, from its own shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]
_Count = Callable[[Mapping[str, Any], Shapes, Shapes], int]


def node_macs(op: str, attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
    """Count the multiply-accumulates of one run of an operator; 0 for operators without matrix products.

    Convolution: output elements times weights of one filter. Element-wise operations count as zero, as in fvcore and
    ``torch.utils.flop_counter``.

    Args:
        op: ONNX operator type, of the standard or of ONNX Runtime's domain.
        attributes: its attributes as plain values.
        inputs: shape of each input; None for one that is left out.
        outputs: shape of each output; None for one that is left out.
    """
    count = _COUNTS.get(op)
    if count is None or any(index >= len(inputs) or inputs[index] is None for index in NEEDED_INPUTS[op]):
        return 0
    return count(attributes, inputs, outputs)


def _known(shapes: Shapes, index: int) -> Shape:
    shape = shapes[index]
    if shape is None:
        raise ValueError(f"operand {index} has no shape")
    return shape


def _first(shapes: Shapes) -> Shape:
    """Shape of the first output that is not left out."""
    return next((shape for shape in shapes if shape is not None), ())


def _convolution(weight: int) -> _Count:
    def count(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
        return math.prod(_first(outputs)) * math.prod(_known(inputs, weight)[1:])

    return count


def _transposed(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
    return math.prod(_known(inputs, 0)) * math.prod(_known(inputs, 1)[1:])


def _gemm(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
    operand = _known(inputs, 0)
    inner = operand[0 if attributes.get("transA", 0) else -1] if operand else 0
    return math.prod(_first(outputs)) * inner


def _matmul(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
    operand = _known(inputs, 0)
    if not operand:
        return 0
    transposed = bool(attributes.get("transA", 0)) and len(operand) > 1
    return math.prod(_first(outputs)) * operand[-2 if transposed else -1]


def _recurrent(gates: int) -> _Count:
    """Input and recurrent products of every time step, batch item and direction; X (T, B, I), R (directions, gates·H, H)."""

    def count(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
        source, weights, recurrent = (_known(inputs, index) for index in range(3))
        if len(source) != 3 or len(weights) != 3 or len(recurrent) != 3:
            return 0
        steps = source[0] * source[1]
        return steps * recurrent[0] * gates * recurrent[-1] * (source[-1] + recurrent[-1])

    return count


def _packed_recurrent(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
    """ONNX Runtime's quantized LSTM, whose weights are transposed: R (directions, H, 4·H)."""
    source, recurrent = _known(inputs, 0), _known(inputs, 2)
    if len(source) != 3 or len(recurrent) != 3:
        return 0
    return source[0] * source[1] * recurrent[0] * recurrent[2] * (source[2] + recurrent[1])


def einsum_macs(equation: str, shapes: Sequence[Shape]) -> int:
    """Count the products of an Einsum that is contracted from left to right, two operands at a time.

    Raises:
        ValueError: the equation does not fit the shapes.
    """
    left, _, right = equation.replace(" ", "").partition("->")
    terms = [_letters(term, shape) for term, shape in zip(left.split(","), shapes, strict=True)]
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    if "->" in equation:
        broadcast = [letter for term in terms for letter in term if letter.isdigit()]
        wanted = set(right.replace("...", "")) | (set(broadcast) if "..." in right else set())
    else:
        every = [letter for term in terms for letter in term]
        wanted = {letter for letter in every if every.count(letter) == 1 or letter.isdigit()}
    total, held = 0, set(terms[0])
    for index in range(1, len(terms)):
        joined = held | set(terms[index])
        total += math.prod(sizes[letter] for letter in joined)
        later = wanted.union(*(set(term) for term in terms[index + 1 :]))
        held = joined & later
    return total


def _letters(term: str, shape: Shape) -> list[str]:
    """One letter for each axis; those an ellipsis stands for are digits, counted from the right."""
    if "..." not in term:
        return list(term)
    before, after = term.split("...")
    hidden = len(shape) - len(before) - len(after)
    return [*before, *(str(index) for index in reversed(range(hidden))), *after]


def _einsum(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
    return einsum_macs(str(attributes.get("equation", "")), [shape for shape in inputs if shape is not None])


def _attention(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
    """Scores and weighted values of ``Attention`` of the standard domain; past keys count as keys."""
    query, key, value = (_known(inputs, index) for index in range(3))
    past = inputs[4] if len(inputs) > 4 else None
    earlier = past[2] if past is not None and len(past) == 4 else 0
    if len(query) not in (3, 4) or len(key) != len(query) or len(value) != len(query):
        return 0
    if len(query) == 4:
        batch, heads, length, depth = query
        return batch * heads * length * (key[2] + earlier) * (depth + value[-1])
    heads = int(attributes.get("q_num_heads", 1) or 1)
    value_heads = int(attributes.get("kv_num_heads", heads) or heads)
    batch, length, width = query
    return batch * length * (key[1] + earlier) * (width + value[-1] // value_heads * heads)


def _packed_attention(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
    """ONNX Runtime's ``Attention``: the projection to query, key and value, then scores and weighted values."""
    source, weights = _known(inputs, 0), _known(inputs, 1)
    if len(source) != 3 or len(weights) != 2:
        return 0
    batch, length, width = source
    return batch * length * width * weights[1] + 2 * batch * length * length * (weights[1] // 3)


def _multi_head(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
    """ONNX Runtime's attention over separate query, key and value (B, S, D); keys may be given in heads (B, N, S, D)."""
    query = _known(inputs, 0)
    key = inputs[1] if len(inputs) > 1 and inputs[1] is not None else query
    if len(query) != 3 or len(key) < 3:
        return 0
    length = key[2] if len(key) == 4 else key[1]
    return 2 * query[0] * query[1] * length * query[2]


def _packed_weights(attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> int:
    return math.prod(_first(outputs)) * int(attributes.get("K", 0))


_COUNTS: dict[str, _Count] = {
    **dict.fromkeys(("Conv", "ConvInteger", "FusedConv", "NhwcConv", "NhwcFusedConv", "DeformConv"), _convolution(1)),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    **dict.fromkeys(("Gemm", "FusedGemm", "QGemm"), _gemm),
    **dict.fromkeys(
        ("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "TransposeMatMul", "GemmFastGelu"), _matmul
    ),
    **dict.fromkeys(("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger16"), _matmul),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _packed_weights),
    "LSTM": _recurrent(4),
    "DynamicQuantizeLSTM": _packed_recurrent,
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Einsum": _einsum,
    "Attention": _attention,
    "com.microsoft.Attention": _packed_attention,
    "com.microsoft.QAttention": _packed_attention,
    "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _multi_head,
}
NEEDED_INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(_COUNTS, (0, 1)),
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
    "QGemm": (0, 3),
    "Einsum": (0,),
    **dict.fromkeys(("Attention", "LSTM", "DynamicQuantizeLSTM", "GRU", "RNN"), (0, 1, 2)),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4", "MultiHeadAttention", "GroupQueryAttention"), (0,)),
}
"""Positions of the inputs without which an operator cannot run."""
