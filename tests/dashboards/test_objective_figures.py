"""Report and figures of a study whose front has three objectives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_report import Page

from dashboards import notes, text
from dashboards.figures.front import pareto_figure
from dashboards.figures.objectives import axis_title, trade_figure
from dashboards.figures.progress import hypervolume_figure
from dashboards.study_report.inputs import ReportInputs
from dashboards.study_report.report import write_report
from objectives import trial_record as tr
from objectives.objective import get_objective
from objectives.pareto import pareto_front
from objectives.trial_record import CostEstimate

OBJECTIVES = (
    get_objective("val_miou", budget=0.2),
    get_objective("energy_mj", budget=400.0),
    get_objective("macs"),
    get_objective("latency_ms", budget=12.0),
)


@pytest.fixture
def measured_study(make_study):
    """Its records, each with an energy that falls where latency rises, and the front of four objectives."""
    records = []
    for record in tr.read_study(make_study(trials=30)):
        latency = record.latency_ms or 1.0
        macs = float(record.score.macs if record.score else 1.0)
        costs = {
            "energy_mj": CostEstimate(900 / latency, 800 / latency, 1e3 / latency),
            "macs": CostEstimate(macs, macs, macs),
        }
        records.append(replace(record, costs=costs))
    return records, pareto_front(records, objectives=OBJECTIVES)


def test_each_pair_is_a_panel_with_the_front_and_the_budgets(measured_study):
    records, front = measured_study
    figure = pareto_figure(records, front)
    members = [trace for trace in figure.data if trace.name == "Pareto front"]
    assert len(members) == 3
    told = [number for label in members[0].text for number in label.split(", ") if number]
    assert sorted(map(int, told)) == sorted(front.numbers)  # members that lie close share a label
    assert list(members[0].x) == [record.costs["energy_mj"].value for record in front.records]
    assert list(members[0].y) == [record.val_miou for record in front.records]
    titles = [figure.layout[name].title.text for name in ("yaxis", "xaxis", "xaxis2", "xaxis3")]
    assert titles == ["mIoU", "energy of an image, mJ", "MACs", "latency, ms"]
    assert len(figure.layout.shapes) == 3 + 2  # mIoU's budget in every panel, energy's and latency's in their own


def test_what_members_trade_runs_from_worst_to_best(measured_study):
    _, front = measured_study
    figure = trade_figure(front)
    assert len(figure.data) == len(front)
    columns = list(zip(*(trace.y for trace in figure.data), strict=True))
    assert all(min(column) == 0.0 and max(column) == 1.0 for column in columns)
    best = max(front.records, key=lambda record: record.val_miou)
    assert figure.data[front.numbers.index(best.number)].y[0] == 1.0
    assert trade_figure(pareto_front([], objectives=OBJECTIVES)) is None


def test_the_report_speaks_of_all_objectives(measured_study, tmp_path: Path):
    records, front = measured_study
    path = write_report(
        tmp_path / "r.html", ReportInputs(study_name="four", records=records, front=front, latency_budget_ms=12.0)
    )
    page = Page(path.read_text())
    assert {"front", "trade", "progress"} <= page.figures
    header = next(row for row in page.rows if "mIoU" in row and "bundle" in row)
    assert header[header.index("mIoU") + 1 : header.index("predicted, ms")] == ["energy of an image", "MACs"]
    assert "hypervolume, mIoU × mJ × MACs × ms" in page.text
    assert (
        "(mIoU 0.2, 400 mJ," in page.text and "Dashed: the budgets (mIoU 0.200, energy of an image 400 mJ" in page.text
    )
    assert "Each network on the blue line" not in page.text


def test_the_history_of_the_volume_ends_in_the_fronts(measured_study):
    records, front = measured_study
    figure = hypervolume_figure(records, front)
    assert figure.data[0].y[-1] == pytest.approx(front.hypervolume)


def test_the_note_in_the_dashboard_lists_them(measured_study):
    records, front = measured_study
    note = notes.study_note("four", records, front, 12.0, "board")
    assert "| objectives | mIoU, energy of an image, MACs, latency |" in note
    assert "| trial | network | mIoU | energy of an image | MACs | predicted, ms | measured, ms |" in note
    trial = notes.trial_note(front.records[0], "bundle", {})
    assert "energy of an image" in trial
    assert (trial.count("| MACs |"), trial.count("| parameters |")) == (1, 1)  # MACs are an objective and a count


def test_names_from_outside_stay_text(measured_study, tmp_path: Path):
    records, _ = measured_study
    evil = "<img src=x onerror=alert(1)>"
    names = [evil, *(f"c{index}" for index in range(13))]
    objectives = (
        get_objective("val_miou"),
        get_objective(f"class_iou:{evil}", class_names=names),
        get_objective("macs"),
    )
    front = pareto_front(records, objectives=objectives)
    assert front.records
    source = write_report(tmp_path / "r.html", ReportInputs(study_name="x", records=records, front=front)).read_text()
    page = Page(source)
    assert not [attrs for tag, attrs in page.tags if tag == "img" or "onerror" in attrs]
    data = json.loads(next(script for script in page.scripts if script.startswith("{")))
    assert evil in json.dumps(data.pop("parallel")), "drawn on a canvas, as text"
    assert "<img" not in json.dumps(data)


def test_units_and_titles():
    assert [axis_title(item) for item in OBJECTIVES] == ["mIoU", "energy of an image, mJ", "MACs", "latency, ms"]
    assert text.volume_unit(OBJECTIVES[:2]) == "mIoU × mJ"
    assert text.corner(OBJECTIVES, (0.2, 400.0, 5e7, 12.0)) == "mIoU 0.2, 400 mJ, 5e+07 MACs, 12 ms"
