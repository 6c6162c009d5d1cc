"""How a decoder may enlarge features, as data (modules: ``layers.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search_spaces.dimensions import Categorical, Dimension

UPSAMPLINGS: Mapping[str, str | None] = {"bilinear": "linear", "transposed": None, "bicubic": "cubic"}
"""Name to the mode of ONNX's Resize that it becomes; None where it becomes a convolution."""


def resize_modes(dimensions: Sequence[Dimension]) -> frozenset[str]:
    """The modes of Resize that networks of a space with these axes may hold."""
    chosen: Sequence[object] = ("bilinear",)
    for dimension in dimensions:
        if isinstance(dimension, Categorical) and dimension.name == "upsampling":
            chosen = dimension.choices
    return frozenset(mode for name in chosen if (mode := UPSAMPLINGS[str(name)]) is not None)
