"""State of a running launch: trials by outcome, what runs, the best so far, pace and time left."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dashboards.text import milliseconds, miou, seconds
from objectives.objective import OBJECTIVES, Objective
from objectives.pareto import pareto_front
from objectives.trial_record import Outcome, TrialRecord
from search_spaces._common.machine import node_name
from search_spaces.describe import network_words
from trial_runner.config.study import StudyConfig
from trial_runner.front.table import front_records
from trial_runner.machine_use import MachineMeter, MachineUse
from trial_runner.training.trial_spec import Progress, TrialSpec

_COUNTED = (Outcome.FINISHED, Outcome.STOPPED, Outcome.FAILED)
_SHOWN_RUNNING = 12


@dataclass(frozen=True)
class RunningTrial:
    """One trial that trains.

    Attributes:
        number: of the trial.
        network: in words.
        epoch, epochs: trained and in all.
        val_miou: of the last evaluation; None before the first one.
        node: machine that it runs on; empty for this one.
        since_s: seconds since it started in this launch.
    """

    number: int
    network: str
    epoch: int
    epochs: int
    val_miou: float | None
    node: str
    since_s: float


@dataclass(frozen=True)
class LaunchSnapshot:
    """A launch at one moment.

    Attributes:
        done: trials that count towards ``trials``.
        trials: that the study is to have.
        outcomes: number of trials by outcome, those of earlier launches included.
        running: trials that train now.
        best: the most accurate network within the budgets, in words; empty without one.
        hypervolume: of the front; 0 without one.
        trials_per_hour: that ended in this launch; None before the first one.
        left_s: seconds that the search will take at this pace; None while it is not known.
        left_by: what ``left_s`` is concluded from.
        machine: use of the driver's machine.
    """

    done: int
    trials: int
    outcomes: dict[str, int]
    running: tuple[RunningTrial, ...]
    best: str
    hypervolume: float
    trials_per_hour: float | None
    left_s: float | None
    left_by: str
    machine: MachineUse = field(default_factory=MachineUse)

    def line(self) -> str:
        """Return the snapshot in one line."""
        counts = ", ".join(f"{count} {name}" for name, count in self.outcomes.items())
        parts = [f"{self.done} of {self.trials} trials done{f' ({counts})' if counts else ''}"]
        if self.running:
            shown = [f"{item.number} (epoch {item.epoch} of {item.epochs})" for item in self.running[:_SHOWN_RUNNING]]
            more = "" if len(self.running) <= _SHOWN_RUNNING else f" and {len(self.running) - _SHOWN_RUNNING} more"
            parts.append(f"running: trial {', '.join(shown)}{more}")
        return "; ".join([*parts, *self._facts()])

    def block(self, width: int = 200) -> list[str]:
        """Return the snapshot as lines for a terminal, a line for each running trial; facts are not cut at its width."""
        counts = " · ".join(f"{count} {name}" for name, count in self.outcomes.items())
        lines = [f"{self.done} of {self.trials} trials done{f'  {counts}' if counts else ''}"]
        lines += _in_lines(self._facts(), width)
        for item in self.running[:_SHOWN_RUNNING]:
            filled = round(10 * item.epoch / max(item.epochs, 1))
            score = f" mIoU {miou(item.val_miou)}" if item.val_miou is not None else ""
            node = f" on {item.node}" if item.node else ""
            bar = "█" * filled + "░" * (10 - filled)
            lines.append(
                f"trial {item.number:>3} {bar} {item.epoch}/{item.epochs}{score} {seconds(item.since_s)}{node} {item.network}"
            )
        return [line for line in lines if line]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    def _facts(self) -> list[str]:
        facts = [f"best {self.best}"] if self.best else []
        if self.hypervolume:
            facts.append(f"hypervolume {self.hypervolume:.4g}")
        if self.trials_per_hour is not None:
            facts.append(f"{self.trials_per_hour:.3g} trials an hour")
        if self.left_s is not None:
            facts.append(f"about {seconds(self.left_s)} left ({self.left_by})")
        return facts + self.machine.words()


def _in_lines(facts: Sequence[str], width: int) -> list[str]:
    """Join facts to as few lines of this width as hold them in order."""
    lines: list[str] = []
    for fact in facts:
        if lines and len(lines[-1]) + 2 + len(fact) <= width:
            lines[-1] += f"  {fact}"
        else:
            lines.append(fact)
    return lines


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


class LaunchMonitor:
    """Collects the events of a launch; any thread may ask for a snapshot.

    Args:
        config: of the study.
        objectives: of the study, with budgets.
        clock: seconds.
        machine: use of this machine; by default measured.
    """

    def __init__(
        self,
        config: StudyConfig,
        objectives: Sequence[Objective] = OBJECTIVES,
        clock: Callable[[], float] = time.monotonic,
        machine: Callable[[], MachineUse] | None = None,
    ) -> None:
        self._machine = machine or MachineMeter()
        self._config, self._objectives, self._clock = config, tuple(objectives), clock
        self._lock = threading.Lock()
        self._records: dict[int, TrialRecord] = {}
        self._running: dict[int, tuple[TrialSpec, float]] = {}
        self._progress: dict[int, Progress] = {}
        self._begun: float | None = None
        self._ended_here = 0
        self._epochs_here = 0
        self._best, self._volume = "", 0.0

    def begin(self, records: Sequence[TrialRecord]) -> None:
        """Take the trials of earlier launches; the search begins now."""
        with self._lock:
            self._records = {record.number: record for record in records}
            self._begun = self._clock()
            self._rank()

    def rescored(self, records: Sequence[TrialRecord]) -> None:
        """Take the trials as they are predicted anew."""
        with self._lock:
            self._records = {record.number: record for record in records}
            self._rank()

    def started(self, spec: TrialSpec) -> None:
        """Note that a trial was given to a worker."""
        with self._lock:
            self._running[spec.number] = (spec, self._clock())

    def progressed(self, number: int, progress: Progress) -> None:
        """Note an evaluation of a running trial."""
        with self._lock:
            before = self._progress.get(number)
            if before is not None:
                self._epochs_here += progress.epoch - before.epoch
            elif len(progress.curve) == 1:  # a resumed trial first repeats what an earlier launch trained
                self._epochs_here += progress.epoch
            self._progress[number] = progress

    def ended(self, record: TrialRecord) -> None:
        """Note the end of a trial."""
        with self._lock:
            self._records[record.number] = record
            self._progress.pop(record.number, None)
            if self._running.pop(record.number, None) is not None:
                self._ended_here += 1
            if record.complete:
                self._rank()

    def snapshot(self) -> LaunchSnapshot | None:
        """Return the state now; None before the search began."""
        with self._lock:
            if self._begun is None:
                return None
            now = self._clock()
            counts = Counter(str(record.outcome) for record in self._records.values() if record.outcome is not None)
            done = sum(r.outcome in _COUNTED and r.parent_trial is None for r in self._records.values())
            running = tuple(self._running_trial(number, now) for number in sorted(self._running))
            elapsed = max(now - self._begun, 1e-9)
            left_s, left_by = self._left(done, running, elapsed)
            return LaunchSnapshot(
                done,
                self._config.search.trials,
                {str(outcome): counts[str(outcome)] for outcome in Outcome if counts[str(outcome)]},
                running,
                self._best,
                self._volume,
                3600 * self._ended_here / elapsed if self._ended_here else None,
                left_s,
                left_by,
                self._machine(),
            )

    def _running_trial(self, number: int, now: float) -> RunningTrial:
        spec, since = self._running[number]
        progress = self._progress.get(number)
        return RunningTrial(
            number,
            network_words(spec.candidate.params),
            progress.epoch if progress else 0,
            progress.score.epochs_total if progress else self._config.training.epochs,
            progress.val_miou if progress else None,
            progress.node if progress and progress.node != node_name() else "",
            now - since,
        )

    def _left(self, done: int, running: Sequence[RunningTrial], elapsed: float) -> tuple[float | None, str]:
        """Return the seconds that the search will still take, and what that is concluded from."""
        missing = max(self._config.search.trials - done, 0)
        if self._ended_here:
            found: tuple[float | None, str] = (
                missing * elapsed / self._ended_here,
                f"by {_counted(self._ended_here, 'trial')} of this launch",
            )
        elif self._epochs_here:
            epochs = missing * self._config.training.epochs - sum(item.epoch for item in running)
            found = (
                max(epochs, 0) * elapsed / self._epochs_here,
                f"at most, by {_counted(self._epochs_here, 'epoch')} of this launch",
            )
        else:
            found = (None, "")
        minutes = self._config.search.time_budget_minutes
        if minutes is not None:
            by_clock = max(60 * minutes - elapsed, 0.0)
            if found[0] is None or by_clock < found[0]:
                return by_clock, "by the time budget"
        return found

    def _rank(self) -> None:
        """Find the best network within the budgets and the hypervolume."""
        records = list(self._records.values())
        self._volume = pareto_front(records, objectives=self._objectives).hypervolume
        members = front_records(records, self._config.device.latency_budget_ms, self._objectives)
        known = [(record.val_miou, record) for record in members if record.val_miou is not None]
        if known:
            value, record = max(known, key=lambda pair: pair[0])
            self._best = f"mIoU {miou(value)} at {milliseconds(record.latency_ms)} ms (trial {record.number})"
