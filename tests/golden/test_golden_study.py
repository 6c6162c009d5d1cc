"""A study's database that was written before the restructuring: read, printed and trained again from as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import golden_answers
import pytest
from golden_kit import FIXTURES, copied, differences, paretoseg, shape, stored

EXPECTED: dict[str, Any] = stored("answers/study.json")


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return golden_answers.study(tmp_path_factory.mktemp("study"))


def test_the_stored_study_shows_every_way_that_a_trial_ends():
    outcomes = {record["outcome"] for record in EXPECTED["records"]}
    assert outcomes == {"finished", "stopped", "refused", "reused"}
    assert any(record["continues"] is not None for record in EXPECTED["records"])
    assert any(record["measured_ms"] is not None for record in EXPECTED["records"])


def test_each_trial_is_read_as_before(answer: dict[str, Any]):
    assert differences(answer["records"], EXPECTED["records"]) == []


@pytest.mark.parametrize("printed", ["front", "front_too_slow", "front_table"])
def test_the_front_is_printed_as_before(answer: dict[str, Any], printed: str):
    assert differences(answer[printed], EXPECTED[printed]) == []


def test_the_pareto_front_of_the_package_is_the_printed_one(tmp_path: Path):
    from golden_internals import load_config, open_configured

    from objectives import TrialRecord, pareto_front, read_study

    yaml = copied("study", tmp_path / "study") / "study.yaml"
    records = read_study(open_configured(load_config(yaml)))
    assert all(isinstance(record, TrialRecord) for record in records)
    assert {record.number for record in pareto_front(records).records} >= {row["trial"] for row in EXPECTED["front"]}


@pytest.mark.parametrize("name", ["study", "resumable"])
def test_the_stored_words_are_what_they_were(name: str):
    database = FIXTURES / name / "study.db"
    assert golden_answers.words(database) == stored("answers/words.json")[name]
    assert golden_answers.attribute_shapes(database) == stored("answers/attributes.json")[name]


def test_a_stored_trial_is_trained_again_on_other_seeds(tmp_path: Path):
    expected = stored("answers/refit.json")
    yaml = copied("study", tmp_path / "study") / "study.yaml"
    done = paretoseg("refit", yaml, "--trial", expected["trial"], "--seeds", 2, "--epochs", 1, "--json")
    assert shape(done.json) == expected["shape"]
    networks = [Path(path) for path in done.json["networks"]]
    assert [path.relative_to(tmp_path / "study").as_posix() for path in networks] == expected["networks"]
    assert all(path.is_file() for path in networks)


def test_the_report_of_a_stored_study_is_written(tmp_path: Path):
    yaml = copied("study", tmp_path / "study") / "study.yaml"
    done = paretoseg("report", yaml)
    page = tmp_path / "study" / "out" / "report.html"
    assert done.status == 0 and done.out == f"{page.as_uri()}\n" and page.is_file(), done.err
