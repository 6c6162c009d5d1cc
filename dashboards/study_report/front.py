"""Sections of the report on the front: figure and table, previews, and IoU by class."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from dashboards import tables, text
from dashboards.figures import front as figures, objectives as objective_figures
from dashboards.page import figure_box
from dashboards.picture import front_svg
from dashboards.study_report import trial_tables
from dashboards.study_report.inputs import ReportInputs
from dashboards.study_report.understanding import Drawn
from objectives.objective import budget_texts
from objectives.pareto import MEASURED_LATENCY, MIOU, ParetoFront, pareto_front
from objectives.precision_pairs import int8_sentences
from objectives.trial_record import Outcome, TrialRecord

_PREVIEW = "preview.png"
_MOST_PREVIEWS = 4
_CLASS_PX, _OBJECTIVE_PX, _MARGIN_PX = 40, 110, 150
_DEFAULT = (
    "Each network on the blue line is the most accurate one that is at least as fast. Bars are the interval of the predicted "
    "latency, diamonds what was measured. Numbers are trials: hover for parameters, drag to zoom, double-click to go back."
)


def front_section(path: Path, inputs: ReportInputs, drawn: Drawn) -> str:
    """Section with the front as a figure and a table, and notes on members over the budget."""
    records, front, latency_budget_ms = inputs.records, inputs.front, inputs.latency_budget_ms
    default = text.is_default(front.objectives)
    parts = [f"<section><h2>{'Accuracy against latency' if default else 'The Pareto front'}</h2>"]
    figure = figures.pareto_figure(records, front, latency_budget_ms=latency_budget_ms)
    if figure is None:
        parts.append(tables.empty("No trial has been trained to the end yet, so there is no front. " + _next(records)))
        return "".join([*parts, "</section>"])
    parts.append(tables.question("Which networks are worth deploying?"))
    parts.append(tables.soft(_DEFAULT if default else _others(front)))
    panels = 1 if default else objective_figures.panels_across(front.objectives)
    least = 0 if panels == 1 else panels * objective_figures.LEAST_PANEL_WIDTH_PX
    parts.append(figure_box("front", figure, drawn, min_width_px=least))
    trade = None if default else objective_figures.trade_figure(front)
    if trade is not None:
        parts.append(tables.question("What does each member trade?"))
        parts.append(figure_box("trade", trade, drawn, min_width_px=_OBJECTIVE_PX * len(front.objectives)))
    if default:
        svg = front_svg(records, front, title=inputs.study_name, latency_budget_ms=latency_budget_ms)
        parts.append(f"<noscript>{svg}</noscript>")
    members = (
        f"{len(front)} {'network' if len(front) == 1 else 'networks'}{text.within_budget(front, latency_budget_ms)}"
    )
    parts.append(f"<h3>The front</h3>{tables.soft(f'{members}.')}")
    parts.append(trial_tables.front_table(front.records, path, front.objectives))
    parts += [
        tables.note(f"Trial {record.number} is chosen to deploy {text.chosen(choice)}.")
        for record in records
        for choice in record.choices
    ]
    parts += [tables.note(sentence) for sentence in int8_sentences(records)]
    left = [record.number for record in records if record.superseded]
    if left:
        parts.append(tables.note(f"Superseded, because they left the front; their bundles are kept: {_trials(left)}."))
    over = [r.number for r in front.records if text.over_budget(r, front.objectives, latency_budget_ms)]
    if over:
        parts.append(tables.note(f"Not within the budget, by what was measured where it was: {_trials(over)}."))
    fallen = _fallen(front) if default else ()
    if fallen:
        parts.append(
            tables.note(
                f"By what was measured, {_trials(fallen)} would not stand on the front: another member is at least as accurate and "
                "was measured to be faster."
            )
        )
    return "".join([*parts, "</section>"])


def target_sections(path: Path, inputs: ReportInputs, drawn: Drawn) -> str:
    """Section with figure and table of the front on each further target; empty for a study of one target."""
    parts = []
    for place, view in enumerate(inputs.target_fronts):
        parts.append(f"<section><h2>The front on {escape(view.target)}</h2>")
        figure = figures.pareto_figure(view.records, view.front, latency_budget_ms=view.latency_budget_ms)
        if figure is None:
            parts.append(tables.empty("No trained trial has a latency on this target. Calibrate it, then look again."))
        else:
            parts.append(
                tables.soft("The same trials under this target's predicted latency; it did not decide the search.")
            )
            parts.append(figure_box(f"front-target-{place}", figure, drawn))
            parts.append(trial_tables.front_table(view.front.records, path, view.front.objectives))
        parts.append("</section>")
    return "".join(parts)


def refit_section(inputs: ReportInputs) -> str:
    """Section with the spread of repeated trainings; empty without any of a trained trial."""
    records = {record.number: record for record in inputs.records}
    rows: list[list[tables.Cell]] = []
    for item in inputs.refits:
        record = records.get(item.trial)
        if record is None or not item.miou_by_seed:
            continue
        values = item.miou_by_seed.values()
        spread = "" if item.sd is None else f" ± {item.sd:.3f}"
        rows.append(
            [
                tables.number(str(item.trial), item.trial),
                text.network(record),
                tables.number(str(item.epochs), item.epochs),
                tables.number(str(len(values)), len(values)),
                tables.number(text.miou(record.val_miou), record.val_miou),
                tables.number(f"{item.mean:.3f}{spread}", item.mean),
                tables.number(f"{min(values):.3f} to {max(values):.3f}", min(values)),
            ]
        )
    if not rows:
        return ""
    columns = [
        *(tables.Column("trial", "number"), tables.Column("network", "name"), tables.Column("epochs", "number")),
        *(tables.Column("seeds", "number"), tables.Column("mIoU in the search", "number")),
        *(tables.Column("mIoU again", "number"), tables.Column("least to most", "number")),
    ]
    words = "Networks trained again from the start under other seeds: mean and standard deviation of one training."
    return (
        f"<section><h2>Trained again</h2>{tables.question('How much of a difference is luck?')}{tables.soft(words)}"
        f"{tables.table(columns, rows)}</section>"
    )


def preview_section(front: ParetoFront) -> str:
    """Section with previews from the bundles of a few members, the most accurate one expanded; empty without exports."""
    shown = [(record, Path(record.bundle) / _PREVIEW) for record in front.records if record.bundle is not None]
    shown = [(record, picture) for record, picture in shown if picture.is_file()]
    shown.sort(key=lambda pair: -(pair[0].val_miou or 0.0))
    if len(shown) > _MOST_PREVIEWS:
        step = (len(shown) - 1) / (_MOST_PREVIEWS - 1)
        shown = [shown[round(index * step)] for index in range(_MOST_PREVIEWS)]
    if not shown:
        return ""
    parts = [
        "<section><h2>What they see</h2>",
        tables.question("Where do they go wrong?"),
        tables.soft(
            "Images of the validation split, what the exported network makes of them, and their labels. A click enlarges."
        ),
    ]
    for index, (record, picture) in enumerate(shown):
        data = base64.b64encode(picture.read_bytes()).decode()
        facts = f"mIoU {text.miou(record.val_miou)}, {text.milliseconds(record.latency_ms)} ms"
        title = f"Trial {record.number}: {text.network(record)}: {facts}"
        alt = escape(f"images, predictions and labels of trial {record.number}")
        body = f'<figure><img class="enlarges" alt="{alt}" src="data:image/png;base64,{data}"></figure>'
        parts.append(tables.folded(title, body, is_open=index == 0))
    return "".join([*parts, "</section>"])


def class_section(front: ParetoFront, class_names: Sequence[str], drawn: Drawn) -> str:
    """Section with the IoU of each class, by member."""
    parts = ["<section><h2>IoU by class</h2>", tables.question("Which classes does a slower network gain?")]
    figure = figures.class_iou_figure(front, class_names)
    if figure is None:
        parts.append(tables.empty("There is no network on the front yet whose classes could be shown."))
        return "".join([*parts, "</section>"])
    scores = [record.score.class_iou for record in front.records if record.score is not None]
    absent = [name for i, name in enumerate(class_names) if all(len(s) > i and s[i] is None for s in scores)]
    left_out = f" Left out, because neither labels nor predictions hold them: {', '.join(absent)}." if absent else ""
    parts.append(
        tables.soft(
            "Of the front, on the validation split, at the labels' own resolution. mIoU is the mean over the classes that "
            f"occur.{left_out}{_gains(front, class_names)}"
        )
    )
    members = len(figures.members_with_classes(front, class_names))
    if members > figures.MOST_MEMBERS:
        parts.append(tables.soft(f"Drawn: {figures.MOST_MEMBERS} of the {members} members, evenly."))
    parts.append(figure_box("classes", figure, drawn, min_width_px=_MARGIN_PX + _CLASS_PX * len(class_names)))
    return "".join([*parts, "</section>"])


def _gains(front: ParetoFront, class_names: Sequence[str]) -> str:
    """Sentence on the classes whose IoU differs most between the first member and the most accurate one."""
    members = figures.members_with_classes(front, class_names)
    best = max(members, key=lambda record: record.val_miou or 0.0, default=None)
    if best is None or best is members[0] or best.score is None or members[0].score is None:
        return ""
    pairs = zip(class_names, members[0].score.class_iou, best.score.class_iou, strict=True)
    gains = [(after - before, name) for name, before, after in pairs if before is not None and after is not None]
    if not gains:
        return ""
    told = ", ".join(f"{name} {gain:+.2f}" for gain, name in sorted(gains, reverse=True)[:3])
    return f" From trial {members[0].number} to the most accurate one, trial {best.number}, most is gained in {told}."


def _others(front: ParetoFront) -> str:
    names = [objective.label for objective in front.objectives]
    budgets = budget_texts(front.objectives)
    return (
        f"No network is at least as good as one of the front in {', '.join(names[:-1])} and {names[-1]}, and better in one of them."
        + (f" Dashed: the budgets ({', '.join(budgets)})." if budgets else "")
        + " Numbers are trials: hover for parameters, drag to zoom, double-click to go back."
    )


def _fallen(front: ParetoFront) -> tuple[int, ...]:
    """Members of the front that another member beats by measured latency."""
    measured = [record for record in front.records if record.measured_ms is not None]
    still = pareto_front(measured, objectives=(MIOU, MEASURED_LATENCY)).numbers
    return tuple(record.number for record in measured if record.number not in still)


def _trials(numbers: Sequence[int]) -> str:
    return f"{'trial' if len(numbers) == 1 else 'trials'} {', '.join(str(number) for number in numbers)}"


def _next(records: Sequence[TrialRecord]) -> str:
    ended = text.by_outcome(records)
    if not records:
        return "The study has no trials: run `paretoseg launch` with its config."
    if ended[Outcome.INFEASIBLE] == len(records):
        return "Every candidate was refused for its predicted latency: raise the budget, or allow smaller networks."
    if ended[text.RUNNING]:
        return "Trials are still running: write the report again when some have ended."
    return "The tables below say how the trials ended."
