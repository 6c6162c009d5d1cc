"""Section of the report on the progress of the search and the use of its workers."""

from __future__ import annotations

from dashboards import tables
from dashboards.figures import progress as figures
from dashboards.page import figure_box
from dashboards.study_report.inputs import ReportInputs
from dashboards.study_report.understanding import Drawn
from objectives.schedule import schedule


def progress_section(inputs: ReportInputs, drawn: Drawn) -> str:
    """Section with the hypervolume over trials and hours, and the trials over places."""
    records, front = inputs.records, inputs.front
    baseline = figures.random_baseline(records, front, inputs.startup_trials)
    figure = figures.hypervolume_figure(records, front, baseline=baseline)
    parts = [
        "<section><h2>Progress of the search</h2>",
        tables.question("Did the search still improve, and beyond its random start?"),
    ]
    if figure is None:
        parts.append(tables.empty("The hypervolume starts with the first trial that is trained to the end."))
        return "".join([*parts, "</section>"])
    if baseline is None:
        compared = "There is no baseline: none of the first networks, which were drawn without a model, was trained to the end."
    else:
        compared = (
            f"Grey: the {len(baseline.mean)} networks of the start, which were drawn without a model, in random orders; dashed, what they "
            "reach alone. More random trials would reach more: how much was not tried."
        )
    parts.append(
        tables.soft(f"Hypervolume of the front as trials came in; where flat, nothing better was found. {compared}")
    )
    times = schedule(records)
    over_hours = figures.hypervolume_hours_figure(times, front)
    boxes = f"<div>{figure_box('progress', figure, drawn)}</div>"
    if over_hours is not None:
        boxes += f"<div>{figure_box('hours', over_hours, drawn)}</div>"
    parts.append(f'<div class="pair">{boxes}</div>')
    busy = figures.schedule_figure(times)
    if busy is not None:
        parts.append(tables.question("Were the workers busy?"))
        parts.append(
            tables.soft(
                f"Up to {times.places} {'trial' if times.places == 1 else 'trials'} at a time; a place was busy for "
                f"{times.utilisation:.0%} of the {times.hours:.2f} hours of searching. Pauses between launches are cut out."
            )
        )
        parts.append(figure_box("schedule", busy, drawn))
    return "".join([*parts, "</section>"])
