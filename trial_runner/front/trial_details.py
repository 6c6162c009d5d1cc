"""Everything that is known of one trial, as sections of text and as JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dashboards.text import count, inside_interval, milliseconds, miou, outcome, seconds, value_text
from hw_latency_model import LatencyEstimate
from objectives.objective import OBJECTIVES, Objective, extra_objectives
from objectives.trial_record import TrialRecord
from search_spaces.describe import network_words
from trial_runner.front.table import trial_rows
from trial_runner.front.trial_lists import state_word

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDEST_CURVE = 60
_LAYERS_SHOWN = 8


@dataclass(frozen=True)
class TrialDetails:
    """One trial with what its study knows of it.

    Attributes:
        record: of the trial.
        objectives: of the study.
        class_names: of the data, in the order of the scores.
        started: time of its start; None for one that waits.
        estimate_today: estimate by the latency model as it is now, with its kernels; None without one.
        kernels_missing: the reason why there is none.
        checkpoint: its last checkpoint; None without one.
    """

    record: TrialRecord
    objectives: Sequence[Objective] = OBJECTIVES
    class_names: Sequence[str] = ()
    started: datetime | None = None
    estimate_today: LatencyEstimate | None = None
    kernels_missing: str = ""
    checkpoint: Path | None = None


@dataclass(frozen=True)
class KernelGroup:
    """Kernels of one kind, or of one layer, in a network: how many, and their predicted time in ms."""

    name: str
    kernels: int
    latency_ms: float


def sparkline(values: Sequence[float], width: int = _WIDEST_CURVE, top: float | None = None) -> str:
    """Return values as blocks of eight heights, from 0 to ``top`` (their largest by default), in at most ``width`` characters."""
    if not values:
        return ""
    step = max(1.0, len(values) / width)
    shown = [values[min(int((at + 1) * step) - 1, len(values) - 1)] for at in range(min(len(values), width))]
    highest = top if top is not None else max(shown)
    if highest <= 0:
        return _BLOCKS[0] * len(shown)
    return "".join(_BLOCKS[min(max(int(value / highest * len(_BLOCKS)), 0), len(_BLOCKS) - 1)] for value in shown)


def by_kind(estimate: LatencyEstimate) -> list[KernelGroup]:
    """Return the estimate's kernels by kind, the slowest kind first."""
    return _grouped((kind, ms) for _, kind, ms in estimate.per_kernel)


def by_layer(estimate: LatencyEstimate) -> list[KernelGroup]:
    """Return the estimate's kernels by layer, the slowest layer first."""
    return _grouped((layer, ms) for layer, _, ms in estimate.per_kernel)


def _grouped(times: Iterable[tuple[str, float]]) -> list[KernelGroup]:
    groups: dict[str, list[float]] = {}
    for name, ms in times:
        groups.setdefault(name, []).append(ms)
    return sorted(
        (KernelGroup(name, len(found), sum(found)) for name, found in groups.items()), key=lambda item: -item.latency_ms
    )


def details_lines(details: TrialDetails) -> list[str]:
    """Return the lines of a terminal about a trial."""
    record = details.record
    words = network_words(record.params) if record.params else "a trial without parameters"
    lines = [f"trial {record.number}: {outcome(record)}", f"  network     {words}"]
    if record.reason:
        lines.append(f"  why         {record.reason}")
    if record.duplicate_of is not None:
        lines.append(f"  result of   trial {record.duplicate_of}")
    if record.parent_trial is not None:
        lines.append(f"  trained on  from trial {record.parent_trial}, {record.parent_epochs} epochs")
    if record.teacher is not None:
        lines.append(f"  teacher     trial {record.teacher.number}")
    if details.started is not None:
        lines.append(f"  started     {details.started:%Y-%m-%d %H:%M:%S}, took {seconds(record.duration_s)}")
    if record.params:
        width = max(map(len, record.params))
        lines += ["parameters", *(f"  {name:<{width}}  {value_text(value)}" for name, value in record.params.items())]
    return [*lines, *_score_lines(details), *_latency_lines(details), *_file_lines(details)]


def details_json(details: TrialDetails) -> dict[str, Any]:
    """Return the same as JSON values: a row of `trial_rows`, with params, curve, rungs, class IoU, kernels and files."""
    record, today = details.record, details.estimate_today
    (row,) = trial_rows([record], details.objectives)
    score = record.score
    return {
        **row,
        "state": state_word(record),
        "params": record.params,
        "started": details.started.isoformat() if details.started else None,
        "curve": [list(point) for point in record.curve],
        "rungs": [[epoch, reading.val_miou] for epoch, reading in record.rung_scores],
        "class_iou": dict(zip(details.class_names, score.class_iou, strict=False)) if score else {},
        "estimate": record.estimate.to_dict() if record.estimate else None,
        "estimate_today": today.to_dict() if today else None,
        **({"targets": {name: item.to_dict() for name, item in record.targets.items()}} if record.targets else {}),
        "kernels": [
            {"kind": item.name, "kernels": item.kernels, "latency_ms": item.latency_ms} for item in by_kind(today)
        ]
        if today
        else [],
        "layers": [
            {"layer": item.name, "kernels": item.kernels, "latency_ms": item.latency_ms} for item in by_layer(today)
        ]
        if today
        else [],
        "costs": {name: cost.to_dict() for name, cost in record.costs.items()},
        "channels": dict(record.channels) if record.channels else None,
        "reused_from": record.duplicate_of,
        "continues": record.parent_trial,
        "teacher": record.teacher.number if record.teacher else None,
        "checkpoint": str(details.checkpoint) if details.checkpoint else None,
    }


