"""Lets torchvision (which timm imports) work where a CPU-only torch sits beside a CUDA-linked torchvision.

Such a pair is what some package registries hand out: torchvision's compiled library cannot be loaded, and its import
then stops at ``operator torchvision::nms does not exist``. No network of ours uses that operator, nor its quantized
twin; declaring the schemas of the two is enough for the import to go on (torch 2.13.0+cpu, torchvision 0.28.0).
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept_alive: list[torch.library.Library] = []  # the declaration lives as long as the object does


def ensure_torchvision() -> None:
    """Declare ``torchvision::nms`` and ``qnms`` if, and only if, torchvision's own compiled library cannot provide it.

    Call it before the first import of timm or torchvision. Does nothing when torchvision was imported already, is
    absent, or is whole. The real library is tried first: declaring the operator beside it would abort the process.
    """
    if _kept_alive or "torchvision" in sys.modules or _has_nms():
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    _load_compiled(Path(spec.origin).parent)
    if not _has_nms():
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for schema in _SCHEMAS:
            library.define(schema)  # type: ignore[no-untyped-call]
        _kept_alive.append(library)


def _has_nms() -> bool:
    return bool(torch._C._dispatch_has_kernel("torchvision::nms"))


def _load_compiled(folder: Path) -> None:
    """Try what torchvision itself would load; a library that does not load is the case this module is for."""
    for library in sorted([*folder.glob("_C*.so"), *folder.glob("_C*.pyd"), *folder.glob("_C*.dylib")]):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:
            continue
