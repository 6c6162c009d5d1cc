"""The chaos harness: its rules find what they are there for, and a short campaign in process finds nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import postgres_server
import pytest

from benchmarks.chaos import invariants
from benchmarks.chaos.__main__ import main
from benchmarks.chaos.campaign import Campaign, FaultRecord
from benchmarks.chaos.faults import FAULTS, draw
from benchmarks.chaos.invariants import Ledger, Violation
from benchmarks.chaos.table import text
from objectives.trial_record import Outcome, State, TrialRecord
from objectives.trial_score import TrialScore
from search_spaces import Candidate
from search_spaces._common.errors import UserError
from trial_runner.study.paths import StudyPaths

EPOCHS = 2
CURVE = ((1, 0.25), (2, 0.5))


def trained(number: int, **changes: Any) -> TrialRecord:
    """A finished trial of a network of its own."""
    score = TrialScore(0.5, 2, EPOCHS, 10, 10, 1.0, (0.5,))
    candidate = Candidate("custom", 1, {"width": number})
    nothing = dict.fromkeys(("reason", "estimate", "measurement", "bundle", "export_error", "duplicate_of"))
    later = dict.fromkeys(("parent_trial", "parent_epochs", "duration_s"))
    record = TrialRecord(
        number=number,
        state=State.COMPLETE,
        candidate=candidate,
        outcome=Outcome.FINISHED,
        score=score,
        curve=CURVE,
        **nothing,  # type: ignore[arg-type]
        **later,  # type: ignore[arg-type]
    )
    return replace(record, **changes)


def rules(found: list[Violation]) -> list[str]:
    return [violation.rule for violation in found]


RUNNING = trained(1, state=State.RUNNING, outcome=None)


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        (RUNNING, replace(RUNNING, curve=CURVE[:1]), "point lost"),
        (RUNNING, replace(RUNNING, curve=((1, 0.25), (2, 0.75))), "point changed"),
        (RUNNING, replace(RUNNING, candidate=trained(7).candidate), "trial changed"),
        (trained(1), replace(RUNNING, outcome=Outcome.FINISHED), "end changed"),
        (trained(1), trained(1, state=State.PRUNED, outcome=Outcome.STOPPED), "end changed"),
    ],
)
def test_what_the_database_once_acknowledged_must_stay(before: TrialRecord, after: TrialRecord, rule: str):
    ledger = Ledger()
    assert not ledger.note([trained(0), before])
    assert not ledger.note([trained(0), before])
    assert rules(ledger.note([trained(0), after])) == [rule]


def test_a_study_that_grows_breaks_no_rule():
    ledger = Ledger()
    assert not ledger.note([replace(RUNNING, curve=CURVE[:1])])
    assert ledger.progress == 1
    assert not ledger.note([replace(RUNNING, state=State.WAITING)])
    assert not ledger.note([trained(1), trained(2)])
    assert ledger.progress == 6


def test_a_token_that_goes_back_or_has_two_drivers_is_found():
    ledger = Ledger()
    assert not ledger.note_lease(None)
    assert not ledger.note_lease({"token": 1, "id": "a"}) + ledger.note_lease({"token": 2, "id": "b"})
    assert rules(ledger.note_lease({"token": 2, "id": "c"})) == ["double driver"]
    assert rules(ledger.note_lease({"token": 1, "id": "a"})) == ["double driver"]


@pytest.mark.parametrize(
    ("second", "found"),
    [
        (trained(1), []),
        (trained(1, candidate=trained(0).candidate), ["duplicate trial"]),
        (trained(1, candidate=trained(0).candidate, outcome=Outcome.DUPLICATE), ["trial lost"]),
        (trained(2), ["trial lost"]),
        (trained(1, curve=CURVE[1:]), ["point lost"]),
        (trained(1, curve=((1, 0.25), (2, 0.75))), ["point changed"]),
        (trained(1, state=State.RUNNING), ["zombie"]),
        (trained(1, state=State.WAITING), ["zombie"]),
        (trained(1, state=State.FAIL, outcome=Outcome.FAILED, reason="the disk is full"), ["trial failed"]),
    ],
)
def test_what_is_wrong_in_a_finished_study_is_found(second: TrialRecord, found: list[str]):
    assert rules(invariants.finished_study([trained(0), second], 2, EPOCHS)) == found


def test_a_trial_whose_driver_died_before_it_was_born_is_not_missed():
    unborn = trained(1, state=State.FAIL, outcome=None, candidate=None, reason=invariants._UNBORN, curve=(), score=None)
    assert not invariants.finished_study([trained(0), unborn, trained(2)], 2, EPOCHS)


@pytest.mark.parametrize(
    ("curve", "found"),
    [(CURVE, []), (CURVE[:1], ["checkpoint lost"]), (((1, 0.25), (2, 0.75)), ["point changed"])],
)
def test_a_checkpoint_behind_or_beside_its_record_is_found(tmp_path: Path, curve: Any, found: list[str]):
    from trial_runner.training.checkpoint import Checkpoint, save_checkpoint

    paths = StudyPaths(tmp_path)
    save_checkpoint(paths.trial(0) / "last.pt", Checkpoint("f", 2, False, {}, {}, curve, 1.0, None))
    assert rules(invariants.checkpoints([trained(0)], paths)) == found


def test_a_bundle_that_does_not_verify_and_a_failed_export_are_found(tmp_path: Path):
    (tmp_path / "bundles" / "trial-00000").mkdir(parents=True)
    records = [trained(0, bundle="bundles/trial-00000"), trained(1, export_error="no"), trained(2)]
    assert rules(invariants.bundles(records, StudyPaths(tmp_path))) == ["bundle", "bundle"]


def test_unfinished_files_tracebacks_repeated_ends_and_processes_are_found(tmp_path: Path):
    (tmp_path / "trials" / "00000").mkdir(parents=True)
    (tmp_path / "trials" / "00000" / ".last.pt.x").touch()
    (tmp_path / "trials" / "00000" / "last.pt").touch()
    assert rules(invariants.hidden_files(StudyPaths(tmp_path))) == ["file left over"]
    traceback = "a\nTraceback (most recent call last):\n  File\nValueError: no\n"
    assert [violation.text[-12:] for violation in invariants.log("l", traceback)] == ["alueError: no"[-12:]]
    assert not invariants.log("l", "no traceback at all")
    lines = "t trial   3 finished a: 1 ms\nt trial  13 finished b\nt trial   3 stopped  c\n"
    assert not invariants.finished_twice(lines)
    assert rules(invariants.finished_twice(lines + "t trial   3 finished a: 1 ms\n")) == ["duplicate trial"]
    assert rules(invariants.left_over({7: "python"}, "round 1")) == ["zombie"]
    assert rules(invariants.running_rows([trained(0), RUNNING], "SIGTERM")) == ["zombie"]


def test_every_kind_of_fault_comes_as_often_as_its_weight_and_the_seed_decides_when():
    names = list(FAULTS)
    deck = sum(fault.weight for fault in FAULTS.values())
    drawn = [draw(1, index, names) for index in range(2 * deck)]
    assert {name: drawn.count(name) for name in names} == {name: 2 * FAULTS[name].weight for name in names}
    assert drawn == [draw(1, index, names) for index in range(2 * deck)]
    assert drawn != [draw(2, index, names) for index in range(2 * deck)]


def test_a_campaign_is_kept_in_a_file_and_another_one_is_refused_beside_it(tmp_path: Path):
    broken = Violation("point lost", "trial 3 has lost epoch 2").to_dict()
    faults = [
        FaultRecord("driver SIGKILL", 1, (-9,), True, 4.0, ()),
        FaultRecord("driver SIGKILL", 2, (-9, 2), True, None, (broken,)),
    ]
    campaign = Campaign({"seed": 1, "backend": "inprocess", "nodes": 3}, faults, rounds=2, trials=16, seconds=60.0)
    campaign.save(tmp_path / "campaign.json")
    assert Campaign.load(tmp_path / "campaign.json") == campaign
    shown = text(campaign)
    assert "| driver SIGKILL | 2 | 2 | -9: 2, 2: 1 | 4.0 | 1 |" in shown and "trial 3 has lost epoch 2" in shown
    with pytest.raises(UserError, match="choose another --state"):
        main(["--seed", "2", "--json", str(tmp_path / "out.json"), "--state", str(tmp_path), "--backend", "inprocess"])


def test_simultaneous_starts_are_counted_by_what_became_of_them(postgres_url: str):
    from benchmarks.chaos.lease_starts import start_at_once
    from trial_runner.study.lease import DriverLease
    from trial_runner.study.storage import open_study

    study = open_study(postgres_url, "s", create=True)
    with DriverLease(study):
        starts = start_at_once(postgres_url, "s", 8, processes=2)
    assert (starts.held, starts.refused, starts.failed) == (0, 8, ())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_campaign_in_process_breaks_no_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with postgres_server.running_server():  # skips where there is none
        pass
    arguments = ["--seed", "3", "--kills", "4", "--starts", "40", "--backend", "inprocess", "--state", str(tmp_path)]
    kinds = ["driver SIGKILL", "driver SIGTERM", "database SIGQUIT and restart", "connections cut"]
    status = main([*arguments, "--json", str(tmp_path / "out.json"), "--kinds", *kinds])
    result = json.loads((tmp_path / "out.json").read_text())
    assert status == 0 and not result["violations"], capsys.readouterr().out
    assert len(result["faults"]) == 4 and all(fault["recovered"] for fault in result["faults"])
    assert result["rounds"] >= 1 and result["trials"] == 8 * result["rounds"]
    assert result["points"] >= 2 * result["trials"] and sum(row["count"] for row in result["rows"]) == 4
