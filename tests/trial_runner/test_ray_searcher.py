"""The searcher of the Ray backend: when it asks the driver, and when it ends."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray.tune")

from ray.exceptions import RayActorError
from ray.tune.search import Searcher

from search_spaces._common.errors import UserError
from trial_runner.backends.gpu_share import share_of
from trial_runner.backends.ray_tune import _Bridge, _Scheduler, _Searcher
from trial_runner.config.study import ComputeSection


class Driver:
    """Two search trials, then a final training that exists only once the last of them has ended."""

    def __init__(self) -> None:
        self.left, self.ended, self.finals = 2, 0, 1

    def ask(self) -> Any:
        if self.left:
            self.left -= 1
        elif self.ended >= 2 and self.finals:
            self.finals -= 1
        else:
            return None
        return SimpleNamespace(number=self.left, to_dict=dict)

    def ready(self) -> bool:
        return True

    def finish(self, number: int, failure: str | None = None) -> None:
        self.ended += 1


def searcher_on(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], driver: Any = None, **compute: Any
) -> _Searcher:
    """A searcher on a cluster of these nodes; the list may be changed while it runs."""
    monkeypatch.setattr("trial_runner.backends.ray_tune.node_resources", lambda: nodes)
    section = ComputeSection(**compute)
    return _Searcher(_Bridge(driver or Driver(), section), section)


class Endless(Driver):
    """Searcher that proposes any number of trials."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.failures: list[str | None] = []

    def ask(self) -> Any:
        self.asked += 1
        return SimpleNamespace(number=self.asked, to_dict=lambda number=self.asked: {"number": number})

    def finish(self, number: int, failure: str | None = None) -> None:
        self.failures.append(failure)


def started(searcher: _Searcher, first: int = 0) -> int:
    """Trials that the searcher starts until there is room for no more."""
    count = 0
    while searcher.suggest(f"t{first + count}") is not None:
        count += 1
    return count


def test_slots_follow_nodes_that_join_and_leave(monkeypatch: pytest.MonkeyPatch):
    nodes = [{"CPU": 2.0}]
    searcher = searcher_on(monkeypatch, nodes, Endless())
    assert started(searcher) == 2
    nodes.append({"CPU": 3.0})
    assert started(searcher, 2) == 3
    nodes.pop(0)
    searcher.on_trial_complete("t0")
    assert started(searcher, 5) == 0, "four run, and three have room"
    searcher.on_trial_complete("t1")
    searcher.on_trial_complete("t2")
    assert started(searcher, 5) == 1


@pytest.mark.parametrize(
    ("nodes", "compute", "count"),
    [
        ([{"CPU": 3}, {"CPU": 3}], {"cpus_per_trial": 2}, 2),  # one CPU left over on each of two nodes is no place
        ([{"CPU": 8, "GPU": 1}, {"CPU": 2, "GPU": 4}, {"CPU": 8}], {"gpus_per_trial": 1}, 3),
        ([{"CPU": 8, "GPU": 2}], {"gpus_per_trial": 0.6}, 2),  # a share is of one GPU
        ([{"CPU": 8, "GPU": 2}], {"gpus_per_trial": 0.25}, 8),
        ([{"CPU": 8, "GPU": 3}], {"gpus_per_trial": 2}, 1),
        ([{"CPU": 2, "GPU": 2}, {"CPU": 2, "GPU": 2}], {"gpus_per_trial": 1, "workers_per_trial": 4}, 1),
        ([], {}, 1),  # the nodes have all gone: the trial waits for one
    ],
)
def test_slots_are_places_on_the_nodes_one_by_one(
    nodes: list[dict[str, float]], compute: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch
):
    assert started(searcher_on(monkeypatch, nodes, Endless(), **compute)) == count


def test_auto_shares_a_gpu_by_the_peak_memory_of_the_first_trials(monkeypatch: pytest.MonkeyPatch):
    searcher = searcher_on(monkeypatch, [{"CPU": 64, "GPU": 2}], Endless(), gpus_per_trial="auto")
    share = searcher._bridge.share
    assert started(searcher) == 2, "nothing is known yet: a GPU each"
    share.note(1, 0.05)
    share.note(2, 0.18)
    searcher.on_trial_complete("t0")
    assert searcher.suggest("t2")["gpus"] == 1.0  # type: ignore[index]
    share.note(3, 0.1)
    searcher.on_trial_complete("t1")
    order = searcher.suggest("t3")
    assert isinstance(order, dict) and order["gpus"] == 0.25  # 1.25 times 0.18 fits four times
    assert started(searcher, 4) == 3
    assert share_of(0.5) == 1.0 and share_of(0.25) == 0.3333 and share_of(0.001) == share_of(0.0) == 0.0625


