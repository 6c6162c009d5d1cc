"""The front's table in terminals of different widths: what a user decides by is always readable."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from sample_measurement import sample_measurement

from hw_latency_model import LatencyEstimate
from objectives.objective import OBJECTIVES, get_objective
from objectives.trial_record import CostEstimate, Outcome, State, TrialRecord
from objectives.trial_score import TrialScore
from search_spaces.candidate import Candidate
from trial_runner.front.table import front_rows, print_front


def record(number: int, family: str, precision: str = "fp32") -> TrialRecord:
    params = {
        "family": family,
        "decoder": "deeplabv3plus_dw",
        "width": 0.75,
        "resolution": "384x768",
        "prune_ratio": 0.25,
    }
    score = TrialScore(
        0.4 + number / 1000, 10, 10, 1_000_000, 50_000, 60.0, (0.5,), precision=precision, float_miou=0.5
    )
    return TrialRecord(
        number=number,
        state=State.COMPLETE,
        candidate=Candidate("encoder_decoder", 1, params),
        outcome=Outcome.FINISHED,
        reason=None,
        estimate=LatencyEstimate(10.5 + number, 9.5, 12.75, 0.9),
        score=score,
        curve=(),
        measurement=sample_measurement(11.25 + number),
        bundle=None,
        export_error=None,
        duplicate_of=None,
        parent_trial=None,
        parent_epochs=None,
        duration_s=60.0,
        costs={"energy_mj": CostEstimate(23.5, 20.0, 27.0)},
    )


def table(records, width: int, objectives=OBJECTIVES) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of the printed table by column, and all printed lines."""
    out = io.StringIO()
    print_front(records, 20.0, Console(file=out, width=width, highlight=False), objectives)
    lines = out.getvalue().splitlines()
    cells = {
        mark: [[cell.strip() for cell in line.split(mark)[1:-1]] for line in lines if line[:1] == mark] for mark in "┃│"
    }
    heads = [" ".join(parts).strip() for parts in zip(*cells["┃"], strict=True)]
    return [dict(zip(heads, row, strict=True)) for row in cells["│"]], lines


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_trial_miou_predicted_and_measured_are_readable_at_any_width(width: int, precision: str):
    records = [record(number, "mobilenetv4_conv_medium", precision) for number in (7, 112)]
    rows, lines = table(records, width)
    for cells, expected in zip(rows, records, strict=True):
        assert cells["trial"] == str(expected.number)
        assert cells["mIoU"] == f"{expected.val_miou:.3f}"
        assert cells["predicted ms"] in (f"{expected.latency_ms:.2f}", f"{expected.latency_ms:.1f}")
        assert cells["measured ms"] in (f"{expected.measured_ms:.2f}", f"{expected.measured_ms:.1f}")
        assert cells["network"].startswith("mobilenetv4_conv")
        assert cells["90 % interval"] == "9.50–12.8" or cells["90 % interval"] == "9.50–12.75"
    assert all(len(line) <= width for line in lines)
    hidden = [line for line in lines if line.startswith("not shown")]
    assert bool(hidden) == (len(rows[0]) < (11 if precision == "int8" else 9))


def test_further_objectives_are_kept_and_a_narrow_terminal_gets_long_lines_instead_of_empty_cells():
    objectives = [*OBJECTIVES, get_objective("energy_mj"), get_objective("macs"), get_objective("parameters")]
    (cells,), _ = table([record(7, "mobilenetv2")], 40, objectives)
    assert cells["mIoU"] == "0.407" and len(cells) == 7
    assert all(cell and "…" not in cell for cell in cells.values()), cells


def test_the_miou_of_engines_has_a_column_once_one_is_built():
    bare = [record(number, "lcnet") for number in (7, 8)]
    rows, _ = table(bare, 200)
    assert "engine mIoU" not in rows[0] and "engine_miou" not in front_rows(bare)[0]
    built = [replace(bare[0], engine={"miou": 0.3987, "device": "nano"}), bare[1]]
    assert [row["engine mIoU"] for row in table(built, 200)[0]] == ["0.399", "–"]
    assert [row["engine_miou"] for row in front_rows(built)] == [0.3987, None]
