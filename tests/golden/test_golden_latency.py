"""A latency model and a measurement store that were written before the restructuring: the same predictions, the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import golden_answers
import pytest
from golden_answers import MODEL
from golden_kit import copied, differences, paretoseg, shape, stored

from hw_latency_model import LatencyModel, MeasurementStore

PREDICTIONS: dict[str, Any] = stored("answers/predictions.json")
MEASUREMENTS: dict[str, Any] = stored("answers/measurements.json")


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return golden_answers.predictions(tmp_path_factory.mktemp("predictions"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return golden_answers.measurements(tmp_path_factory.mktemp("measurements"))


@pytest.mark.parametrize("part", PREDICTIONS)
def test_predictions_are_what_they_were(predicted: dict[str, Any], part: str):
    assert differences(predicted[part], PREDICTIONS[part], rel=1e-6) == []


def test_a_model_is_written_as_it_was(tmp_path: Path):
    LatencyModel.load(MODEL).save(tmp_path / "latency_model.json")
    assert json.loads((tmp_path / "latency_model.json").read_text()) == json.loads(MODEL.read_text())


def test_a_fit_on_the_stored_measurements_says_what_the_stored_model_says(tmp_path: Path):
    model = LatencyModel.load(MODEL)
    place = copied("latency", tmp_path / "latency") / "measurements.sqlite"
    with MeasurementStore(place, create=False) as opened:
        items = opened.all(model.device, model.fingerprint, precision=model.precision)
    LatencyModel.fit(items, device=model.device, fingerprint=model.fingerprint).save(tmp_path / "latency_model.json")
    written = json.loads((tmp_path / "latency_model.json").read_text())
    assert set(written.pop("bounds")) == {"macs_per_ms", "bytes_per_ms", "launch_ms"}  # facts of later releases
    assert written.pop("group_margins", {}).keys() <= {"dense", "depthwise"}
    for name in ("near_group", "far_group"):
        del written["scores"][name]
    assert written.keys() == json.loads(MODEL.read_text()).keys()
    assert shape(written) == shape(json.loads(MODEL.read_text()))


@pytest.mark.parametrize("part", MEASUREMENTS)
def test_a_store_is_read_as_before(measured: dict[str, Any], part: str):
    assert differences(measured[part], MEASUREMENTS[part]) == []


def test_a_new_store_has_the_tables_of_the_stored_one(tmp_path: Path):
    MeasurementStore(tmp_path / "new.sqlite").close()
    assert golden_answers.schema(tmp_path / "new.sqlite") == MEASUREMENTS["schema"]


def test_exported_measurements_are_imported_as_the_same_rows(tmp_path: Path):
    table, copy = tmp_path / "measurements.csv", tmp_path / "copy.sqlite"
    place = copied("latency", tmp_path / "latency") / "measurements.sqlite"
    assert paretoseg("measurements", "export", table, "--store", place).status == 0
    count = len(MEASUREMENTS["rows"])
    first = paretoseg("measurements", "import", table, "--store", copy)
    assert first.out == f"{count} measurements added to {copy}, 0 of {count} were there already\n"
    again = paretoseg("measurements", "import", table, "--store", copy)
    assert again.out == f"0 measurements added to {copy}, {count} of {count} were there already\n"
    expected = [{**row, "stored_at": None} for row in MEASUREMENTS["rows"]]
    assert differences([{**row, "stored_at": None} for row in golden_answers.rows(copy)], expected) == []


def test_the_report_has_the_keys_it_had(tmp_path: Path):
    assert shape(golden_answers.latency_report(tmp_path)) == stored("answers/latency_report.json")
