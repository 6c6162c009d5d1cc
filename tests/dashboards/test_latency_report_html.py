"""The latency model's page: whole, self-contained, safe with any name, and honest about what is missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dashboards.latency_report.html import write_latency_report
from hw_latency_model.report.latency_report import LatencyReport, NextMeasurement, Reading
from hw_latency_model.report.networks import coverage_bands, errors_by_family, group_errors
from hw_latency_model.report.parts import (
    Drift,
    KernelDisagreement,
    KindCoverage,
    KindErrors,
    ReferenceReading,
    RepeatedNetwork,
)
from search_spaces._common.errors import UserError

EVIL = "</script><script>alert(1)</script>&\"'"
QUALITY = {
    "networks": 12,
    "median_error_rel": 0.042,
    "within10": 0.9,
    "coverage": 0.91,
    "speed_exponent": 1.5,
    "reference_ms": 0.9,
}


def readings() -> tuple[Reading, ...]:
    found = [
        Reading(
            f"net {index}", ("dense", "separable", "")[index % 3], ms, 0.8 * ms, 1.25 * ms, 1.02 * ms, raw_ms=1.03 * ms
        )
        for index, ms in enumerate([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 25.0, 30.0])
    ]
    return (*found, Reading(EVIL, EVIL, 30.0, 28.0, 32.0, 45.0))


def report(**changes: Any) -> LatencyReport:
    parity = readings()
    drift = Drift(
        references=tuple(
            ReferenceReading(f"2026-11-23T10:0{minute}:00+00:00", 1.0 + 0.01 * minute, minute == 4)
            for minute in range(6)
        ),
        reference_ms=1.025,
        spread_rel=0.04,
        trend_rel=0.03,
        repeated=(RepeatedNetwork(EVIL, 2, "2026-11-23T10:00:00+00:00", "2026-11-24T10:00:00+00:00", 2.0, 2.2),),
        median_repeat_rel=0.1,
    )
    whole = LatencyReport(
        device="bench-board",
        precision="fp16",
        fingerprint={"board": "bench", "note": EVIL, "clocks": {"gpu_mhz": 921}},
        fingerprint_id="0123456789abcdef",
        calibrated=True,
        provenance="",
        fitted_at="2026-11-23T10:20:30+00:00",
        level=0.9,
        quality=QUALITY,
        measurements=11,
        noisy=1,
        noise_rel=0.013,
        without_kernels=2,
        checked="each predicted by a model that did not see it",
        parity=parity,
        errors=group_errors("all", parity),
        families=errors_by_family(parity),
        held_out_family=parity,
        held_out_family_errors=group_errors("all", parity),
        held_out_families=errors_by_family(parity),
        kinds=(
            KindErrors("conv", 8, 80, 0.7, 0.1, -0.05),
            KindErrors("resize_linear", 8, 16, 0.29, 0.6, 0.55),
            KindErrors("op:Rare", 1, 1, 0.01, None, None),
        ),
        worst_kernels=(KernelDisagreement("conv", "3×3, 16 → 24 channels", EVIL, 3, 0.2, 0.1, 0.07),),
        coverage=coverage_bands(parity),
        drift=drift,
        undersampled_kinds=(KindCoverage("softmax", 0, 2),),
        members=(),
        next_measurements=(NextMeasurement(EVIL, "its interval is the widest", 3.0, 2.0, 5.0),),
        advice=("measure networks with kernels the model has no data for: softmax.",),
    )
    return replace(whole, **changes)


class Page(HTMLParser):
    """Page as a browser reads it: text outside scripts, figures, and every address that would be fetched."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.ids, self.scripts, self.addresses = "", [], [], []
        self._inside = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._inside = tag
        self.ids += [values["id"]] if "figure" in (values.get("class") or "") else []
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data


def written(tmp_path: Path, **changes: Any) -> Page:
    return Page(write_latency_report(tmp_path / "sub" / "r.html", report(**changes), written_at=datetime(2026, 11, 23)))


def test_the_page_has_every_part_and_a_figure_for_each_place(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert page.ids == ["parity", "families", "coverage", "places", "kinds", "drift"]
    assert set(json.loads(page.scripts[0])) == set(page.ids)
    for part in (
        "Latency model of bench-board",
        "calibrated",
        "What to measure next",
        "Error by family",
        "Do the intervals mean what they say?",
        "Where model and profile disagree most",
        "Kinds with few measurements or none",
        "Drift over time",
        "3×3, 16 → 24 channels",
        "2 measurements were kept without their kernels",
        "median error, each network left out in turn",
        "4.2%",
        "gpu mhz 921",
    ):
        assert part in page.text, part


def test_nothing_is_fetched_and_no_name_can_break_out(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert page.addresses == []
    assert len(page.scripts) == 3 and "alert(1)" not in page.scripts[1] + page.scripts[2]
    assert page.text.count(EVIL) >= 5
    assert re.search(r"default-src 'none'", page.source)


def test_points_outside_their_interval_are_drawn_apart(tmp_path: Path) -> None:
    figure = json.loads(written(tmp_path).scripts[0])["parity"]
    traces = {trace.get("name"): trace for trace in figure["data"]}
    assert traces["measured outside the interval"]["x"] == [45.0]
    assert len(traces["measured inside the interval"]["x"]) == 9
    assert figure["layout"]["xaxis"]["type"] == "log"


def test_a_model_from_the_box_without_measurements_says_what_it_is(tmp_path: Path) -> None:
    page = written(
        tmp_path,
        calibrated=False,
        provenance="fitted on public measurements of another board",
        measurements=0,
        noisy=0,
        noise_rel=None,
        without_kernels=0,
        parity=(),
        errors=None,
        families=(),
        held_out_family=(),
        held_out_family_errors=None,
        held_out_families=(),
        kinds=(),
        worst_kernels=(),
        coverage=(),
        drift=None,
        undersampled_kinds=(),
        next_measurements=(),
    )
    assert "not calibrated" in page.text and "Nothing of this model was measured on your device" in page.text
    assert "fitted on public measurements of another board" in page.text
    assert "There are no measurements of this device" in page.text
    assert page.ids == [] and page.scripts == []


def test_members_of_a_front_are_shown_predicted_against_measured(tmp_path: Path) -> None:
    members = (
        Reading("trial 1", "", 4.0, 3.0, 5.0, 4.2),
        Reading("trial 2", "", 4.0, 3.0, 5.0, 9.0),
        Reading("trial 3", "", 4.0, 3.0, 5.0, None, coverage=0.5, unknown_kinds=("softmax",)),
    )
    page = written(tmp_path, members=members)
    assert "2 of 3 measured; 1 of 2 inside the interval" in page.text
    assert "members" in page.ids and "softmax" in page.text
    assert written(tmp_path, members=members[2:]).ids[0] == "parity"


def test_a_measurement_exactly_as_predicted_and_an_interval_without_width_are_drawn(tmp_path: Path) -> None:
    parity = (Reading("a", "", 1.0, 1.0, 1.0, 1.0), Reading("b", "", 1.0, 1.0, 1.0, 1.1))
    page = written(tmp_path, parity=parity, families=errors_by_family(parity), coverage=coverage_bands(parity))
    assert json.loads(page.scripts[0])["places"]["data"][0]["x"] == [0.0, 2.45]


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_latency_report(tmp_path / "file" / "r.html", report())
