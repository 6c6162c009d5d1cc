"""Faults by kind: each hits the world at the present moment, lifts what it did, and says what the launch may do."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.chaos import lease_starts
from benchmarks.chaos.invariants import Violation
from benchmarks.chaos.processes import kill
from benchmarks.chaos.world import OTHER_HOST, PATIENCE_S, STACKS, Launch, World
from trial_runner.study.lease import LEASE_S

_TARGET_S = 20.0
_REFUSAL_S = 180.0
_TAKEOVER_S = 240.0
_NOTICE_S = 90.0
_ROOM_BYTES = 16_384
_BULK_S = 600.0
_REFUSED = "is being driven by process"
_STOPPED, _DATABASE, _SENTENCE = 130, 3, 2


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        inject: hits the world, and lifts the fault again; returns False where it found nothing to hit.
        statuses: exit statuses by which the launch may end because of it, besides 0.
        spares: a launch that had begun its trials must go on.
        needs: ``ray``, ``disk`` or ``host`` (another host name); None for nothing.
        weight: relative frequency; faults that take a minute are rarer.
    """

    inject: Callable[[World, random.Random, int], bool]
    statuses: frozenset[int]
    spares: bool = False
    needs: str | None = None
    weight: int = 2


def _kill_worker(world: World, rng: random.Random, starts: int) -> bool:
    assert world.cluster is not None
    cluster, driver = world.cluster, world.driver
    world.wait(_TARGET_S, lambda: bool(cluster.workers()) or driver.status is not None)
    workers = cluster.workers()
    if not workers:
        return False
    kill(rng.choice(workers))
    return True


def _kill_node(world: World, rng: random.Random, starts: int) -> bool:
    assert world.cluster is not None
    world.cluster.kill_node(rng.randrange(8))
    world.wait(rng.uniform(0.0, 4.0))
    world.cluster.add_node()
    return True


def _kill_driver(world: World, rng: random.Random, starts: int) -> bool:
    return _signal_driver(world, signal.SIGKILL)


def _stop_driver(world: World, rng: random.Random, starts: int) -> bool:
    return _signal_driver(world, signal.SIGTERM)


def _signal_driver(world: World, number: signal.Signals) -> bool:
    driver = world.driver
    if driver.status is not None:
        return False
    kill(driver.process.pid, number)
    if not world.ends(driver, _NOTICE_S):
        _late(world, driver, f"{number.name}")
    return True


def _kill_gcs(world: World, rng: random.Random, starts: int) -> bool:
    assert world.cluster is not None
    driver = world.driver
    if driver.status is not None:
        return False
    world.cluster.kill_head_service()
    if not world.ends(driver, _NOTICE_S):
        _late(world, driver, "the death of Ray's control service")
    world.restart_cluster()
    return True


def _restart_database(world: World, rng: random.Random, starts: int) -> bool:
    world.server.stop(signal.SIGQUIT)
    time.sleep(rng.uniform(0.0, 6.0))
    world.server.start()
    return True


def _remove_database(world: World, rng: random.Random, starts: int) -> bool:
    """Stop the server for longer than a launch waits."""
    driver = world.driver
    world.server.stop(signal.SIGQUIT)
    try:
        if not world.ends(driver, PATIENCE_S + _NOTICE_S):
            _late(world, driver, "the end of its database")
    finally:
        world.server.start()
    return True


def _pause_database(world: World, rng: random.Random, starts: int) -> bool:
    world.server.pause()
    try:
        time.sleep(rng.uniform(1.0, 12.0))  # nothing may read the database: it would wait
    finally:
        world.server.go_on()
    return True


def _cut_connections(world: World, rng: random.Random, starts: int) -> bool:
    return world.server.cut_connections() > 0


def _fill_disk(world: World, rng: random.Random, starts: int) -> bool:
    assert world.disk is not None
    driver, filler = world.driver, world.disk / "filler"
    if driver.status is not None:
        return False
    free = shutil.disk_usage(world.disk).free
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free - _ROOM_BYTES, 1))
    try:
        world.ends(driver, _NOTICE_S)
    finally:
        filler.unlink()
    return True


def _suspend_driver(world: World, rng: random.Random, starts: int) -> bool:
    """Stop the driver's process for longer than its lease; a second one on the same machine is refused meanwhile."""
    driver = world.driver
    if not _holds(world, driver):
        return False
    kill(driver.process.pid, signal.SIGSTOP)
    try:
        end = time.monotonic() + LEASE_S + rng.uniform(1.0, 6.0)
        _start_second(world, driver)
        world.wait(max(end - time.monotonic(), 0.0))
    finally:
        kill(driver.process.pid, signal.SIGCONT)
    return True


def _overtake_driver(world: World, rng: random.Random, starts: int) -> bool:
    """Stop the driver's process until a driver of another host has taken its study; then it must end and write nothing."""
    first = world.driver
    if not _holds(world, first):
        return False
    kill(first.process.pid, signal.SIGSTOP)
    taken = False
    try:
        deadline = time.monotonic() + _TAKEOVER_S
        while not taken and time.monotonic() < deadline:
            second = world.start(elsewhere=True)
            world.wait(_REFUSAL_S, lambda: second.begun or second.status is not None)  # noqa: B023 (called at once)
            taken = second.begun
            if taken:
                world.launch = second
            else:
                world.judge(second)
                _expect_refusal(world, second, ("in the middle of writing",))
    finally:
        kill(first.process.pid, signal.SIGCONT)
    if not taken:
        world.violations.append(Violation("not recovered", "another host could not take over an expired lease"))
        return True
    if not world.ends(first, _NOTICE_S):
        _late(world, first, "another driver had taken its study")
    elif first.status != _SENTENCE:
        text = f"a driver whose study was taken over ended with status {first.status}: {first.text[-300:]}"
        world.violations.append(Violation("double driver", text))
    world.judge(first)
    return True


