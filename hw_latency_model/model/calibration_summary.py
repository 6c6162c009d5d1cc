"""Facts that every calibration reports, of this machine or of a board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CalibrationSummary:
    """Extent of a calibration and accuracy of its model.

    Attributes:
        device: its name.
        fingerprint: of the device; empty before anything was measured.
        model_path: of the latency model; None without a model.
        measured: networks measured by this calibration.
        networks: distinct networks the model was fitted on.
        skipped: reasons for networks that were left out.
        seconds: wall time.
        noisy: measurements marked noisy.
        loo_median_error_rel, loo_within10, coverage: leave-one-out: median error, share within 10 %, share of intervals that
            held the measured value; None without a model.
    """

    device: str
    fingerprint: Mapping[str, Any]
    model_path: Path | None
    measured: int
    networks: int
    skipped: tuple[str, ...]
    seconds: float
    noisy: int
    loo_median_error_rel: float | None
    loo_within10: float | None
    coverage: float | None

    @property
    def accuracy_text(self) -> str:
        """Leave-one-out accuracy as a clause; only with a model."""
        return (
            f"leaving each out in turn: median error {self.loo_median_error_rel:.1%}, {self.loo_within10:.0%} within 10 %, "
            f"interval held {self.coverage:.0%}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: paths as text, tuples as lists."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
