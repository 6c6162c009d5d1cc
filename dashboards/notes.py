"""Markdown notes of trials and studies in optuna-dashboard."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dashboards import text
from objectives.objective import METRICS, budget_texts, extra_objectives
from objectives.pareto import ParetoFront
from objectives.trial_record import TrialRecord

KEPT_HEADING = "## Your words"
_HINT = "*Everything above is written by paretoseg; what you write below this line is kept.*"


def trial_note(record: TrialRecord, bundle_name: str, links: Mapping[str, str]) -> str:
    """Write the note of a trial: its network and results.

    Args:
        bundle_name: folder of its export.
        links: address on the dashboard by uploaded file name; a picture is shown in the note.
    """
    lines = [f"## Trial {record.number}: {escape(text.network(record))}", ""]
    rows = [("mIoU", text.miou(record.val_miou))]
    if text.any_quantized([record]):
        rows += [("precision", record.precision or "–"), ("mIoU in float", text.miou(record.float_miou))]
    rows += [(METRICS[name].label, METRICS[name].text(cost.value)) for name, cost in record.costs.items()]
    rows.append(("predicted latency, ms", f"{text.milliseconds(record.latency_ms)} {text.interval(record)}".strip()))
    rows += [
        (f"predicted latency on {escape(name)}, ms", f"{text.milliseconds(item.latency_ms)}")
        for name, item in record.targets.items()
    ]
    inside = text.inside_interval(record)
    verdict = "" if inside is None else (", inside the interval" if inside else ", outside the interval")
    rows.append(("measured latency, ms", text.milliseconds(record.measured_ms) + verdict))
    if record.score is not None:
        shown = {label for label, _ in rows}  # an objective of the study may be one of these
        counts = (("MACs", record.score.macs), ("parameters", record.score.params))
        rows += [(label, text.count(count)) for label, count in counts if label not in shown]
        origin = "" if record.parent_trial is None else f", from trial {record.parent_trial} on"
        rows.append(("trained", f"{record.score.epoch} epochs in {text.seconds(record.score.train_s)}{origin}"))
    rows.append(("bundle", bundle_name + (", superseded: it left the front" if record.superseded else "")))
    rows += [("chosen to deploy", text.chosen(choice)) for choice in record.choices]
    lines += _table(("", ""), rows)
    lines += [f"\n![preview]({link})" for name, link in links.items() if name.endswith(".png")]
    return "\n".join(lines)


def study_note(
    name: str,
    records: Sequence[TrialRecord],
    front: ParetoFront,
    latency_budget_ms: float | None,
    device: str | None,
) -> str:
    """Write the note of a study: outcomes of its trials, and its front."""
    ended = text.by_outcome(records)
    outcomes = [f"{ended[key]} {label}" for key, label in text.OUTCOMES.items() if ended[key]]
    outcomes += [f"{ended[text.RUNNING]} running"] if ended[text.RUNNING] else []
    budget = "none" if latency_budget_ms is None else f"{latency_budget_ms:g} ms"
    lines = [f"## {escape(name)}", ""]
    others = extra_objectives(front.objectives)
    quantized = text.any_quantized(front.records)
    corner, unit = text.corner(front.objectives, front.reference_point), text.volume_unit(front.objectives)
    facts = [
        ("device", device or "not stated"),
        ("latency budget", budget),
        ("trials", f"{len(records)}: {', '.join(outcomes)}" if outcomes else "none yet"),
        ("hypervolume", f"{front.hypervolume:.4g} {unit}, to {corner}"),
    ]
    if not text.is_default(front.objectives):
        facts.insert(1, ("objectives", ", ".join(objective.label for objective in front.objectives)))
        facts.insert(2, ("budgets", ", ".join(budget_texts(front.objectives)) or "none"))
    lines += _table(("", ""), facts)
    if not front.records:
        return "\n".join([*lines, "", "No trial has been trained to the end yet."])
    rows = [
        (
            str(record.number),
            text.network(record),
            *([record.precision or "–", text.miou(record.float_miou)] if quantized else []),
            text.miou(record.val_miou),
            *(objective.text(objective.value(record)) for objective in others),
            f"{text.milliseconds(record.latency_ms)} {text.interval(record)}".strip(),
            text.milliseconds(record.measured_ms),
        )
        for record in front.records
    ]
    heads = ["trial", "network", *(["precision", "float mIoU"] if quantized else []), "mIoU"]
    heads += [*(objective.label for objective in others), "predicted, ms", "measured, ms"]
    members = (
        f"{len(rows)} {'network' if len(rows) == 1 else 'networks'}{text.within_budget(front, latency_budget_ms)}."
    )
    lines += ["", "### The front", "", members, "", *_table(heads, rows)]
    return "\n".join(lines)


def with_kept_words(body: str, current: str) -> str:
    """Append the user's text to ``body``: that below our heading, or all of a note that we did not write."""
    _, heading, words = current.partition(KEPT_HEADING)
    if not heading:
        words = current
    words = words.replace(_HINT, "").strip()
    end = f"\n\n{words}\n" if words else "\n"
    return f"{body}\n\n{KEPT_HEADING}\n\n{_HINT}{end}"


def escape(value: str) -> str:
    """Escape an external value for Markdown: no markup, no HTML, no new table cell."""
    return re.sub(r"([\\`*_\[\]<>|#!~])", r"\\\1", value.replace("\n", " "))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows]