def _second_driver(world: World, rng: random.Random, starts: int) -> bool:
    driver = world.driver
    if not _holds(world, driver):
        return False
    _start_second(world, driver)
    return True


def _start_second(world: World, driver: Launch) -> None:
    """Start a second driver, which must be refused; where the first one ends before, it takes its place."""
    second = world.start()
    world.wait(_REFUSAL_S, lambda: second.status is not None or second.begun)
    if second.status is None and driver.status is not None:
        world.judge(driver)
        world.launch = second
        return
    if second.status is None:
        text = "two drivers run one study" if second.begun else "a second driver neither ran nor was refused"
        world.violations.append(Violation("double driver", text))
        kill(second.process.pid)
        return
    world.judge(second)
    if driver.status is None:
        _expect_refusal(world, second)


def _expect_refusal(world: World, second: Launch, others: tuple[str, ...] = ()) -> None:
    if second.status == _SENTENCE and any(words in second.text for words in (_REFUSED, *others)):
        return
    text = f"a second driver ended with status {second.status} instead of a refusal: {second.text[-300:]}"
    world.violations.append(Violation("double driver", text))


def _start_many(world: World, rng: random.Random, starts: int) -> bool:
    """Start many drivers at once: beside a living driver none gets the lease, else exactly one."""
    driver = world.driver
    if not _holds(world, driver):
        return False
    alone = rng.random() < 0.5
    if alone:
        kill(driver.process.pid, signal.SIGTERM)
        if not world.ends(driver, _NOTICE_S):
            _late(world, driver, "SIGTERM")
            return True
    command = [sys.executable, "-m", "benchmarks.chaos.lease_starts", "--study", world.study_name]
    done = subprocess.run(
        [*command, "--starts", str(starts)],
        env={**os.environ, lease_starts.URL: world.url},
        capture_output=True,
        text=True,
        timeout=_BULK_S,
    )
    if done.returncode != 0:
        world.violations.append(Violation("double driver", f"the simultaneous starts failed: {done.stderr[-500:]}"))
        return True
    result = json.loads(done.stdout)
    allowed = (1,) if alone else (0,) if driver.status is None else (0, 1)
    if result["held"] not in allowed or result["failed"]:
        text = f"of {starts} simultaneous starts {result['held']} got the lease; other errors: {result['failed'][:3]}"
        world.violations.append(Violation("double driver", text))
    return True


def _holds(world: World, driver: Launch) -> bool:
    """Wait until the driver has begun its trials; return False where it ends before."""
    world.wait(_REFUSAL_S, lambda: driver.begun or driver.status is not None)
    return driver.status is None


def _late(world: World, launch: Launch, cause: str) -> None:
    text = f"{launch.mark} had not ended {_NOTICE_S:.0f} s after {cause}: {launch.text[-300:]}"
    kill(launch.process.pid, STACKS)
    world.wait(1.0)
    world.violations.append(Violation("hang", text))
    kill(launch.process.pid)
    launch.explained.add(-signal.SIGKILL)


_EARLY = frozenset({_SENTENCE, _DATABASE})
FAULTS: Mapping[str, Fault] = {
    "worker killed": Fault(_kill_worker, frozenset(), spares=True, needs="ray"),
    "node killed, a new one joins": Fault(_kill_node, frozenset({_SENTENCE}), spares=True, needs="ray"),
    "Ray's control service killed": Fault(_kill_gcs, frozenset({_SENTENCE}), needs="ray"),
    "driver SIGKILL": Fault(_kill_driver, frozenset({-signal.SIGKILL}), weight=3),
    "driver SIGTERM": Fault(_stop_driver, frozenset({_STOPPED}), weight=3),
    "driver suspended beyond its lease": Fault(_suspend_driver, frozenset(), spares=True, weight=1),
    "driver overtaken by another host": Fault(_overtake_driver, frozenset(), needs="host", weight=1),
    "second driver": Fault(_second_driver, frozenset(), spares=True),
    "simultaneous starts": Fault(_start_many, frozenset({_STOPPED}), weight=1),
    "database SIGQUIT and restart": Fault(_restart_database, _EARLY, spares=True),
    "database paused": Fault(_pause_database, _EARLY, spares=True),
    "database away beyond patience_s": Fault(_remove_database, _EARLY, weight=1),
    "connections cut": Fault(_cut_connections, _EARLY, spares=True),
    "disk full": Fault(_fill_disk, frozenset({_SENTENCE}), needs="disk"),
}


def usable(world: World) -> dict[str, str | None]:
    """Return every kind of fault with the reason why it is left out here; None for those that are used."""
    missing = {
        "ray": None if world.cluster is not None else "the backend is in process",
        "disk": None if world.disk is not None else "no tmpfs can be mounted here",
        "host": None if OTHER_HOST else "`unshare --uts` is not allowed here",
    }
    return {name: missing[fault.needs] if fault.needs else None for name, fault in FAULTS.items()}


def draw(seed: int, index: int, names: list[str]) -> str:
    """Return the kind of the fault at a position: shuffled decks, in which every kind occurs as often as its weight."""
    deck = [name for name in names for _ in range(FAULTS[name].weight)]
    number, at = divmod(index, len(deck))
    random.Random(f"{seed} deck {number}").shuffle(deck)
    return deck[at]
