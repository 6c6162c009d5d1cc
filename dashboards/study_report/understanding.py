"""Sections of the report on the reasons: importance of dimensions, parallel coordinates, and where the winner's time goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from dashboards import tables, text
from dashboards.figures import choices as choice_figures, kernels as kernel_figures
from dashboards.figures.importance import PANEL_PX, importance_figure
from dashboards.figures.parallel import AXIS_PX, parallel_data
from dashboards.figures.parts import MOST_POINTS
from dashboards.page import figure_box
from dashboards.study_report.inputs import ReportInputs
from objectives.importance import importances
from objectives.pareto import ParetoFront
from objectives.trial_record import TrialRecord

Drawn = dict[str, go.Figure | dict[str, Any]]


def choice_section(records: Sequence[TrialRecord], front: ParetoFront, drawn: Drawn) -> str:
    """Section with the importance of the dimensions, mIoU by them, and parallel coordinates; empty with too few trained candidates."""
    parts = [_importance(records, front, drawn), _choices(records, front, drawn), _parallel(records, front, drawn)]
    return f"<section><h2>Which choices led where</h2>{''.join(parts)}</section>" if any(parts) else ""


def _importance(records: Sequence[TrialRecord], front: ParetoFront, drawn: Drawn) -> str:
    found = {objective.label: importances(records, objective) for objective in front.objectives}
    figure = importance_figure(found)
    if figure is None:
        return ""
    before = [item.label for item in front.objectives if item.available == "pre_training"]
    known = (
        f" {' and '.join(before)}: from the predictions for all candidates, refused ones included; the training cannot matter for them."
        if before
        else ""
    )
    words = (
        "Share of an objective's variance that goes with a dimension alone, with its 90 % interval; what is missing to 100 % is "
        f"interplay, and noise of the training.{known}"
    )
    box = figure_box("importance", figure, drawn, min_width_px=PANEL_PX * sum(map(bool, found.values())))
    return f"{tables.question('Which dimensions decide?')}{tables.soft(words)}{box}"


def _choices(records: Sequence[TrialRecord], front: ParetoFront, drawn: Drawn) -> str:
    figure = choice_figures.choices_figure(records, front)
    if figure is None:
        return ""
    shown, left_out = choice_figures.shown_dimensions(records)
    rest = f" Not drawn here: {', '.join(name.replace('_', ' ') for name in left_out)}." if left_out else ""
    many = sum(record.complete for record in records) > MOST_POINTS
    words = (
        "Grey: all networks trained to the end, as quartiles." if many else "Each dot is a network trained to the end."
    ) + f" First the dimensions that its mIoU goes with most; the search tries good values more often.{rest}"
    box = figure_box("choices", figure, drawn, min_width_px=min(len(shown), 3) * choice_figures.LEAST_WIDTH_PX // 3)
    return f"{tables.question('Which values are good?')}{tables.soft(words)}{box}"


def _parallel(records: Sequence[TrialRecord], front: ParetoFront, drawn: Drawn) -> str:
    data = parallel_data(records, front)
    if data is None:
        return ""
    drawn["parallel"] = data
    words = (
        "A line is a network trained to the end, blue on the front. Drag along an axis to choose networks by its values, on several axes "
        "to combine; click an axis to clear it."
    )
    width = AXIS_PX * len(data["axes"])
    box = f'<div class="scroll"><div class="parallel" id="parallel" style="min-width:{width}px"></div></div>'
    return f"{tables.question('What do good networks have in common?')}{tables.soft(words)}{box}"


def winner_section(inputs: ReportInputs, drawn: Drawn) -> str:
    """Section with the predicted latency of the winner by kind of kernel and by layer; empty without an estimate."""
    if inputs.winner is None or not inputs.winner.estimate.per_kernel:
        return ""
    winner = inputs.winner
    words = (
        f"Trial {winner.number}, the network chosen, else the most accurate one within the budget: "
        f"{text.milliseconds(winner.estimate.latency_ms)} ms by the latency model as it is now, in parts that add to it. "
        "Measurements of single layers on the device may differ."
    )
    kernels = winner.estimate.per_kernel
    kinds = figure_box("kinds", kernel_figures.kinds_figure(kernels), drawn)
    layers = figure_box("layers", kernel_figures.layers_figure(kernels), drawn)
    return (
        f"<section><h2>The winner's latency</h2>{tables.soft(words)}"
        f'<div class="pair"><div>{tables.question("Which kinds of kernel take the time?")}{kinds}</div>'
        f"<div>{tables.question('Which layers?')}{layers}</div></div></section>"
    )
