"""Interface of a prior: milliseconds per kernel, physical or fitted on other measurements of such a device."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar, Protocol, Self, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.types import KernelSpec

PRIOR_TYPES = {
    "roofline": "hw_latency_model.model.roofline:Roofline",
    "learned": "hw_latency_model.model.learned:LearnedPrior",
    "nano": "hw_latency_model.model.nano_prior:NanoPrior",
}
"""Class by ``prior_type`` of a saved model, imported on use."""


@runtime_checkable
class KernelPrior(Protocol):
    """Cost of every kernel of one network, before whole networks correct it.

    Attributes:
        prior_type: key in ``PRIOR_TYPES``.
        kinds: kinds of kernel it has data on; all others lower an estimate's coverage.
    """

    prior_type: ClassVar[str]

    @property
    def kinds(self) -> tuple[str, ...]: ...

    def kernel_ms(self, kernels: Sequence[KernelSpec]) -> NDArray[np.float64]:
        """Predict milliseconds (or the target's unit) of each kernel in order, (n,); never negative, 0 for a view."""
        ...

    def table_ms(self, table: KernelTable) -> NDArray[np.float64]:
        """Predict like ``kernel_ms``, for the kernels of all networks of the table, (n,)."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON-ready dict with exact numbers."""
        ...

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        """Inverse of ``to_dict``. Raises KeyError, TypeError or ValueError on a damaged value."""
        ...


@runtime_checkable
class KnowsNovelty(Protocol):
    """Prior that tells how unlike a network's kernels are to those it was fitted on."""

    def novelty(self, table: KernelTable, costs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of each network's time in kernels unlike all measured ones, (networks,), in 0..1.

        Args:
            table: kernels of the networks.
            costs: (n,) ``table_ms`` of it.
        """
        ...


def prior_from_dict(prior_type: str, value: dict[str, Any]) -> KernelPrior:
    """Read a saved prior.

    Raises:
        ValueError: its type is unknown.
    """
    if prior_type not in PRIOR_TYPES:
        raise ValueError(f"there is no prior of type {prior_type!r}; known: {', '.join(PRIOR_TYPES)}")
    module, _, name = PRIOR_TYPES[prior_type].partition(":")
    return cast("KernelPrior", getattr(import_module(module), name).from_dict(value))
