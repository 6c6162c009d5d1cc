"""User-defined latency functions in place of a calibrated latency model."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.types import KernelSpec, LatencyEstimate, LatencyPredictor
from search_spaces._common.errors import UserError
from search_spaces._common.references import parameters_of, resolve_callable


class PredictsLatency(Protocol):
    """The part of `LatencyModel` that a search uses."""

    @property
    def precision(self) -> str:
        """``fp32``, ``fp16`` or ``int8``."""

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Facts of the device; ``runtime`` selects the fusion rules."""

    @property
    def calibrated(self) -> bool:
        """True for a model that was fitted to measurements of the device."""

    @property
    def provenance(self) -> str:
        """A sentence on where the predictions come from."""

    def identity(self) -> str:
        """Short hash that changes with the predictions."""

    def predict(self, kernels: Sequence[KernelSpec] | KernelTable) -> LatencyEstimate:
        """Predict the latency of a network from its kernels."""


class CustomLatencyModel:
    """A `LatencyPredictor` as the latency model of one precision; it learns from no measurement.

    Args:
        predictor: called with the kernels of each candidate.
        reference: ``module:name`` of it, for messages.
        precision: of the networks; passed to a predictor that has a parameter of this name.
        runtime: whose fusion rules the kernels follow, such as ``onnxruntime`` or ``tensorrt``.
    """

    calibrated = False

    def __init__(self, predictor: LatencyPredictor, reference: str, precision: str, runtime: str) -> None:
        self._predictor, self._reference = predictor, reference
        self.precision = precision
        self.fingerprint: Mapping[str, Any] = {"runtime": runtime, "predictor": reference}
        self._options = {"precision": precision} if "precision" in parameters_of(predictor) else {}

    @classmethod
    def load(cls, reference: str, precision: str, runtime: str) -> CustomLatencyModel:
        """Import the function that ``module:name`` refers to; a class is instantiated without arguments.

        Raises:
            UserError: there is none.
        """
        found = resolve_callable(reference, "device.latency_model")
        return cls(found() if isinstance(found, type) else found, reference, precision, runtime)

    def identity(self) -> str:
        """Return a short hash of the function's name and of the file that defines it; of the name alone without a file."""
        text = self._reference.encode()
        module = sys.modules.get(getattr(self._predictor, "__module__", type(self._predictor).__module__))
        file = getattr(module, "__file__", None)
        if file is not None and Path(file).is_file():
            text += Path(file).read_bytes()
        return hashlib.sha256(text).hexdigest()[:16]

    @property
    def provenance(self) -> str:
        """A sentence on where the predictions come from."""
        return f"latencies are predicted by {self._reference}"

    def predict(self, kernels: Sequence[KernelSpec] | KernelTable) -> LatencyEstimate:
        """Predict the latency of a network from its kernels.

        Raises:
            UserError: the function returned neither a positive number of milliseconds nor an estimate with its interval in order.
        """
        specs = tuple(kernels.kernels if isinstance(kernels, KernelTable) else kernels)
        found = self._predictor(specs, **self._options)
        if isinstance(found, LatencyEstimate):
            estimate = found
        elif isinstance(found, int | float) and not isinstance(found, bool):
            estimate = LatencyEstimate(float(found), float(found), float(found), coverage=1.0)
        else:
            raise UserError(
                f"{self._reference} must return milliseconds or a LatencyEstimate, but returned a {type(found).__name__}."
            )
        low, ms, high = estimate.low_ms, estimate.latency_ms, estimate.high_ms
        if not 0.0 < low <= ms <= high < math.inf:
            raise UserError(
                f"{self._reference} returned {ms:g} ms with the interval [{low:g}, {high:g}]: it must return "
                "0 < low_ms <= latency_ms <= high_ms."
            )
        return estimate
