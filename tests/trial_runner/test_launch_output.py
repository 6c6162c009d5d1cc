"""Progress of a running launch: lines, status block, JSON, and its log file."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_front_table import record

import trial_runner.cli.launch_output as launch_output
from objectives.trial_record import Outcome, State
from objectives.trial_score import TrialScore
from trial_runner.cli.launch_output import LaunchOutput
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.launch_monitor import LaunchMonitor
from trial_runner.search.final_training import spec_of
from trial_runner.study.objectives import objectives_of
from trial_runner.study.paths import StudyPaths
from trial_runner.training.trial_spec import Progress

FIXTURES = Path(__file__).resolve().parents[1] / "golden" / "fixtures"
BUDGETS = [
    "search.trials=10",
    "training.epochs=8",
    "search.early_stopping.rungs_epochs=[]",
    "device.latency_budget_ms=20",
]


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def progress(epoch: int) -> Progress:
    curve = tuple((at, at / 100) for at in range(1, epoch + 1))
    return Progress(epoch, epoch / 100, curve, TrialScore(epoch / 100, epoch, 8, 1, 1, 1.0, (0.5,)))


def monitored(*overrides: str) -> tuple[LaunchMonitor, Clock, Callable[[int], None]]:
    """A monitor of a study that begins, its clock, and a function that starts a trial."""
    config = load_config(FIXTURES / "study" / "study.yaml", [*BUDGETS, *overrides])
    clock = Clock()
    monitor = LaunchMonitor(config, objectives_of(config), clock)

    def start(number: int) -> None:
        waiting = replace(record(number, "lcnet"), score=None, measurement=None, state=State.RUNNING, outcome=None)
        monitor.started(spec_of(config, StudyPaths(config.study.output_dir), waiting))

    return monitor, clock, start


def test_the_state_counts_trials_and_tells_what_runs_and_what_is_left():
    monitor, clock, start = monitored()
    assert monitor.snapshot() is None
    monitor.begin(
        [record(0, "lcnet"), replace(record(1, "lcnet"), outcome=Outcome.INFEASIBLE, score=None, state=State.PRUNED)]
    )
    for number in (2, 3):
        start(number)
    clock.now += 60
    for epoch in (1, 2, 3, 4):
        monitor.progressed(2, progress(epoch))
    state = monitor.snapshot()
    assert state is not None and (state.done, state.trials, state.outcomes) == (1, 10, {"finished": 1, "refused": 1})
    assert [(item.number, item.epoch, item.epochs) for item in state.running] == [(2, 4, 8), (3, 0, 8)]
    assert state.left_s == pytest.approx((9 * 8 - 4) * 60 / 4) and state.left_by.startswith("at most, by 4 epochs")
    assert "trial 0" in state.best and state.hypervolume > 0
    line = state.line()
    assert line.startswith(
        "1 of 10 trials done (1 finished, 1 refused); running: trial 2 (epoch 4 of 8), 3 (epoch 0 of 8);"
    )
    assert "best mIoU 0.400" in line
    assert any(text.startswith("trial   2 █████░░░░░ 4/8 mIoU 0.040 1 min 00 s") for text in state.block())

    clock.now += 60
    monitor.ended(record(2, "resnet10t"))
    state = monitor.snapshot()
    assert state is not None and state.done == 2 and [item.number for item in state.running] == [3]
    assert state.trials_per_hour == pytest.approx(30) and state.left_s == pytest.approx(8 * 120)
    assert "about 16 min 00 s left (by 1 trials of this launch)" in state.line() and "trial 2" in state.best


def test_the_time_budget_ends_the_search_where_it_comes_first():
    monitor, clock, start = monitored("search.time_budget_minutes=5")
    monitor.begin([])
    start(0)
    clock.now += 60
    monitor.progressed(0, progress(1))
    state = monitor.snapshot()
    assert state is not None and (state.left_s, state.left_by) == (240, "by the time budget")


def test_epochs_of_an_earlier_launch_do_not_count_as_pace():
    monitor, clock, start = monitored()
    monitor.begin([])
    start(0)
    clock.now += 10
    monitor.progressed(0, progress(6))  # a resumed trial repeats its last report
    state = monitor.snapshot()
    assert state is not None and state.left_s is None


def test_lines_reach_the_terminal_and_the_log_with_their_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = LaunchOutput(tmp_path / "out" / "launch.log")
    output.say("trial 1 finished")
    assert capsys.readouterr().out == "trial 1 finished\n"
    (stored,) = (tmp_path / "out" / "launch.log").read_text().splitlines()
    assert stored.endswith("+00:00 trial 1 finished")
    LaunchOutput(tmp_path / "out" / "launch.log", as_json=True).say('a "quoted" line')
    assert json.loads(capsys.readouterr().out)["message"] == 'a "quoted" line'


def test_without_a_terminal_the_state_is_a_line_at_each_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(launch_output, "_QUIET_S", 0.01)
    monitor, _, start = monitored()
    monitor.begin([])
    start(4)
    log = tmp_path / "launch.log"
    with LaunchOutput(log, as_json=True).following(monitor):
        while not log.is_file():
            time.sleep(0.01)
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["status"]["running"][0]["number"] == 4 and "trial 4 (epoch 0 of 8)" in log.read_text()


def test_on_a_terminal_lines_scroll_above_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monitor, _, start = monitored()
    monitor.begin([])
    start(4)
    output = LaunchOutput(tmp_path / "launch.log")
    with output.following(monitor):
        output.say("trial   3 finished")
    shown = terminal.getvalue()
    assert "trial   3 finished" in shown and "0 of 10 trials done" in shown and "trial   4 ░" in shown
    assert shown.rindex("0 of 10 trials done") > shown.index("trial   3 finished")


def test_a_launch_writes_its_log_and_json_lines(write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    study = write_study(trials=1, epochs=1)
    assert main(["launch", str(study), "--log-format", "json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    messages = [line["message"] for line in lines if "message" in line]
    assert any(message.startswith("trial   0 finished") for message in messages) and messages[-1].startswith(
        "report: file://"
    )
    log = (study.parent / "out" / "launch.log").read_text()
    assert "trial   0 finished" in log and "all 1 trials are done" in log
