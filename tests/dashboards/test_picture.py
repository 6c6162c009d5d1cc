"""The README's picture: well-formed, script-free, and drawn from the records."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from dashboards.picture import HEIGHT, WIDTH, Baseline, front_svg, nice_ticks, write_front_picture
from objectives.pareto import pareto_front
from objectives.trial_record import read_study

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def study_records(make_study):
    return read_study(make_study())


def titles(root):
    return [element.text or "" for element in root.iter(f"{SVG}title")]


def test_every_complete_trial_is_drawn_where_it_belongs(study_records):
    front = pareto_front(study_records, reference=(0.0, 12.0))
    baselines = [
        Baseline("random search", ((2.0, 0.2), (6.0, 0.3)), joined=True),
        Baseline("<default>", ((40.0, 0.9),)),
    ]
    root = ET.fromstring(
        front_svg(study_records, front, title="A & B <c>", latency_budget_ms=12.0, baselines=baselines)
    )
    assert root.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    assert titles(root)[0] == "A & B <c>"
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"A & B <c>", "budget 12 ms", "latency, ms", "validation mIoU", "<default>", "measured"} <= set(words)
    dots = {}
    for circle in root.iter(f"{SVG}circle"):
        tip = circle.find(f"{SVG}title")
        if tip is not None:
            dots[int(tip.text.split(":")[0].removeprefix("trial "))] = float(circle.get("cx")), float(circle.get("cy"))
    complete = [record for record in study_records if record.complete]
    assert set(dots) == {record.number for record in complete}
    for a, b in pairwise(complete):
        assert (a.latency_ms < b.latency_ms) == (dots[a.number][0] < dots[b.number][0])
        assert (a.val_miou < b.val_miou) == (dots[a.number][1] > dots[b.number][1])
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in dots.values())
    assert not [element.tag for element in root.iter() if element.tag in (f"{SVG}script", f"{SVG}image", f"{SVG}a")]


def test_the_legend_stays_on_the_card(study_records):
    front = pareto_front(study_records)
    baselines = [Baseline("a rather long name of a baseline", ((2.0, 0.2),)) for _ in range(3)]
    root = ET.fromstring(front_svg(study_records, front, title="t", baselines=baselines))
    for element in root.iter(f"{SVG}text"):
        if element.get("text-anchor") == "start":
            assert float(element.get("x")) + 6.2 * len(element.text) < WIDTH


def test_without_a_complete_trial_it_says_so(tmp_path):
    svg = front_svg([], pareto_front([]), title="empty")
    assert "No network has been trained to the end yet." in svg
    path = write_front_picture(tmp_path / "docs" / "front.svg", svg)
    assert ET.parse(path).getroot().tag == f"{SVG}svg"


@pytest.mark.parametrize(("low", "high", "wanted"), [(0, 14.6, 8), (0.19, 0.47, 8), (0, 0.003, 6), (3, 3000, 6)])
def test_ticks_are_round_and_inside(low, high, wanted):
    ticks = nice_ticks(low, high, wanted)
    assert wanted / 2.5 <= len(ticks) <= wanted + 1
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    steps = {round(b - a, 9) for a, b in pairwise(ticks)}
    assert len(steps) == 1
