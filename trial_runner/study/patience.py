"""Storage that outlasts an outage of its database: every access is repeated with growing pauses, for a limited time."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    TimeoutError as PoolTimeoutError,
)

from objectives.optuna_private import TrialRewrite, rewrite_trials, store_together, trial_id, trials_after
from search_spaces._common.errors import UserError

logger = logging.getLogger("paretoseg")

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_REPORT_S = 2.0
_HURRY_S = 5.0

Result = TypeVar("Result")


class DatabaseAwayError(UserError):
    """The study's database does not answer at the moment; the caller is to try again later."""


class DatabaseGoneError(UserError):
    """The study's database has not answered for longer than ``storage.patience_s``."""

    exit_status = 3


class Patience:
    """Time that a launch waits for its database, over all accesses of one outage.

    Args:
        limit_s: seconds of an outage after which it is given up.
        cause: returns the sentence on a database error, without secrets.
    """

    def __init__(self, limit_s: float, cause: Callable[[BaseException], str]) -> None:
        self._limit_s, self._cause = limit_s, cause
        self._since: float | None = None
        self._reported = False
        self._brief = False
        self._pause_s, self._next_s = _FIRST_PAUSE_S, 0.0
        self._last: Exception | None = None

    @contextmanager
    def brief(self) -> Iterator[None]:
        """Raise DatabaseAwayError in the block instead of waiting, until the outage has lasted too long."""
        before, self._brief = self._brief, True
        try:
            yield
        finally:
            self._brief = before

    def hurry(self) -> None:
        """Shorten the wait to a few seconds from now, for what must still be stored at the end of a launch."""
        since = time.monotonic() if self._since is None else self._since
        self._limit_s = min(self._limit_s, time.monotonic() - since + _HURRY_S)

    def run(self, access: Callable[[], Result]) -> Result:
        """Run an access to the database, again after each failure for want of the database.

        Raises:
            DatabaseAwayError: it failed, in a block of `brief`.
            DatabaseGoneError: it has failed for too long.
        """
        while True:
            if self._brief and self._last is not None and time.monotonic() < self._next_s:
                raise DatabaseAwayError(self._cause(self._last)) from self._last
            try:
                result = access()
            except (StorageInternalError, SQLAlchemyError) as error:
                if not is_outage(error):
                    raise
                self._note(error)
            else:
                self._end()
                return result
            time.sleep(self._pause_s)

    def _note(self, error: Exception) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        away_s = now - self._since
        if away_s >= self._limit_s:
            raise DatabaseGoneError(
                f"{self._cause(error)} It has not answered for {away_s:.0f} s (storage.patience_s). The trials keep their checkpoints; "
                "once it answers, run the same command again."
            ) from error
        if away_s >= _REPORT_S and not self._reported:
            self._reported = True
            logger.warning(
                "%s Trying again for %.0f s; trials train on meanwhile.", self._cause(error), self._limit_s - away_s
            )
        self._last, self._pause_s = error, min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._next_s = now + self._pause_s
        if self._brief:
            raise DatabaseAwayError(self._cause(error)) from error

    def _end(self) -> None:
        if self._reported and self._since is not None:
            logger.warning("the study's database answers again, after %.0f s", time.monotonic() - self._since)
        self._since, self._reported = None, False
        self._last, self._pause_s = None, _FIRST_PAUSE_S


def is_outage(error: BaseException) -> bool:
    """Return True for an error that a later try may not meet: no connection, a server that ends or starts, a full disk, a lock."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, PoolTimeoutError | InterfaceError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if not isinstance(error, OperationalError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    passing = {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
    }
    return code is None or code & 0xFF in passing


class PatientStorage(BaseStorage):
    """Storage whose every access waits out an outage as its `Patience` says.

    A commit whose answer was lost is recognised: a trial that it created is adopted, a state that it set is not set again. That is sound
    for the only writer of a study.
    """

    def __init__(self, backend: RDBStorage, patience: Patience) -> None:
        self._backend, self.patience = backend, patience
        self._newest_id = -1

    def write_together(self, writes: Sequence[Callable[[BaseStorage], object]]) -> None:
        """Make several writes in one transaction; those of them that an unheard commit has stored already are left out."""
        try:
            if self.patience.run(lambda: store_together(self._backend, writes)):
                return
        except UpdateFinishedTrialError:
            pass
        for write in writes:
            with suppress(UpdateFinishedTrialError):
                write(self)

    def rewrite(self, rewrites: Sequence[TrialRewrite]) -> None:
        """Replace values and attributes of stored trials in one transaction; a repetition changes nothing."""
        self.patience.run(lambda: rewrite_trials(self._backend, rewrites))

    def trials_after(self, study_id: int, trial_id: int) -> list[FrozenTrial]:
        """Return the trials of a study whose ids are greater than ``trial_id``."""
        return self.patience.run(lambda: trials_after(self._backend, study_id, trial_id))

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self.patience.run(lambda: self._backend.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        self.patience.run(lambda: self._backend.delete_study(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self.patience.run(lambda: self._backend.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.patience.run(lambda: self._backend.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        return self.patience.run(lambda: self._backend.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return self.patience.run(lambda: self._backend.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self.patience.run(lambda: self._backend.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self.patience.run(lambda: self._backend.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self.patience.run(lambda: self._backend.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[Any]:
        return self.patience.run(self._backend.get_all_studies)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        newest = self._newest_id if self._newest_id >= 0 else self._read_newest(study_id)
        tries = 0

        def create() -> int:
            nonlocal tries
            tries += 1
            if tries > 1:
                for trial in self._backend.get_all_trials(study_id, deepcopy=False):
                    if trial_id(trial) > newest:
                        return trial_id(trial)
            return self._backend.create_new_trial(study_id, template_trial)

        # Not briefly: a trial that was created unseen is adopted by this call alone.
        brief, self.patience._brief = self.patience._brief, False
        try:
            self._newest_id = self.patience.run(create)
        finally:
            self.patience._brief = brief
        return self._newest_id

    def _read_newest(self, study_id: int) -> int:
        return max((trial_id(trial) for trial in self.get_all_trials(study_id, deepcopy=False)), default=-1)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self.patience.run(
            lambda: self._backend.set_trial_param(trial_id, param_name, param_value_internal, distribution)
        )

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self.patience.run(lambda: self._backend.get_trial_id_from_study_id_trial_number(study_id, trial_number))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        tries = 0

        def set_state() -> bool:
            nonlocal tries
            tries += 1
            try:
                changed = self._backend.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if self._backend.get_trial(trial_id).state != state:
                    raise
                return True
            if not changed and tries > 1:
                return self._backend.get_trial(trial_id).state == state
            return changed

        return self.patience.run(set_state)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self.patience.run(lambda: self._backend.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.patience.run(lambda: self._backend.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.patience.run(lambda: self._backend.set_trial_system_attr(trial_id, key, value))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self.patience.run(lambda: self._backend.get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self.patience.run(lambda: self._backend.get_all_trials(study_id, deepcopy, states))
        if states is None and trials:
            self._newest_id = max(self._newest_id, trial_id(trials[-1]))
        return trials