def test_auto_needs_no_gpu_where_there_is_none(monkeypatch: pytest.MonkeyPatch):
    searcher = searcher_on(monkeypatch, [{"CPU": 2}], Endless(), gpus_per_trial="auto")
    order = searcher.suggest("a")
    assert isinstance(order, dict) and order["gpus"] == 0.0


def test_a_trial_that_outgrows_its_measured_share_goes_on_with_a_whole_gpu(monkeypatch: pytest.MonkeyPatch):
    driver = Endless()
    searcher = searcher_on(monkeypatch, [{"CPU": 64, "GPU": 1}], driver, gpus_per_trial="auto")
    bridge, scheduler = searcher._bridge, _Scheduler(searcher._bridge)
    for number in range(3):
        bridge.share.note(number, 0.1)
    assert started(searcher) == 8
    failed = {"failure": "out of memory", "out_of_memory": True}
    scheduler.on_trial_result(None, SimpleNamespace(trial_id="t3"), failed)  # type: ignore[arg-type]
    number = bridge.numbers["t3"]
    searcher.on_trial_complete("t3")
    assert not driver.failures
    assert searcher.suggest("again") is None, "seven others share the GPU"
    for other in ("t0", "t1", "t2", "t4", "t5", "t6", "t7"):
        searcher.on_trial_complete(other)
    order = searcher.suggest("again")
    assert isinstance(order, dict) and order["gpus"] == 1.0 and bridge.numbers["again"] == number
    scheduler.on_trial_result(None, SimpleNamespace(trial_id="again"), failed)  # type: ignore[arg-type]
    searcher.on_trial_complete("again")
    assert driver.failures[-1] == "out of memory", "on a whole GPU it is the trial's own"


def test_a_trial_that_was_given_to_a_dead_worker_is_repeated_and_not_charged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    error = tmp_path / "error.pkl"
    error.write_bytes(pickle.dumps(RayActorError()))
    driver = Endless()
    searcher = searcher_on(monkeypatch, [{"CPU": 1}], driver, max_failures=0)
    scheduler = _Scheduler(searcher._bridge)
    resetting: set[Any] = set()
    controller: Any = SimpleNamespace(_resetting_trials=resetting, _staged_trials=set())

    class GivenTrial:
        def __init__(self, trial_id: str) -> None:
            self.trial_id, self.pickled_error_file = trial_id, str(error)

    def die(trial: Any) -> None:
        scheduler.on_trial_error(controller, trial)
        searcher.on_trial_complete(trial.trial_id, error=True)

    order = searcher.suggest("first")
    first = GivenTrial("first")
    resetting.add(first)  # given to a worker of an earlier trial, which died while it was idle
    die(first)
    assert not driver.failures and not resetting
    assert searcher.suggest("second") == order and driver.asked == 1
    die(GivenTrial("second"))
    assert len(driver.failures) == 1 and "the worker process died" in str(driver.failures[0])


def test_auto_is_for_trials_of_one_process():
    with pytest.raises(ValueError, match="trials of one process"):
        ComputeSection(gpus_per_trial="auto", workers_per_trial=2)


def test_a_final_training_that_the_last_running_trial_makes_possible_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    searcher = searcher_on(monkeypatch, [{"CPU": 2}])
    assert searcher.suggest("a") and searcher.suggest("b")
    searcher.on_trial_complete("a")
    assert searcher.suggest("c") is None  # b still runs
    searcher.on_trial_complete("b")
    assert isinstance(searcher.suggest("c"), dict)
    searcher.on_trial_complete("c")
    assert searcher.suggest("d") == Searcher.FINISHED


@pytest.mark.parametrize("where", ["ready", "ask"])
def test_an_error_that_concerns_all_trials_ends_a_search_of_which_none_runs(
    where: str, monkeypatch: pytest.MonkeyPatch
):
    """Tune waits ten minutes for a searcher that has no proposal and no running trial."""

    def fail(*arguments: object) -> None:
        raise UserError("the database is away")

    searcher = searcher_on(monkeypatch, [{"CPU": 2}])
    monkeypatch.setattr(Driver, where, fail)
    assert searcher.suggest("a") == searcher.suggest("b") == Searcher.FINISHED
    assert str(searcher._bridge.fatal) == "the database is away"


def test_what_tune_stores_of_a_run_holds_no_driver():
    import threading
    from types import SimpleNamespace

    from trial_runner.backends import ray_tune

    bridge = SimpleNamespace(driver=threading.Lock())  # cannot be pickled, like the driver of a launch that is watched
    assert b"driver" not in pickle.dumps(ray_tune._Watch(bridge))
    assert b"driver" not in pickle.dumps(ray_tune._Scheduler(bridge))
