"""A campaign of faults: round after round of a small study, a fault at every random moment, and the recovery after it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos.faults import FAULTS, Fault, draw, usable
from benchmarks.chaos.invariants import Violation
from benchmarks.chaos.world import Launch, World
from search_spaces._common.files import write_json

_LONGEST_PAUSE_S = 6.0
_LONGEST_START_S = 12.0
_AT_ONCE = 0.25
_RECOVERY_S = 300.0
_LAUNCHES = 8


@dataclass(frozen=True)
class FaultRecord:
    """One fault and its consequences.

    Attributes:
        kind: of the fault.
        round: number of the study that it hit.
        statuses: exit statuses of the launches that ended because of it.
        recovered: the study went on.
        lost_s: wall seconds from the fault to the next new point or end of a trial; None where the next fault came first.
        violations: found between this fault and the next one.
    """

    kind: str
    round: int
    statuses: tuple[int, ...]
    recovered: bool
    lost_s: float | None
    violations: tuple[dict[str, str], ...]


@dataclass
class Campaign:
    """State of a campaign, which a file keeps.

    Attributes:
        options: of the command line, which decide what happens.
        faults: injected so far.
        rounds: studies that reached their end.
        trials: trained in them.
        points: acknowledged by the databases of all studies.
        late: violations found when a study had ended.
        skipped: kinds of faults left out here, with reasons.
        seconds: of wall time.
    """

    options: dict[str, Any]
    faults: list[FaultRecord] = field(default_factory=list)
    started: int = 0
    rounds: int = 0
    trials: int = 0
    points: int = 0
    late: list[dict[str, str]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def violations(self) -> list[dict[str, str]]:
        """All violations."""
        return [*(item for fault in self.faults for item in fault.violations), *self.late]

    def save(self, path: Path) -> None:
        """Write the campaign as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Campaign:
        """Read what ``save`` wrote."""
        content = json.loads(path.read_text())
        faults = [
            FaultRecord(**{**item, "statuses": tuple(item["statuses"]), "violations": tuple(item["violations"])})
            for item in content.pop("faults")
        ]
        return cls(faults=faults, **content)


