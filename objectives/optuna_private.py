"""Optuna's private interfaces, used here and in `optuna_reads` alone; check both first when the upper bound on Optuna is raised.

Optuna's public API refuses what a resumable, multi-objective study with pruned trials needs: writing to a trial that another
process asked for, returning a running trial to WAITING, pruning a multi-objective trial, and showing samplers a subset of
the trials. The package `objectives` is the lowest of those that use Optuna, so all of them may import this.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import Connection, event, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

CONSTRAINTS = "constraints"
"""System attribute of a trial with its constraint violations, as samplers and optuna-dashboard read it."""
_WROTE, _UNGUARDED = "paretoseg_wrote", "paretoseg_unguarded"


def trial_id(trial: Trial | FrozenTrial) -> int:
    """Return the storage's id of a trial, which is unique in the database; its ``number`` is so in its study only."""
    return int(trial._trial_id)


def study_id(study: optuna.Study) -> int:
    """Return the storage's id of a study."""
    return int(study._study_id)


def storage_of(study: optuna.Study) -> BaseStorage:
    """Return the storage that a study reads and writes."""
    return study._storage


def close_connections(study: optuna.Study) -> None:
    """Close the idle connections of a study to its relational database; later accesses open new ones."""
    _database_of(study).engine.dispose()


@dataclass(frozen=True)
class TrialRewrite:
    """New facts of one stored trial; all others stay.

    Attributes:
        trial_id: storage's id of the trial.
        values: value of an objective by its index.
        user_attrs, system_attrs: JSON values by key.
    """

    trial_id: int
    values: Mapping[int, float] = field(default_factory=dict)
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    system_attrs: Mapping[str, Any] = field(default_factory=dict)


class StudyStorage:
    """Reads and writes of a study's storage that `optuna.Study` has no public method for. Trials go by their storage id."""

    def __init__(self, study: optuna.Study) -> None:
        self._storage, self._study_id = study._storage, study._study_id

    def trial_id(self, number: int) -> int:
        """Return the id of the trial with that number. Raises KeyError for a number that the study does not have."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def trial(self, trial_id: int) -> FrozenTrial:
        """Return the trial as it is stored now."""
        return self._storage.get_trial(trial_id)

    def set_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute of an unfinished trial; ``value`` is a JSON value."""
        self._storage.set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute of an unfinished trial; ``value`` is a JSON value. Dashboards do not show it."""
        self._storage.set_trial_system_attr(trial_id, key, value)

    def set_constraints(self, trial_id: int, violations: Sequence[float]) -> None:
        """Set the constraint violations of an unfinished trial, under the key that samplers and optuna-dashboard read."""
        self._storage.set_trial_system_attr(trial_id, CONSTRAINTS, [float(value) for value in violations])

    def set_intermediate_value(self, trial_id: int, step: int, value: float) -> None:
        """Report a value of an unfinished trial at a step."""
        self._storage.set_trial_intermediate_value(trial_id, step, value)

    def set_state(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        """Set the state of an unfinished trial, with its objective values where the state is COMPLETE."""
        self._storage.set_trial_state_values(trial_id, state, values)

    def rewrite(self, rewrites: Sequence[TrialRewrite]) -> None:
        """Replace values and attributes of stored trials, finished ones included, in one transaction."""
        if isinstance(self._storage, RDBStorage):
            rewrite_trials(self._storage, rewrites)
        else:
            rewrite: Callable[[Sequence[TrialRewrite]], None] = self._storage.rewrite  # type: ignore[attr-defined]
            rewrite(rewrites)

    def system_attrs(self) -> dict[str, Any]:
        """Return the study's system attributes."""
        return self._storage.get_study_system_attrs(self._study_id)

    def set_system_attr(self, key: str, value: Any) -> None:
        """Set a system attribute of the study; ``value`` is a JSON value."""
        self._storage.set_study_system_attr(self._study_id, key, value)

    def batch(self) -> AbstractContextManager[None]:
        """Return a context whose writes are stored in one transaction at its end, where the storage has batches."""
        batch: Callable[[], AbstractContextManager[None]] = getattr(self._storage, "batch", nullcontext)
        return batch()

    def refresh(self) -> None:
        """Make a storage that keeps trials in memory read them again."""
        refresh: Callable[[], None] = getattr(self._storage, "refresh", lambda: None)
        refresh()


