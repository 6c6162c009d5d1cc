"""Choice of the fusion rules by a device's fingerprint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hw_latency_model.kernels.fusion import RULES

_RULES_OF = {"trtexec": "tensorrt"}
_OTHER = "onnxruntime"


def runtime_of(fingerprint: Mapping[str, Any]) -> str:
    """Return the key of ``fusion.RULES`` for a fingerprint, whose ``runtime`` begins with the runtime's name.

    ``onnxruntime`` if it names none, or one without rules of its own (torch).
    """
    name, *_ = str(fingerprint.get("runtime") or _OTHER).split()
    name = _RULES_OF.get(name, name)
    return name if name in RULES else _OTHER