class Runner:
    """Runs a campaign in a world.

    Args:
        campaign: goes on from its last fault, with a new round.
        path: file that keeps the campaign.
        starts: number of simultaneous starts.
    """

    def __init__(self, campaign: Campaign, path: Path, world: World, starts: int) -> None:
        self._campaign, self._path, self._world, self._starts = campaign, path, world, starts
        self._seed = int(campaign.options["seed"])
        self._ended: list[int] = []

    def run(self, kills: int, minutes: float, kinds: Sequence[str] = ()) -> None:
        """Inject faults until the campaign has ``kills`` of them, or the time is over; then let the last study end.

        Args:
            kinds: of the faults to draw from; none for all that are possible here.
        """
        campaign, began, before = self._campaign, time.monotonic(), self._campaign.seconds
        reasons = usable(self._world)
        campaign.skipped = {name: reason for name, reason in reasons.items() if reason}
        names = [name for name, reason in reasons.items() if not reason and (not kinds or name in kinds)]
        self._begin_round()
        while len(campaign.faults) < kills and time.monotonic() - began < 60 * minutes:
            index = len(campaign.faults)
            rng = random.Random(f"{self._seed} fault {index}")
            self._pause(rng)
            record = self._hit(draw(self._seed, index, names), rng)
            if record is not None:
                campaign.faults.append(record)
                campaign.seconds = before + time.monotonic() - began
                campaign.save(self._path)
                print(f"{index + 1:>4} {describe(record)}", flush=True)
        self._finish_round()
        campaign.seconds = before + time.monotonic() - began
        campaign.save(self._path)

    def _begin_round(self) -> None:
        self._campaign.started += 1
        self._world.begin_round(self._campaign.started)

    def _pause(self, rng: random.Random) -> None:
        """Wait for a random moment: of the start of a launch, or while it runs. A study that ends meanwhile gives way to the next."""
        driver = self._world.driver
        self._world.wait(
            rng.uniform(0.0, _LONGEST_PAUSE_S if driver.begun else _LONGEST_START_S),
            lambda: self._world.driver.status is not None,
        )
        if driver.status == 0:
            self._end_round()
        elif driver.status is not None:
            self._account(driver, None)
            self._world.launch = self._world.start()

    def _hit(self, kind: str, rng: random.Random) -> FaultRecord | None:
        """Inject a fault and wait for the recovery; None where the fault found nothing to hit."""
        world, fault, number = self._world, FAULTS[kind], self._campaign.started
        driver, began = world.driver, time.monotonic()
        begun = driver.begun
        self._ended = []
        if not fault.inject(world, rng, self._starts):
            return None
        hurried = rng.random() < _AT_ONCE
        driver.explained |= fault.statuses if not (fault.spares and begun) else set()
        recovered = self._recover(fault, driver, hurried)
        lost_s = None if hurried else time.monotonic() - began
        found, world.violations = [item.to_dict() for item in world.violations], []
        return FaultRecord(kind, number, tuple(self._ended), recovered, lost_s, tuple(found))

    def _recover(self, fault: Fault, hit: Launch, hurried: bool) -> bool:
        """Launch again until the study goes on; ``hurried`` only launches, so that the next fault meets the start."""
        world = self._world
        if hit is not world.driver and hit.status is not None:
            self._ended.append(hit.status)
        before = world.ledger.progress
        deadline = time.monotonic() + _RECOVERY_S
        for _ in range(_LAUNCHES):
            driver = world.driver
            if not hurried:
                world.wait(
                    deadline - time.monotonic(),
                    lambda: world.ledger.progress > before or world.driver.status is not None,
                )
            if driver.status is None and (hurried or world.ledger.progress > before):
                return True
            if driver.status is None:
                break
            self._account(driver, fault)
            if driver.status == 0:
                self._end_round()
                return True
            world.launch = world.start()
        world.violations.append(
            Violation("not recovered", f"{world.study_name} did not go on: {world.driver.text[-300:]}")
        )
        world.abandon_round()
        self._begin_round()
        return False

    def _account(self, driver: Launch, fault: Fault | None) -> None:
        """Judge a launch that has ended: its status must be one that a fault explains."""
        status = driver.status
        assert status is not None
        self._ended.append(status)
        self._world.judge(driver)
        if status != 0 and status not in driver.explained:
            text = f"{driver.mark} ended with status {status}, which no fault explains: {driver.text[-400:]}"
            self._world.violations.append(Violation("exit status", text))

    def _end_round(self) -> None:
        """Check a study that has ended, and begin the next one."""
        self._campaign.trials += self._world.judge_round()
        self._campaign.points += self._world.ledger.progress
        self._campaign.rounds += 1
        self._begin_round()

    def _finish_round(self) -> None:
        """Let the last study run to its end without faults, and check it."""
        world = self._world
        for _ in range(_LAUNCHES):
            if not world.ends(world.driver, 2 * _RECOVERY_S):
                world.violations.append(
                    Violation("hang", f"{world.study_name} did not end: {world.driver.text[-300:]}")
                )
                break
            self._account(world.driver, None)
            if world.driver.status == 0:
                self._campaign.trials += world.judge_round()
                self._campaign.points += world.ledger.progress
                self._campaign.rounds += 1
                break
            world.launch = world.start()
        self._campaign.late += [item.to_dict() for item in world.violations]
        world.violations = []


def describe(record: FaultRecord) -> str:
    """Return a line on a fault."""
    lost = "" if record.lost_s is None else f", {record.lost_s:.1f} s"
    ended = f", exit status {', '.join(map(str, record.statuses))}" if record.statuses else ""
    broken = "".join(f"\n     {item['rule']}: {item['text']}" for item in record.violations)
    return f"{record.kind}{ended}{lost}{'' if record.recovered else ', NOT RECOVERED'}{broken}"