class StudyAttribute:
    """One user attribute of a study in a relational database, as the JSON text of its row; replaced by compare-and-set.

    Raises:
        TypeError: the study's storage is not a relational database.
    """

    def __init__(self, study: optuna.Study, key: str) -> None:
        from optuna.storages._rdb.models import StudyUserAttributeModel

        self._storage, self._study_id, self._key = _database_of(study), study._study_id, key
        self._rows = StudyUserAttributeModel.__table__
        row = (self._rows.c.study_id == self._study_id, self._rows.c.key == key)
        self._row, self._text = row, select(self._rows.c.value_json).where(*row)

    def read(self) -> str | None:
        """Return the attribute's text; None where the study has none."""
        with self._storage.engine.connect() as connection:
            return connection.execute(self._text).scalar_one_or_none()

    def replace(self, old: str | None, new: str) -> bool:
        """Store ``new`` if the attribute is ``old`` (None: absent) at this moment; False where it is not."""
        try:
            with self._storage.engine.execution_options(**{_UNGUARDED: True}).begin() as connection:
                if old is None:
                    row = {"study_id": self._study_id, "key": self._key, "value_json": new}
                    connection.execute(insert(self._rows).values(**row))
                    return True
                changed = connection.execute(
                    update(self._rows).where(*self._row, self._rows.c.value_json == old).values(value_json=new)
                )
                return changed.rowcount == 1
        except IntegrityError:
            return False

    def guard_writes(self, check: Callable[[str | None], None]) -> Callable[[], None]:
        """Call ``check`` with the attribute's text in every transaction of the study's storage object that writes.

        The row is read after the writes and before the commit, under a lock that keeps others from replacing it until then: SQLite
        has the database's write lock by then, other databases lock the row. What ``check`` raises rolls the transaction back.

        Returns:
            A function that ends the guard.
        """
        engine = self._storage.engine
        guarded = select(self._rows.c.value_json).where(*self._row).with_for_update(read=True)

        def after_execute(
            connection: Connection, cursor: object, statement: str, parameters: object, context: Any, many: bool
        ) -> None:
            if context is not None and (context.isinsert or context.isupdate or context.isdelete):
                connection.info[_WROTE] = not connection.get_execution_options().get(_UNGUARDED, False)

        def on_commit(connection: Connection) -> None:
            if connection.info.pop(_WROTE, False):
                check(connection.execute(guarded).scalar_one_or_none())

        def on_rollback(connection: Connection) -> None:
            if (
                not connection.invalidated
            ):  # a lost one has no facts any more, and asking for them would fail the rollback
                connection.info.pop(_WROTE, None)

        listeners: dict[str, Callable[..., None]] = {
            "after_cursor_execute": after_execute,
            "commit": on_commit,
            "rollback": on_rollback,
        }
        for name, listener in listeners.items():
            event.listen(engine, name, listener)

        def end() -> None:
            for name, listener in listeners.items():
                event.remove(engine, name, listener)

        return end


def trials_after(storage: RDBStorage, study_id: int, trial_id: int) -> list[FrozenTrial]:
    """Return the trials of a study whose ids in the storage are greater than ``trial_id``."""
    return storage._get_trials(study_id, None, set(), trial_id)


def store_together(storage: RDBStorage, writes: Iterable[Callable[[RDBStorage], object]]) -> bool:
    """Make several writes in one transaction of a relational database; other threads use the storage as before.

    Returns:
        True once they are committed; False if one of them met a row that exists already, and none was stored.
    """
    sessions, thread = storage.scoped_session, threading.get_ident()
    with storage.engine.connect() as connection, connection.begin() as transaction:

        def session() -> Session:
            if threading.get_ident() != thread:
                return sessions()
            return Session(connection, join_transaction_mode="rollback_only")

        storage.scoped_session = session  # type: ignore[assignment]
        try:
            for write in writes:
                write(storage)
                if not transaction.is_active:  # Optuna ignores a row's conflict, after a rollback
                    return False
        finally:
            storage.scoped_session = sessions
    return True


def rewrite_trials(storage: RDBStorage, rewrites: Iterable[TrialRewrite]) -> None:
    """Replace values and attributes of trials in a relational database in one transaction; the state of a trial does not matter."""
    from optuna.storages._rdb import models

    values, user, system = (
        model.__table__
        for model in (models.TrialValueModel, models.TrialUserAttributeModel, models.TrialSystemAttributeModel)
    )
    with storage.engine.begin() as connection:
        for item in rewrites:
            for index, value in item.values.items():
                number, kind = models.TrialValueModel.value_to_stored_repr(value)
                row = (values.c.trial_id == item.trial_id, values.c.objective == index)
                connection.execute(update(values).where(*row).values(value=number, value_type=kind))
            for table, attrs in ((user, item.user_attrs), (system, item.system_attrs)):
                for key, content in attrs.items():
                    text, row = json.dumps(content), (table.c.trial_id == item.trial_id, table.c.key == key)
                    if connection.execute(update(table).where(*row).values(value_json=text)).rowcount == 0:
                        new = {"trial_id": item.trial_id, "key": key, "value_json": text}
                        connection.execute(insert(table).values(**new))


def _database_of(study: optuna.Study) -> RDBStorage:
    storage = study._storage
    while not isinstance(storage, RDBStorage):
        inner = getattr(storage, "_backend", None)
        if inner is None:
            raise TypeError(f"{type(storage).__name__} is not a relational database")
        storage = inner
    return storage


class _StudyView(optuna.Study):
    _shown: Callable[[list[FrozenTrial]], list[FrozenTrial]]

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return self._shown(super()._get_trials(deepcopy, states, use_cache))


def study_view(study: optuna.Study, shown: Callable[[list[FrozenTrial]], list[FrozenTrial]]) -> optuna.Study:
    """Return the same study with its list of trials replaced by ``shown`` of it, as samplers see it; of a view, a view of it."""
    inner = study._shown if isinstance(study, _StudyView) else list
    view = copy.copy(study)
    view.__class__ = _StudyView
    assert isinstance(view, _StudyView)
    view._shown = lambda trials: shown(inner(trials))
    return view
