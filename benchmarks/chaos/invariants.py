"""Rules that a study keeps whatever happens to its processes, each checked on what its database and files say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from objectives.trial_record import Outcome, State, TrialRecord
from search_spaces._common.errors import UserError
from trial_runner.study.paths import StudyPaths
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.trial_spec import CHECKPOINT
from trial_runner.verify import verify_bundle

_ENDED = (State.COMPLETE, State.PRUNED, State.FAIL)
_TRAINED = (Outcome.FINISHED, Outcome.STOPPED)
_UNBORN = "its driver died before its parameters were stored"
_FINISHED = re.compile(r"\btrial +(\d+) finished ")
_HIDDEN = ("trials/*/.*", "bundles/.*")


@dataclass(frozen=True)
class Violation:
    """A broken rule, and a sentence on the case."""

    rule: str
    text: str

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


class Ledger:
    """All that a study's database has acknowledged: every later reading must still hold it.

    Attributes:
        progress: number of acknowledged points of curves and ends of trials; it grows as the study goes on.
    """

    def __init__(self) -> None:
        self._points: dict[tuple[int, int], float] = {}
        self._candidates: dict[int, str] = {}
        self._ends: dict[int, tuple[str, str | None]] = {}
        self._drivers: dict[int, str] = {}
        self.progress = 0

    def note(self, records: Sequence[TrialRecord]) -> list[Violation]:
        """Compare a reading of all trials with the earlier ones, and remember it."""
        found = []
        points = {(record.number, epoch): value for record in records for epoch, value in record.curve}
        candidates = {record.number: record.candidate.id for record in records if record.candidate}
        ends = {record.number: (str(record.state), record.outcome) for record in records if record.state in _ENDED}
        for (number, epoch), value in self._points.items():
            now = points.get((number, epoch))
            if now is None:
                found.append(Violation("point lost", f"trial {number} has lost epoch {epoch}, mIoU {value}"))
            elif now != value:
                found.append(Violation("point changed", f"trial {number}, epoch {epoch}: {value} became {now}"))
        for number, candidate in self._candidates.items():
            if candidates.get(number) != candidate:
                text = f"trial {number} was of candidate {candidate} and is of {candidates.get(number)}"
                found.append(Violation("trial changed", text))
        for number, end in self._ends.items():
            if ends.get(number) != end:
                found.append(Violation("end changed", f"trial {number} ended as {end} and is now {ends.get(number)}"))
        self._points |= points
        self._candidates |= candidates
        self._ends |= ends
        self.progress = len(self._points) + len(self._ends)
        return found

    def note_lease(self, lease: Mapping[str, Any] | None) -> list[Violation]:
        """Compare a reading of the lease with the earlier ones: its token only grows, and belongs to one driver."""
        if not lease:
            return []
        token, driver = int(lease["token"]), str(lease["id"])
        newest = max(self._drivers, default=0)
        found = []
        if token < newest:
            found.append(Violation("double driver", f"the lease's token went back from {newest} to {token}"))
        if self._drivers.setdefault(token, driver) != driver:
            text = f"the drivers {self._drivers[token]} and {driver} both had the lease's token {token}"
            found.append(Violation("double driver", text))
        return found


def running_rows(records: Iterable[TrialRecord], after: str) -> list[Violation]:
    """Find trials that are RUNNING although no driver runs."""
    return [
        Violation("zombie", f"trial {record.number} is RUNNING without a driver, after {after}")
        for record in records
        if record.state == State.RUNNING
    ]


def finished_study(records: Sequence[TrialRecord], trials: int, epochs: int) -> list[Violation]:
    """Find what is missing, double or incomplete in a study whose last launch has ended with status 0."""
    found = running_rows(records, "the end of the study")
    found += [Violation("zombie", f"trial {record.number} waits for ever") for record in records if waits(record)]
    if [record.number for record in records] != list(range(len(records))):
        found.append(Violation("trial lost", f"the trials' numbers are {[record.number for record in records]}"))
    trained = [record for record in records if record.outcome in _TRAINED]
    failed = [record for record in records if record.state == State.FAIL and record.reason != _UNBORN]
    found += [Violation("trial failed", f"trial {record.number} failed: {record.reason}") for record in failed]
    if len(trained) + len(failed) != trials:
        found.append(
            Violation("trial lost", f"{len(trained)} trials were trained and {len(failed)} failed of {trials}")
        )
    ids = Counter(record.candidate.id for record in trained if record.candidate)
    found += [
        Violation("duplicate trial", f"candidate {candidate} was trained as {count} trials")
        for candidate, count in ids.items()
        if count > 1
    ]
    for record in trained:
        done = epochs if record.outcome == Outcome.FINISHED else len(record.curve)
        if [epoch for epoch, _ in record.curve] != list(range(1, done + 1)):
            found.append(Violation("point lost", f"trial {record.number} has the epochs {list(dict(record.curve))}"))
        elif record.score is None or record.score.val_miou != record.curve[-1][1]:
            found.append(
                Violation("point changed", f"the score of trial {record.number} is not that of its last epoch")
            )
    return found


def waits(record: TrialRecord) -> bool:
    """Return True for a trial that was given back and not taken up again."""
    return record.state == State.WAITING and record.candidate is not None


def checkpoints(records: Iterable[TrialRecord], paths: StudyPaths) -> list[Violation]:
    """Find checkpoints that are older than their trial's record, or have other values."""
    found = []
    for record in records:
        if not record.curve:
            continue
        checkpoint = load_checkpoint(paths.trial(record.number) / CHECKPOINT)
        kept = dict(checkpoint.curve) if checkpoint else {}
        missing = [epoch for epoch, _ in record.curve if epoch not in kept]
        if missing:
            text = f"the checkpoint of trial {record.number} lacks the epochs {missing} of its record"
            found.append(Violation("checkpoint lost", text))
        changed = [epoch for epoch, value in record.curve if epoch in kept and kept[epoch] != value]
        if changed:
            text = f"the checkpoint of trial {record.number} has other values than its record at the epochs {changed}"
            found.append(Violation("point changed", text))
    return found


