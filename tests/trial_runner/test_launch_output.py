"""Progress of a running launch: lines, status block, JSON, and its log file."""

from __future__ import annotations

import io
import json
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from test_front_table import record

import trial_runner.cli.launch_output as launch_output
from objectives.trial_record import Outcome, State
from objectives.trial_score import TrialScore
from search_spaces._common.machine import node_name
from trial_runner.cli.launch_output import LaunchOutput
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.launch_monitor import LaunchMonitor
from trial_runner.machine_use import GpuUse, MachineMeter, MachineUse, gpu_use
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
    assert "about 16 min 00 s left (by 1 trial of this launch)" in state.line() and "trial 2" in state.best


def test_the_block_cuts_no_fact_and_names_no_machine_of_its_own_at_80_columns():
    monitor, clock, start = monitored()
    monitor.begin([record(0, "lcnet")])
    start(2)
    clock.now += 60
    monitor.progressed(2, replace(progress(1), node=node_name()))
    state = monitor.snapshot()
    assert state is not None
    state = replace(state, machine=MachineUse(0.98, 2, 0.41, (GpuUse(0, 0.87, 0.4),)))
    block = state.block(77)
    facts = block[1:-1]
    assert len(facts) > 1 and all(len(line) <= 77 for line in facts) and " on " not in block[-1]
    assert "CPU 98% of 2 cores  memory 41%  GPU 0 87%, its memory 40%" in "  ".join(facts)
    assert "at most, by 1 epoch of this launch" in "  ".join(facts)
    assert len(state.block(200)) == 3 and state.to_dict()["machine"]["cpu"] == 0.98
    monitor.progressed(2, replace(progress(2), node="another"))
    assert "on another" in monitor.snapshot().block()[-1]


STAT = "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 0 0 1 0 0 0 0 0 0\ncpu1 1 0 0 1 0 0 0 0 0 0\nbtime 5\n"


def test_the_use_of_a_machine_is_what_was_busy_since_the_last_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    clock = Clock()
    (tmp_path / "stat").write_text(STAT.format(busy=1000, idle=1000))
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n")
    meter = MachineMeter(tmp_path, clock)
    (tmp_path / "stat").write_text(STAT.format(busy=1150, idle=1050))
    assert meter() == MachineUse() and meter().words() == []
    clock.now += 2
    assert meter() == MachineUse(0.75, 2, 0.75) and meter().words() == ["CPU 75% of 2 cores", "memory 75%"]
    clock.now += 2
    assert meter().cpu is None
    assert MachineMeter(tmp_path / "none", clock)().words() == []


def test_gpus_are_named_where_nvml_answers(monkeypatch: pytest.MonkeyPatch):
    class NVMLError(Exception):
        pass

    def refuse() -> None:
        raise NVMLError("no driver")

    nvml = types.SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=handle, total=4),
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu=50),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert gpu_use() == (GpuUse(0, 0.5, 0.0), GpuUse(1, 0.5, 0.25))
    nvml.nvmlInit = refuse
    assert gpu_use() == ()


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
