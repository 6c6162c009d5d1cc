"""Report of a board's calibration, as text and as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_latency_model.model.calibration_summary import CalibrationSummary

_MOST_LINES = 8


@dataclass(frozen=True, kw_only=True)
class BoardCalibrationReport(CalibrationSummary):
    """Summary of a board's calibration; ``measured`` counts all calls of this calibration together.

    Attributes:
        precision: of the networks.
        store: location of all measurements.
        kit: folder for offline transfer to the board; None if none is waiting.
        why: reason for the end of this call.
        fresh: measurements stored by this call.
        failed: sentences on networks that the board could not measure.
        refused: sentences on results that were rejected.
        damaged: torn or altered lines of results.
        drops: number of connections lost and re-established.
        build_s: seconds the board spent on building engines, all calls together.
        interval_rel: median half-width of the interval over the search space; None without a model.
        started_from_bundled: the model started from the bundled one.
    """

    precision: str
    store: str
    kit: Path | None
    why: str
    fresh: int
    failed: tuple[str, ...]
    refused: tuple[str, ...]
    damaged: int
    drops: int
    build_s: float
    interval_rel: float | None
    started_from_bundled: bool

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON-ready dict; its keys are those of the first release."""
        return {
            "started_from_boxed" if name == "started_from_bundled" else name: v for name, v in super().to_dict().items()
        }

    @property
    def summary(self) -> str:
        """Format the report as a few lines of text."""
        lines = [
            f"{self.device} {self.precision}: {self.fresh} measured now in {clock_text(self.seconds)}, {self.measured} in all; {self.why}"
        ]
        if self.build_s >= 1:
            lines.append(f"engines: the board spent {clock_text(self.build_s)} building them")
        if self.model_path is not None:
            lines += [
                f"{self.accuracy_text}; over the search space the interval is ±{self.interval_rel:.0%}",
                f"model: {self.model_path} ({self.networks} networks and chains of one set-up"
                + (", starting from the bundled model)" if self.started_from_bundled else ")"),
            ]
        lines.append(f"measurements: {self.store}")
        if self.damaged:
            lines.append(f"{self.damaged} damaged lines of results were not believed")
        for name in ("failed", "refused", "skipped"):
            sentences = getattr(self, name)
            lines += [f"{name}: {sentence}" for sentence in sentences[:_MOST_LINES]]
            if len(sentences) > _MOST_LINES:
                lines.append(f"{name}: {len(sentences) - _MOST_LINES} more")
        if self.noisy:
            lines.append(f"{self.noisy} measurements are marked: the board throttled or drifted")
        if self.drops:
            lines.append(f"the connection was lost and found again {self.drops} times")
        if self.kit is not None:
            lines.append(
                f"kit: {self.kit}: carry it to the board, run `sh run.sh` there, carry results.jsonl back and run this "
                "command with --results PATH"
            )
        return "\n".join(lines)


def clock_text(seconds: float) -> str:
    """``45 s``, ``13 min``, ``2 h 05``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d}"


def describe_board(facts: Mapping[str, Any]) -> str:
    """Describe a board in one line from the answer of the agent's ``check``; missing facts are left out."""
    backends = facts.get("backends")
    here = [
        f"{name} {version}"
        for name, version in (backends.items() if isinstance(backends, dict) else ())
        if not str(version).startswith("not here")
    ]
    named = [str(facts[key]) for key in ("board_model", "cpu") if facts.get(key) not in (None, "", "unknown")]
    parts = [
        named[0] if named else "a board that does not say what it is",
        f"JetPack {facts['jetpack']}" if facts.get("jetpack") else "",
        ", ".join(here),
        f"power mode {facts['power_mode']}" if facts.get("power_mode") else "",
        "" if facts.get("may_lock_clocks") else "clocks cannot be locked",
        str(facts["power_note"]) if facts.get("power_note") else "",
    ]
    return "board: " + "; ".join(part for part in parts if part)
