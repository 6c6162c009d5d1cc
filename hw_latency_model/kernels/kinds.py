"""Classes of kernel kinds with similar costs."""

from __future__ import annotations

_CLASSES = {
    **dict.fromkeys(
        ("conv", "pointwise", "vector", "narrow_conv", "narrow_pointwise", "grouped_conv", "transposed_conv", "gemm"),
        "dense",
    ),
    "depthwise": "depthwise",
}
_OTHER = "moving"
CLASSES = ("dense", "depthwise", "moving")


def class_of(kind: str) -> str:
    """Kinds of one class cost alike: ``dense`` arithmetic, ``depthwise``, or ``moving`` data."""
    return _CLASSES.get(kind, _OTHER)
