"""Opening a study's database, and the one-driver-at-a-time lease that is kept in it."""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from objectives.objective import OBJECTIVES, Objective
from search_spaces._common.errors import UserError
from search_spaces._common.urls import redact_url, with_installed_driver

_LEASE = "driver"
LEASE_S = 20.0
_SCHEMA_TRIES = 5


class StorageError(UserError):
    """The study's database cannot be reached, read or written."""


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except (ArgumentError, NoSuchModuleError) as error:
        raise StorageError(
            f"{redact_url(url)} is not a database URL that SQLAlchemy knows. Write sqlite:///study.db."
        ) from error
    except ImportError as error:
        raise StorageError(
            f"the Python driver for {redact_url(url)} is not installed. Run: pip install 'paretoseg[postgres]'"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = redact_url(str(getattr(error, "orig", None) or error.__cause__ or error)).splitlines()[0]
        raise StorageError(
            f"cannot use the study's database {redact_url(url)}: {cause}. "
            "Check that the server runs, that the folder can be written and that its disk has room; then run the same command again."
        ) from error
    except OSError as error:
        raise StorageError(f"cannot use the study's database {redact_url(url)}: {error.strerror or error}.") from error


def open_storage(url: str, *, create: bool) -> BaseStorage:
    """The database of a URL.

    Raises:
        StorageError: it cannot be reached; or it is a sqlite file that does not exist and ``create`` is False.
    """
    with _explained(url):
        parsed = with_installed_driver(make_url(url))
        arguments: dict[str, Any] = {}
        if parsed.get_backend_name() == "sqlite":
            arguments = {"connect_args": {"timeout": 60}}
            if parsed.database and parsed.database != ":memory:":
                path = Path(parsed.database)
                if create:
                    path.parent.mkdir(parents=True, exist_ok=True)
                elif not path.is_file():
                    raise StorageError(f"there is no study at {path}. Start one with: paretoseg launch STUDY.yaml")
        else:
            arguments = {"pool_pre_ping": True}
        address = parsed.render_as_string(hide_password=False)
        for _ in range(_SCHEMA_TRIES):
            try:
                # Only who starts a study makes the tables: a reader that came first would make them at the same time.
                return RDBStorage(address, engine_kwargs=arguments, skip_table_creation=not create)
            except IntegrityError:
                time.sleep(0.5)  # another process made the tables just now
        return RDBStorage(address, engine_kwargs=arguments)


def open_study(
    url: str,
    name: str,
    *,
    create: bool,
    sampler: optuna.samplers.BaseSampler | None = None,
    objectives: Sequence[Objective] = OBJECTIVES,
) -> optuna.Study:
    """The study; created where ``create`` is given and it does not exist.

    Raises:
        StorageError: the database cannot be reached, holds no such study, or holds one with other objectives.
    """
    storage = open_storage(url, create=create)
    names, directions = [item.name for item in objectives], [item.direction for item in objectives]
    # A sampler is always given: Optuna's own choice fails on a multi-objective study that holds pruned trials.
    sampler = sampler or optuna.samplers.RandomSampler()
    with _explained(url):
        try:
            study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        except KeyError:
            if not create:
                known = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none"
                raise StorageError(
                    f"{redact_url(url)} holds no study {name}; it holds: {known}. Start it with: paretoseg launch STUDY.yaml"
                ) from None
            study = optuna.create_study(
                storage=storage, study_name=name, directions=list(directions), sampler=sampler, load_if_exists=True
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(names)
        stored = study.metric_names
    same = study.directions == [StudyDirection[direction.upper()] for direction in directions]
    if not same or (stored is not None and stored != names):
        raise StorageError(
            f"the study {name} has other objectives than {', '.join(names)}"
            + (f", namely {', '.join(stored)}" if stored else "")
            + ". Put its objectives back, or choose another study.name."
        )
    return study


class DriverLease:
    """Keeps two drivers off one study: a study attribute renewed every few seconds while the context is open.

    A lease of a process that no longer lives on this host is taken over at once, one of another host when it has run out.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="driver-lease", daemon=True)
        self._mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": _start_time(os.getpid())}

    def __enter__(self) -> DriverLease:
        held = self._study.user_attrs.get(_LEASE)
        if held and held["until"] > time.time() and not self._gone(held):
            raise UserError(
                f"the study {self._study.study_name} is being driven by process {held['pid']} on {held['host']}. "
                "Wait for it or stop it; a driver that died frees the study after "
                f"{LEASE_S:.0f} s."
            )
        self._write(time.time() + LEASE_S)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            self._write(0.0)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
            optuna.logging.get_logger("paretoseg").warning(
                "could not give the study free; it is free in %.0f s", LEASE_S
            )

    def _write(self, until: float) -> None:
        self._study.set_user_attr(_LEASE, {**self._mine, "until": until})

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_S / 4):
            try:
                self._write(time.time() + LEASE_S)
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
                continue  # tried again at the next turn; the driver's own writes report a lasting fault

    def _gone(self, held: dict[str, Any]) -> bool:
        if held["host"] != self._mine["host"]:
            return False
        return held["pid"] == self._mine["pid"] or _start_time(int(held["pid"])) != str(held["started"])


def _start_time(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None where it does not live or cannot be told."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
