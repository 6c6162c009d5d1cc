"""What a board's calibration did, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hw_latency_model.board.device_config import DeviceConfig
from hw_latency_model.board.plan import Accuracy
from hw_latency_model.board.results import BoardResults
from hw_latency_model.model.latency_model import LatencyModel

_MOST_LINES = 8


@dataclass(frozen=True)
class BoardCalibrationReport:
    """What was measured and how far the model can be trusted.

    Attributes:
        device, precision: what was measured; fingerprint: the board as it was, empty before anything came back.
        model_path: None while there is no model; store: where all measurements lie.
        kit: the folder to carry to the board; None where none waits.
        why: why it ended.
        fresh: measurements stored this time; measured: of this calibration in all; networks: that the model was fitted on.
        failed, refused, skipped: sentences on what the board could not measure, on results that were not believed, and on
            networks that the device would not take.
        damaged: torn or altered lines of results.
        noisy: measurements that the board marked.
        drops: how often the connection was lost and found again.
        seconds: wall time of this call; build_s: that the board spent on building engines, all calls together.
        loo_median_error_rel, loo_within10, coverage: of networks predicted by a model that never saw them.
        interval_rel: median half-width of the interval over the search space.
        started_from_boxed: the model that comes in the box was improved, instead of starting from nothing.
    """

    device: str
    precision: str
    fingerprint: Mapping[str, Any]
    model_path: Path | None
    store: str
    kit: Path | None
    why: str
    fresh: int
    measured: int
    networks: int
    failed: tuple[str, ...]
    refused: tuple[str, ...]
    skipped: tuple[str, ...]
    damaged: int
    noisy: int
    drops: int
    seconds: float
    build_s: float
    loo_median_error_rel: float | None
    loo_within10: float | None
    coverage: float | None
    interval_rel: float | None
    started_from_boxed: bool

    @classmethod
    def of(
        cls,
        *,
        config: DeviceConfig,
        results: BoardResults,
        model: LatencyModel | None,
        accuracy: Accuracy | None,
        store: str,
        fresh: int,
        skipped: tuple[str, ...],
        seconds: float,
        drops: int,
        why: str,
        kit: Path | None,
    ) -> BoardCalibrationReport:
        """Put together from what a calibration has at its end."""
        return cls(
            device=config.device.name,
            precision=config.device.precision,
            fingerprint=dict(model.fingerprint) if model is not None else {},
            model_path=config.model_path if model is not None else None,
            store=store,
            kit=kit,
            why=why,
            fresh=fresh,
            measured=len(results.measurements),
            networks=model.quality.networks if model is not None else 0,
            failed=tuple(f"{failure.subject}: {failure.reason}" for failure in results.failures),
            refused=results.refused,
            skipped=skipped,
            damaged=results.damaged,
            noisy=sum(item.noisy for item in results.measurements),
            drops=drops,
            seconds=seconds,
            build_s=sum(build_s for _, build_s in results.seconds.values()),
            loo_median_error_rel=model.quality.median_error_rel if model is not None else None,
            loo_within10=model.quality.within10 if model is not None else None,
            coverage=model.quality.coverage if model is not None else None,
            interval_rel=accuracy.interval_rel if accuracy is not None else None,
            started_from_boxed=model is not None and model.fit_result.prior.prior_type == "nano",
        )

    @property
    def summary(self) -> str:
        """A few lines for people."""
        lines = [
            f"{self.device} {self.precision}: {self.fresh} measured now in {clock_text(self.seconds)}, {self.measured} in all; {self.why}"
        ]
        if self.build_s >= 1:
            lines.append(f"engines: the board spent {clock_text(self.build_s)} building them")
        if self.model_path is not None:
            lines += [
                f"leaving each out in turn: median error {self.loo_median_error_rel:.1%}, {self.loo_within10:.0%} within 10 %, "
                f"interval held {self.coverage:.0%}; over the search space the interval is ±{self.interval_rel:.0%}",
                f"model: {self.model_path} ({self.networks} networks and chains of one set-up"
                + (", starting from the model in the box)" if self.started_from_boxed else ")"),
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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        value = asdict(self)
        for name in ("model_path", "kit"):
            value[name] = None if value[name] is None else str(value[name])
        for name in ("failed", "refused", "skipped"):
            value[name] = list(value[name])
        return value


def clock_text(seconds: float) -> str:
    """``45 s``, ``13 min``, ``2 h 05``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d}"


def describe_board(facts: Mapping[str, Any]) -> str:
    """One line on a board from what the agent's ``check`` says; facts that are missing are left out."""
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
