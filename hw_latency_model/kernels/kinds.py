"""Classes of kernel kinds with similar costs."""

from __future__ import annotations

_CLASSES = {
    **dict.fromkeys(
        ("conv", "pointwise", "vector", "narrow_conv", "narrow_pointwise", "grouped_conv", "transposed_conv", "gemm"),
        "dense",
    ),
    **dict.fromkeys(
        (
            "op:LSTM",
            "op:DynamicQuantizeLSTM",
            "op:GRU",
            "op:RNN",
            "op:Attention",
            "op:MultiHeadAttention",
            "op:GroupQueryAttention",
            "op:DeformConv",
        ),
        "dense",
    ),
    "depthwise": "depthwise",
}
_OTHER = "memory_bound"
CLASSES = ("dense", "depthwise", "memory_bound")


def class_of(kind: str) -> str:
    """Return the class of a kind: ``dense``, ``depthwise`` or ``memory_bound``; kinds of one class have similar costs."""
    return _CLASSES.get(kind, _OTHER)
