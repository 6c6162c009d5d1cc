"""The searcher of the Ray backend: when it asks the driver, and when it ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray.tune")

from ray.tune.search import Searcher

from trial_runner.backends.ray_tune import _Bridge, _Searcher
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


def test_a_final_training_that_the_last_running_trial_makes_possible_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trial_runner.backends.ray_tune.slots", lambda compute: 2)
    searcher = _Searcher(_Bridge(Driver()), ComputeSection())  # type: ignore[arg-type]
    assert searcher.suggest("a") and searcher.suggest("b")
    searcher.on_trial_complete("a")
    assert searcher.suggest("c") is None  # b still runs
    searcher.on_trial_complete("b")
    assert isinstance(searcher.suggest("c"), dict)
    searcher.on_trial_complete("c")
    assert searcher.suggest("d") == Searcher.FINISHED
