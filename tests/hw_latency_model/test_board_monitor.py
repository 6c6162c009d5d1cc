"""Watching a batch: the agent is started again when it dies, and left alone when a person has to do something."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hw_latency_model.board.monitor import JobMonitor, reports_full_disk
from hw_latency_model.board.results import BoardResults, KnownJob
from hw_latency_model.board.session import BoardSession
from hw_latency_model.board.transport import AgentLink, RetryPolicy
from hw_latency_model.board.transport.shell import LocalShell
from search_spaces._common.errors import UserError

STAND_IN = Path(__file__).with_name("stand_in_agent.py")


class Case:
    """A batch of a stand-in agent on this machine."""

    def __init__(self, folder: Path, count: int = 3, **behaviour: Any) -> None:
        self.lines: list[str] = []
        self.session = BoardSession(folder / "session", device="board", precision="fp32")
        self.kit = folder / "kit"
        self.kit.mkdir()
        shutil.copy(STAND_IN, self.kit / "paretoseg_agent.pyz")
        rows, jobs = [], []
        for index in range(count):
            digest = hashlib.sha256(bytes([index])).hexdigest()
            rows.append(
                {"id": f"j{index}", "subject": f"n{index}", "onnx": "none", "sha256": digest, "kind": "network"}
            )
            jobs.append(KnownJob(f"j{index}", f"n{index}", digest, "network", ()))
        (self.kit / "jobs.json").write_text(json.dumps({"device": "board", "jobs": rows}))
        self.batch = self.session.add_batch(jobs, [1.0] * count)
        self.link = AgentLink(LocalShell(), str(folder / "board"), self.session.id, sys.executable)
        self.behave(**behaviour)

    def behave(self, **behaviour: Any) -> None:
        (self.kit / "behaviour.json").write_text(json.dumps(behaviour))

    def run(self, *, deadline_s: float = 60.0, enough: Callable[[], bool] = lambda: True) -> BoardResults:
        self.link.send(self.kit)
        watch = JobMonitor(
            self.batch,
            self.session,
            self.link,
            RetryPolicy("this machine", self.lines.append),
            self.lines.append,
            take_in=self.session.results,
            describe=lambda subject: f"<{subject}>",
            clock=lambda: "now",
        )
        return watch.run(deadline=time.monotonic() + deadline_s, enough=enough)


def test_an_agent_that_dies_is_started_again_and_no_measurement_is_lost(tmp_path: Path) -> None:
    case = Case(tmp_path, die_at="j1")
    results = case.run()
    assert [item.subject for item in results.measurements] == ["n0", "n1", "n2"]
    assert any("ended with status 137; starting it again" in line for line in case.lines)
    assert sum("<n1>" in line for line in case.lines) == 1


def test_garbage_between_the_lines_is_passed_over(tmp_path: Path) -> None:
    results = Case(tmp_path, garbage='[E] out of range\n{"type": "measurement"}\n').run()
    assert len(results.measurements) == 3 and results.damaged == 6


def test_what_only_a_person_can_change_ends_it_with_the_agents_own_words(tmp_path: Path) -> None:
    case = Case(tmp_path, user_error="power mode 5W is on, and only root may change it")
    with pytest.raises(
        UserError, match="the agent on this machine cannot go on: power mode 5W is on, and only root may change it"
    ):
        case.run()
    case.behave()
    assert len(case.run().measurements) == 3


def test_a_full_disk_ends_it_and_the_next_run_goes_on(tmp_path: Path) -> None:
    case = Case(tmp_path, full_at="j2")
    with pytest.raises(
        UserError, match=r"the disk of this machine is full .*Free some space there.*nothing that was measured is lost"
    ):
        case.run()
    assert len(case.session.results().measurements) == 2
    assert len(case.run().measurements) == 3


def test_an_agent_that_never_gets_anywhere_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    case = Case(tmp_path)
    (case.kit / "paretoseg_agent.pyz").write_text("import sys\nsys.exit('Illegal instruction')\n")
    with pytest.raises(
        UserError, match=r"ended with status 1, 4 times without a new result \(Illegal instruction\).*agent\.log"
    ):
        case.run()


def test_a_job_that_fails_for_now_is_tried_once_more_and_left(tmp_path: Path) -> None:
    case = Case(tmp_path, retry=["j1"])
    results = case.run()
    assert [item.subject for item in results.measurements] == ["n0", "n2"]
    assert [(failure.subject, failure.retry) for failure in results.failures] == [("n1", True)]
    assert "j1" not in results.done


def test_a_measurement_of_another_file_is_not_believed_and_the_batch_still_ends(tmp_path: Path) -> None:
    results = Case(tmp_path, wrong_sha=["j0"]).run()
    assert [item.subject for item in results.measurements] == ["n1", "n2"]
    assert results.refused and all("n0 was measured with another file" in sentence for sentence in results.refused)


def test_when_the_time_is_up_the_board_is_stopped_unless_there_is_too_little_for_a_model(tmp_path: Path) -> None:
    case = Case(tmp_path, count=4, seconds=0.4)
    results = case.run(deadline_s=0.0)
    assert len(results.measurements) < 4 and case.link.poll(0).state == "exit"
    assert any("the time is spent; the board is told to stop" in line for line in case.lines)
    assert len(case.run(deadline_s=0.0, enough=lambda: False).measurements) == 4


def test_results_that_started_over_on_the_board_are_read_from_their_start(tmp_path: Path) -> None:
    case = Case(tmp_path)
    assert len(case.run().measurements) == 3
    results = Path(case.link.folder) / "results.jsonl"
    results.unlink()
    digest = hashlib.sha256(b"new").hexdigest()
    row = {"id": "k0", "subject": "m0", "onnx": "none", "sha256": digest, "kind": "network"}
    (case.kit / "jobs.json").write_text(json.dumps({"device": "board", "jobs": [row]}))
    case.batch = case.session.add_batch([KnownJob("k0", "m0", digest, "network", ())], [1.0])
    assert [item.subject for item in case.run().measurements] == ["n0", "n1", "n2", "m0"]


@pytest.mark.parametrize(
    ("log", "full"),
    [("stopped early: disk full: results.jsonl cannot take another line", True),
     ("OSError: [Errno 28] No space left on device", True),
     ("Illegal instruction", False), ("", False)],
)  # fmt: skip
def test_a_log_that_reports_a_full_disk_is_recognised(log: str, full: bool) -> None:
    assert reports_full_disk(log) is full
