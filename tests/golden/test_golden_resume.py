"""A study that was stopped before the restructuring goes on from its checkpoint, and writes what was written then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import golden_answers
import pytest
import torch
from golden_answers import EARLIER_TRAIN_S
from golden_internals import resumed_epoch, trial_checkpoint
from golden_kit import FIXTURES, copied, differences, shape, stored

EXPECTED: dict[str, Any] = stored("answers/launched.json")
EPOCHS = 5
CHECKPOINT = FIXTURES / "resumable" / "out" / "trials" / "00000" / "last.pt"


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The stopped study, launched again: the first trial goes on, the second is new."""
    return golden_answers.launched(tmp_path_factory.mktemp("launched"))


def test_the_stored_checkpoint_is_found_and_accepted(tmp_path: Path):
    yaml = copied("resumable", tmp_path / "resumable") / "study.yaml"
    content = torch.load(CHECKPOINT, weights_only=True)
    assert 2 <= content["epoch"] < EPOCHS and content["pruned"] and content["average"]
    assert trial_checkpoint(yaml, 0) == tmp_path / "resumable" / CHECKPOINT.relative_to(FIXTURES / "resumable")
    assert resumed_epoch(yaml, 0) == content["epoch"]


def test_the_first_trial_goes_on_where_it_stopped(answer: dict[str, Any]):
    first, _ = answer["records"]
    before = torch.load(CHECKPOINT, weights_only=True)["curve"]
    assert first["outcome"] == "finished" and [epoch for epoch, _ in first["curve"]] == list(range(1, EPOCHS + 1))
    assert first["curve"][: len(before)] == before
    assert first["score"]["train_s"] > EARLIER_TRAIN_S  # what was trained before counts on


def test_the_trials_are_what_they_were(answer: dict[str, Any]):
    found, expected = answer["records"], EXPECTED["records"]
    assert len(found) == len(expected) == 2
    for now, then in zip(found, expected, strict=True):
        for fact in (
            "number",
            "state",
            "outcome",
            "reason",
            "precision",
            "complete",
            "channels",
            "continues",
            "reused_from",
        ):
            assert now[fact] == then[fact], fact
        for fact in (
            "candidate",
            "costs",
            "latency_ms",
            "latency_low_ms",
            "latency_high_ms",
            "latency_coverage",
            "unknown_kinds",
        ):
            assert differences(now[fact], then[fact], rel=1e-6, where=fact) == []
        for fact in ("score", "readings"):
            assert shape(now[fact]) == shape(then[fact]), fact
        assert (now["score"]["macs"], now["score"]["params"]) == (then["score"]["macs"], then["score"]["params"])
        assert [value for _, value in now["curve"]] == pytest.approx([value for _, value in then["curve"]], abs=0.02)


@pytest.mark.parametrize(
    "part", ["words", "attributes", "checkpoint", "bundle_files", "manifest", "front_csv", "files"]
)
def test_what_a_launch_writes_is_what_it_was(answer: dict[str, Any], part: str):
    assert differences(answer[part], EXPECTED[part]) == []
