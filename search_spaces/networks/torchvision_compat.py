"""Workaround for a CPU-only torch beside a CUDA-linked torchvision, which timm imports.

Some package registries provide such a pair: torchvision's compiled library cannot be loaded, and its import fails with
``operator torchvision::nms does not exist``. The networks use neither that operator nor its quantized version; declaring
the schemas of both lets the import succeed (torch 2.13.0+cpu, torchvision 0.28.0).
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def ensure_torchvision() -> None:
    """Declare ``torchvision::nms`` and ``qnms`` if torchvision's own compiled library cannot provide them.

    Call it before the first import of timm or torchvision. Does nothing if torchvision is imported already, not installed,
    or intact. The real library is tried first: declaring the operators beside it would abort the process.
    """
    if "torchvision" in sys.modules or _has_nms():
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    _load_compiled(Path(spec.origin).parent)
    if not _has_nms():
        _declared_schemas()


@cache
def _declared_schemas() -> torch.library.Library:
    """Declare the schemas, once; the cache keeps the library object, with which the declaration would end."""
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _has_nms() -> bool:
    return bool(torch._C._dispatch_has_kernel("torchvision::nms"))


def _load_compiled(folder: Path) -> None:
    """Load the libraries that torchvision would load, ignoring those that fail."""
    for library in sorted([*folder.glob("_C*.so"), *folder.glob("_C*.pyd"), *folder.glob("_C*.dylib")]):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:
            continue
