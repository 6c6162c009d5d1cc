"""Files exchanged with a board keep their form: the kit, the agent's lines, the host's own notes."""

from __future__ import annotations

import json
from typing import Any

import golden_answers
import pytest
from golden_kit import FIXTURES, differences, stored

RESULTS: dict[str, Any] = stored("answers/board_results.json")
KIT: dict[str, Any] = stored("answers/board_kit.json")


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The stored results, taken in by `paretoseg calibrate DEVICE.yaml --results`."""
    return golden_answers.board_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A kit written by `paretoseg calibrate DEVICE.yaml`, and measured by the agent in it."""
    return golden_answers.board_kit(tmp_path_factory.mktemp("kit"))


@pytest.mark.parametrize("part", RESULTS)
def test_stored_results_are_read_as_before(read: dict[str, Any], part: str):
    assert differences(read[part], RESULTS[part]) == []


@pytest.mark.parametrize("part", KIT)
def test_a_kit_and_its_results_have_the_form_they_had(kit: dict[str, Any], part: str):
    assert differences(kit[part], KIT[part]) == []


def test_the_stored_job_list_is_the_one_that_was_measured():
    order = json.loads((FIXTURES / "board" / "jobs.json").read_text())
    jobs = [{key: value for key, value in job.items() if key != "sha256"} for job in order["jobs"]]
    assert {**order, "jobs": jobs} == KIT["jobs"]
    lines = [json.loads(line) for line in (FIXTURES / "board" / "results.jsonl").read_text().splitlines()]
    measured = {line["job_id"]: line["sha256"] for line in lines if line["type"] == "measurement"}
    assert measured == {job["id"]: job["sha256"] for job in order["jobs"]}