def _score_lines(details: TrialDetails) -> list[str]:
    record, score = details.record, details.record.score
    lines = []
    if record.curve:
        values = [value for _, value in record.curve]
        first, last = record.curve[0], record.curve[-1]
        lines.append(
            f"  curve       {sparkline(values)}  {miou(first[1])} at epoch {first[0]}, {miou(last[1])} at {last[0]}"
        )
    if score is not None:
        lines.append(f"  mIoU        {miou(score.val_miou)} after {score.epoch} of {score.epochs_total} epochs")
        if score.float_miou is not None:
            lines.append(f"  in float    {miou(score.float_miou)}, then {score.precision}")
        lines.append(f"  size        {count(score.macs)} MACs, {count(score.params)} parameters")
    for epoch, reading in record.rung_scores:
        lines.append(f"  rung        mIoU {miou(reading.val_miou)} at epoch {epoch}")
    for item in extra_objectives(details.objectives):
        lines.append(f"  {item.label:<11} {item.text(item.value(record))}")
    if score is not None and len(score.class_iou) == len(details.class_names):
        ranked = sorted(
            ((iou, name) for iou, name in zip(score.class_iou, details.class_names, strict=True) if iou is not None),
            reverse=True,
        )
        lines += [f"  IoU         {iou:.3f} {sparkline([iou], top=1.0)} {_printable(name)}" for iou, name in ranked]
    return ["training", *lines] if lines else []


def _latency_lines(details: TrialDetails) -> list[str]:
    record, today = details.record, details.estimate_today
    lines = []
    if record.estimate is not None:
        estimate = record.estimate
        lines.append(
            f"  predicted   {milliseconds(estimate.latency_ms)} ms before training, {estimate.level:.0%} interval "
            f"{milliseconds(estimate.low_ms)} to {milliseconds(estimate.high_ms)}, {estimate.coverage:.0%} of measured kinds"
        )
        if estimate.unknown_kinds:
            lines.append(f"  unmeasured  {', '.join(estimate.unknown_kinds)}")
    lines += [
        f"  predicted   {milliseconds(item.latency_ms)} ms on {name}, {item.level:.0%} interval {milliseconds(item.low_ms)} to "
        f"{milliseconds(item.high_ms)}"
        for name, item in record.targets.items()
    ]
    if record.measured_ms is not None:
        held = {True: ", inside the interval", False: ", outside the interval", None: ""}[inside_interval(record)]
        if record.blind_estimate is not None:
            held += f" of the prediction before it, {milliseconds(record.blind_estimate.latency_ms)} ms"
        lines.append(f"  measured    {milliseconds(record.measured_ms)} ms{held}")
    if today is not None:
        lines.append(f"  today       {milliseconds(today.latency_ms)} ms by the latency model as it is now, of which")
        lines += _group_lines(by_kind(today), today.latency_ms)
        layers = by_layer(today)
        shown = layers[:_LAYERS_SHOWN]
        if len(layers) > len(shown):
            lines.append(f"  slowest     {len(shown)} of {len(layers)} layers, with copies between memory layouts")
            lines += _group_lines(shown, today.latency_ms)
    elif details.kernels_missing:
        lines.append(f"  by kernel   not known: {details.kernels_missing}")
    lines += [
        f"  {name:<11} {value_text(cost.value)} [{value_text(cost.low)}, {value_text(cost.high)}]"
        for name, cost in record.costs.items()
    ]
    return ["latency", *lines] if lines else []


def _group_lines(groups: Sequence[KernelGroup], total_ms: float) -> list[str]:
    width = max((len(item.name) for item in groups), default=0)
    return [
        f"    {_printable(item.name):<{width}}  {item.kernels:>3} {'kernels' if item.kernels > 1 else 'kernel '}  "
        f"{milliseconds(item.latency_ms):>6} ms  {item.latency_ms / total_ms:>5.1%}"
        for item in groups
    ]


def _file_lines(details: TrialDetails) -> list[str]:
    record = details.record
    left = ", superseded: it left the front" if record.superseded else ""
    lines = [f"  bundle      {record.bundle}{left}"] if record.bundle else []
    if record.export_error:
        lines.append(f"  no bundle   {record.export_error}")
    if details.checkpoint is not None:
        lines.append(f"  checkpoint  {details.checkpoint}")
    return ["files", *lines] if lines else []


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