def bundles(records: Iterable[TrialRecord], paths: StudyPaths) -> list[Violation]:
    """Verify the bundles of a study, as `paretoseg verify` does; a trial whose export failed has none."""
    found = []
    for record in records:
        if record.export_error is not None:
            found.append(Violation("bundle", f"the export of trial {record.number} failed: {record.export_error}"))
        if record.bundle is None:
            continue
        try:
            verify_bundle(paths.root / record.bundle)
        except UserError as error:
            found.append(Violation("bundle", f"the bundle of trial {record.number}: {error}"))
    return found


def hidden_files(paths: StudyPaths) -> list[Violation]:
    """Find unfinished files of dead launches, which the next launch removes."""
    return [
        Violation("file left over", f"{path.relative_to(paths.root)} was never renamed into place nor removed")
        for pattern in _HIDDEN
        for path in sorted(paths.root.glob(pattern))
    ]


def log(name: str, text: str) -> list[Violation]:
    """Find tracebacks in a log."""
    at = text.find("Traceback (most recent call last)")
    if at < 0:
        return []
    return [Violation("traceback", f"{name}: {text[at : at + 100_000].strip()[-500:]}")]


def finished_twice(text: str) -> list[Violation]:
    """Find trials that the log of all launches of a study reports as finished more than once."""
    counts = Counter(int(number) for number in _FINISHED.findall(text))
    return [
        Violation("duplicate trial", f"trial {number} was reported as finished {count} times")
        for number, count in sorted(counts.items())
        if count > 1
    ]


def left_over(processes: Mapping[int, str], of: str) -> list[Violation]:
    """Find processes that outlived what started them."""
    return [Violation("zombie", f"process {pid} of {of} still runs: {name[:200]}") for pid, name in processes.items()]
