"""A launch's storage: trials from memory, writes in one transaction, and nothing lost between the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from objectives.optuna_private import StudyStorage, storage_of, trial_id
from trial_runner.study.patience import DatabaseAwayError, Patience, PatientStorage
from trial_runner.study.storage import open_study

SAMPLER = optuna.samplers.RandomSampler(seed=0)


class Opened:
    """A study as its only writer has it, as others read it, and the statements that the writer sends."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/study.db"
        self.patience = Patience(60.0, str)
        self.study = open_study(self.url, "s", create=True, sampler=SAMPLER, patience=self.patience)
        self.storage = StudyStorage(self.study)
        self.commits = 0
        self.statements: list[str] = []
        database = storage_of(self.study)._backend._backend  # type: ignore[attr-defined]
        event.listen(database.engine, "commit", self._count)
        event.listen(database.engine, "before_cursor_execute", self._note)

    def _count(self, connection: Any) -> None:
        self.commits += 1

    def _note(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.statements.append(statement)

    def stored(self) -> list[optuna.trial.FrozenTrial]:
        return open_study(self.url, "s", create=False).trials

    @contextmanager
    def refusing(self, statement: str) -> Iterator[None]:
        """Fail each statement of this kind in the block, as a database that goes away does."""

        def refuse(connection: Any, cursor: Any, text: str, *rest: Any) -> None:
            if statement in text:
                raise OperationalError(text, {}, Exception("the database system is shutting down"))

        engine = storage_of(self.study)._backend._backend.engine  # type: ignore[attr-defined]
        event.listen(engine, "before_cursor_execute", refuse)
        try:
            with self.patience.brief():
                yield
        finally:
            event.remove(engine, "before_cursor_execute", refuse)
            self.patience._next_s = 0.0


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    return Opened(tmp_path)


def facts(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[Any, ...]]:
    return [
        (t.number, t.state, t.values, t.params, t.distributions, t.user_attrs, t.system_attrs, t.intermediate_values)
        for t in trials
    ]


def train(opened: Opened) -> None:
    with opened.storage.batch():
        trial = opened.study.ask()
        for name in "abcdef":
            trial.suggest_float(name, 0.0, 1.0)
        trial.set_user_attr("outcome", "running")
        opened.storage.set_constraints(trial_id(trial), [-1.0])
        assert opened.study.trials[-1].params == trial.params, "reads in a batch see its writes"
    for epoch in (1, 2, 3):
        opened.storage.set_intermediate_value(trial_id(trial), epoch, 0.1 * epoch)
    with opened.storage.batch():
        trial.set_user_attr("outcome", "finished")
        opened.study.tell(trial, [0.5, 1.0])


def test_memory_and_database_agree_after_every_kind_of_write(opened: Opened):
    train(opened)
    opened.study.enqueue_trial({"a": 0.25}, user_attrs={"base": 0})
    train(opened)
    trial = opened.study.ask()
    opened.storage.set_state(trial_id(trial), TrialState.WAITING)
    train(opened)
    assert facts(opened.study.trials) == facts(opened.stored())
    assert [t.state.name for t in opened.stored()] == ["COMPLETE"] * 3
    assert opened.stored()[1].params["a"] == 0.25 and opened.stored()[0].values == [0.5, 1.0]


def test_the_writes_of_a_batch_are_one_transaction(opened: Opened):
    train(opened)
    opened.commits, opened.statements = 0, []
    with opened.storage.batch():
        trial = opened.study.ask()
        created = opened.commits
        for name in "abcdef":
            trial.suggest_float(name, 0.0, 1.0)
        trial.set_user_attr("outcome", "running")
    assert opened.commits == created + 1
    opened.commits = 0
    with opened.storage.batch():
        trial.set_user_attr("outcome", "finished")
        opened.study.tell(trial, [0.5, 1.0])
    assert opened.commits == 1


def test_running_trials_are_not_read_again(opened: Opened):
    for _ in range(5):
        opened.study.ask().suggest_float("a", 0.0, 1.0)
    opened.study.get_trials(deepcopy=False)
    opened.statements = []
    opened.study.get_trials(deepcopy=False)
    assert not [text for text in opened.statements if "FROM trial_params" in text]


def test_a_trial_that_another_process_enqueued_is_asked_for(opened: Opened):
    train(opened)
    open_study(opened.url, "s", create=False).enqueue_trial({"a": 0.75})
    assert opened.study.ask().suggest_float("a", 0.0, 1.0) == 0.75


def test_what_another_driver_changed_before_is_read_after_a_refresh(opened: Opened):
    trial = opened.study.ask()
    other = open_study(opened.url, "s", create=False)
    other.tell(trial.number, [0.5, 1.0])
    assert opened.study.trials[0].state == TrialState.RUNNING
    opened.storage.refresh()
    assert opened.study.trials[0].state == TrialState.COMPLETE


@pytest.mark.parametrize("kind", ["trial_user_attributes", "trial_intermediate_values", "UPDATE trials"])
def test_writes_of_an_outage_are_stored_after_it_in_their_order(opened: Opened, kind: str):
    trial = opened.study.ask()

    def end() -> None:
        with opened.storage.batch():
            trial.set_user_attr("outcome", "finished")
            opened.storage.set_intermediate_value(trial_id(trial), 1, 0.25)
            opened.storage.set_state(trial_id(trial), TrialState.COMPLETE, [0.25, 1.0])

    with opened.refusing(kind):
        with pytest.raises(DatabaseAwayError):
            end()
        assert opened.study._storage.get_trial(trial_id(trial)).state == TrialState.COMPLETE
        assert [t.state for t in opened.stored()] == [TrialState.RUNNING] and not opened.stored()[0].user_attrs
    opened.study.get_trials(deepcopy=False)
    assert facts(opened.stored()) == facts(opened.study.trials)
    assert opened.stored()[0].state == TrialState.COMPLETE and opened.stored()[0].intermediate_values == {1: 0.25}


class Unheard(PatientStorage):
    """A storage whose first batch is stored, but reported as failed."""

    failures = 1

    def write_together(self, writes: Any) -> None:
        super().write_together(writes)
        if self.failures:
            self.failures -= 1
            super().write_together(writes)


@pytest.mark.parametrize("finish", [False, True])
def test_a_batch_whose_commit_was_not_heard_is_not_stored_twice(opened: Opened, finish: bool):
    storage: Any = storage_of(opened.study)
    storage._backend = Unheard(storage._backend._backend, opened.patience)
    trial = opened.study.ask()
    with opened.storage.batch():
        trial.suggest_float("a", 0.0, 1.0)
        trial.set_user_attr("outcome", "running")
        if finish:
            opened.storage.set_state(trial_id(trial), TrialState.COMPLETE, [0.25, 1.0])
    assert storage._backend.failures == 0
    assert facts(opened.stored()) == facts(opened.study.trials)
    assert set(opened.stored()[0].params) == {"a"} and opened.stored()[0].user_attrs == {"outcome": "running"}


def test_a_finished_trial_is_not_written_to(opened: Opened):
    train(opened)
    number = trial_id(opened.study.trials[0])
    writes: list[Callable[[], object]] = [
        lambda: opened.storage.set_user_attr(number, "a", 1),
        lambda: opened.storage.set_intermediate_value(number, 9, 0.5),
        lambda: opened.storage.set_state(number, TrialState.FAIL),
        lambda: storage_of(opened.study).set_trial_param(number, "z", 0.5, FloatDistribution(0.0, 1.0)),
    ]
    for write in writes:
        with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
            write()
    with pytest.raises(KeyError):
        opened.storage.set_user_attr(999, "a", 1)
    train(opened)
    assert facts(opened.stored()) == facts(opened.study.trials)


def test_an_incompatible_distribution_is_refused_where_it_is_suggested(opened: Opened):
    train(opened)
    with pytest.raises(ValueError, match="distribution"):
        opened.study.ask().suggest_categorical("a", ["x", "y"])


def test_other_threads_use_the_database_during_a_batch(opened: Opened):
    other, trial = opened.study.ask(), opened.study.ask()
    database: RDBStorage = storage_of(opened.study)._backend._backend  # type: ignore[attr-defined]

    def read() -> list[int]:
        return [database.get_trial(trial_id(other)).number for _ in range(30)]

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for step in range(10):
            with opened.storage.batch():
                trial.set_user_attr("a", step)
                trial.set_user_attr("b", step)
        assert reading.result() == [other.number] * 30
