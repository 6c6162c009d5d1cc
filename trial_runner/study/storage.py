"""A study's database: opening it, and creating or loading the study in it."""

from __future__ import annotations

import re
import sqlite3
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from objectives.objective import OBJECTIVES, Objective
from objectives.optuna_reads import FastReadStorage
from objectives.trial_record import (
    CONFIG,
    TrialRecord,
    hide_objects,
    read_study,
    store_study_attribute,
    study_attributes,
)
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path
from search_spaces._common.names import nearest_name
from search_spaces._common.urls import (
    missing_driver,
    parse_database_url,
    redact_url,
    with_installed_driver,
    without_secrets,
)
from trial_runner.config.compatibility import incompatible_change
from trial_runner.config.load import dump_config, public_values
from trial_runner.config.study import StudyConfig
from trial_runner.study.paths import StudyPaths
from trial_runner.study.patience import Patience, PatientStorage
from trial_runner.study.server_answers import PLUGIN
from trial_runner.study.sqlite_connection import FIRST_REPORT_S, WaitingConnection
from trial_runner.study.write_through import WriteThroughStorage

_SCHEMA_TRIES = 5


class StorageError(UserError):
    """The study's database cannot be reached, read or written."""


class StudyNotFoundError(StorageError):
    """The database does not exist yet, or holds no study of that name."""


_ADVICE = {
    sqlite3.SQLITE_NOTADB: "The file is no SQLite database: correct the path, or move the file away to start a new study there",
    sqlite3.SQLITE_CORRUPT: (
        "The file is damaged: restore a copy, or recover its rows with `sqlite3 FILE .recover`; the bundles are not affected"
    ),
    sqlite3.SQLITE_BUSY: "Stop the process that holds the lock, or copy the file to a local disk; then run the same command again",
    sqlite3.SQLITE_LOCKED: "Stop the process that holds the lock; then run the same command again",
    sqlite3.SQLITE_CANTOPEN: "Check that the folder exists and can be read and written",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable, or put the study on another disk",
    sqlite3.SQLITE_FULL: "Free some space on the disk; then run the same command again",
    sqlite3.SQLITE_IOERR: "Check the disk, and that it has room; then run the same command again",
}
_ADVICE_SERVER = "Check that the server runs and that its address, the user, the password and the database are right"
_ADVICE_FILE = "Check that the folder can be written and that its disk has room; then run the same command again"


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise StorageError(str(missing_driver(parse_database_url(url, "study.storage"), redact_url(url)))) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StorageError(database_sentence(url, error)) from error
    except OSError as error:
        raise StorageError(f"cannot use the study's database {redact_url(url)}: {error.strerror or error}.") from error


def database_sentence(url: str, error: BaseException) -> str:
    """Return a sentence on an error of the database at a URL, with advice and without a password."""
    return f"cannot use the study's database {redact_url(url)}: {_cause(error)}"


def _cause(error: BaseException) -> str:
    """Return what a database's driver said, and what to do about it."""
    chain: list[BaseException] = [error]
    while (inner := getattr(chain[-1], "orig", None) or chain[-1].__cause__) is not None:
        chain.append(inner)
    said = redact_url(str(chain[-1])).strip().splitlines()
    code = getattr(chain[-1], "sqlite_errorcode", None)
    sqlite_error = isinstance(chain[-1], sqlite3.Error)
    advice = (
        _ADVICE.get(code & 0xFF, _ADVICE_FILE) if code is not None else _ADVICE_FILE if sqlite_error else _ADVICE_SERVER
    )
    return f"{said[0] if said else type(chain[-1]).__name__}. {advice}."


def open_storage(url: str, *, create: bool) -> FastReadStorage:
    """Open the database at a URL.

    Raises:
        StudyNotFoundError: it is a sqlite file that does not exist and ``create`` is False.
        StorageError: the URL is none, it cannot be reached, or it is of an Optuna with another schema.
    """
    try:
        parsed = with_installed_driver(parse_database_url(url, "study.storage"))
    except UserError as error:
        raise StorageError(str(error)) from error
    arguments = _server_options(parsed)
    with _explained(url):
        if parsed.get_backend_name() == "sqlite":
            arguments = {"connect_args": {"timeout": FIRST_REPORT_S, "factory": WaitingConnection}}
            if parsed.database and parsed.database != ":memory:":
                path = Path(parsed.database)
                if create:
                    path.parent.mkdir(parents=True, exist_ok=True)
                elif not path.exists():
                    raise StudyNotFoundError(
                        f"there is no study at {path}. Start one with: paretoseg launch STUDY.yaml"
                    )
                if path.exists() and not path.is_file():
                    raise StorageError(
                        f"study.storage is {path}, which is no file. Name a file in a folder: sqlite:///{path}/study.db."
                    )
        address = parsed.render_as_string(hide_password=False)
        for _ in range(_SCHEMA_TRIES):
            try:
                # Only a launch creates the tables: a reader that came first would create them at the same time.
                return FastReadStorage(address, engine_kwargs=arguments, skip_table_creation=not create)
            except IntegrityError:
                time.sleep(0.5)  # another process made the tables just now
            except RuntimeError as error:  # Optuna's for a database of another schema
                raise _other_schema(parsed, arguments) from error
            except (OperationalError, ProgrammingError, optuna.exceptions.StorageInternalError) as error:
                if "already exists" in str(
                    error
                ):  # by another process, a reader too: Optuna's readers make the version's table
                    time.sleep(0.5)
                    continue
                if create or _has_tables(parsed, arguments):
                    raise
                raise StudyNotFoundError(
                    f"the database {redact_url(url)} holds no study. Start one with: paretoseg launch STUDY.yaml"
                ) from error
        return FastReadStorage(address, engine_kwargs=arguments)


def _server_options(url: URL) -> dict[str, Any]:
    """Return the engine's options for a database server: connections are tested before use, and a dead or paused server is noticed.

    Options of the URL itself are kept.
    """
    options: dict[str, Any] = {"pool_pre_ping": True, "pool_recycle": 1800}
    if url.get_backend_name() == "postgresql":
        wanted = {
            "connect_timeout": 10,
            "keepalives_idle": 20,
            "keepalives_interval": 5,
            "keepalives_count": 4,
            "tcp_user_timeout": 40_000,  # ms that sent data may stay unacknowledged
        }
        options["plugins"] = [PLUGIN]
        options["connect_args"] = {key: value for key, value in wanted.items() if key not in url.query}
    return options


def _has_tables(url: URL, options: dict[str, Any]) -> bool:
    """Return True if a database has Optuna's tables; raises SQLAlchemyError where it cannot be read."""
    engine = create_engine(url, **options)
    try:
        return bool(inspect(engine).has_table("version_info"))
    finally:
        engine.dispose()


def _other_schema(url: URL, options: dict[str, Any]) -> StorageError:
    shown, engine = without_secrets(url), create_engine(url, **options)
    with engine.connect() as connection:
        writer = str(connection.execute(text("SELECT library_version FROM version_info")).scalar())
    engine.dispose()
    step = f"Make a copy of it and run: optuna storage upgrade --storage {shown}"
    if _release(writer) > _release(optuna.__version__):
        step = "Use the environment that wrote it"
    return StorageError(
        f"the study's database {shown} was written by Optuna {writer}, whose tables this Optuna, {optuna.__version__}, cannot use. "
        f"{step}; or name a new database in study.storage."
    )


def _release(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def open_study(
    url: str,
    name: str,
    *,
    create: bool,
    sampler: optuna.samplers.BaseSampler | None = None,
    objectives: Sequence[Objective] = OBJECTIVES,
    patience: Patience | None = None,
) -> optuna.Study:
    """Load a study, or create it where it does not exist and ``create`` is True.

    Args:
        patience: of the study's only writer: later accesses wait for the database, and trials are kept in memory; None raises errors
            at once.

    Raises:
        StudyNotFoundError: it does not exist and ``create`` is False.
        StorageError: the database cannot be reached, or its study has other objectives.
    """
    database = open_storage(url, create=create)
    storage: BaseStorage = database if patience is None else WriteThroughStorage(PatientStorage(database, patience))
    names, directions = [item.name for item in objectives], [item.direction for item in objectives]
    # A sampler is always given: Optuna's own choice fails on a multi-objective study that holds pruned trials.
    sampler = sampler or optuna.samplers.RandomSampler()
    with _explained(url):
        try:
            study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
        except KeyError:
            if not create:
                known = sorted(optuna.get_all_study_names(storage))
                near = nearest_name(name, known, cutoff=0.6)
                hint = f" Did you mean {near}?" if near else ""
                raise StudyNotFoundError(
                    f"{redact_url(url)} holds no study {name}; it holds: {', '.join(known) or 'none'}.{hint} "
                    "Start it with: paretoseg launch STUDY.yaml"
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


def load_records(url: str, name: str) -> list[TrialRecord]:
    """Return the records of another study in a database, whatever its objectives are.

    Raises:
        StudyNotFoundError: there is none of that name.
        StorageError: the database cannot be read.
    """
    storage = open_storage(url, create=False)
    with _explained(url):
        try:
            return read_study(optuna.load_study(study_name=name, storage=storage))
        except KeyError:
            known = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none"
            raise StudyNotFoundError(f"{redact_url(url)} holds no study {name}; it holds: {known}.") from None


def require_own(study: optuna.Study) -> None:
    """Refuse a study of the same name that another program made.

    Raises:
        UserError: it has trials, but no configuration of a launch.
    """
    begun = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    if begun and CONFIG not in study_attributes(study):
        raise UserError(
            f"the database holds a study {study.study_name} with {len(begun)} trials that paretoseg did not make. "
            "Choose another study.name, or another database in study.storage."
        )


def require_comparable(config: StudyConfig, study: optuna.Study) -> None:
    """Refuse a configuration that differs from the stored one in a key that makes old and new trials incomparable.

    Raises:
        UserError: the key is named, with both values.
    """
    previous = study_attributes(study).get(CONFIG)
    changed = None if previous is None else incompatible_change(previous, config)
    if changed:
        raise UserError(
            f"the study {config.study.name} was started with another {changed}; its trials could not be compared with new ones. "
            "Put the old value back, or choose another study.name."
        )


def store_config(config: StudyConfig, study: optuna.Study, paths: StudyPaths) -> None:
    """Store the resolved configuration with the study and in its folder.

    Raises:
        UserError: as `require_comparable`.
    """
    require_comparable(config, study)
    resolved, values = dump_config(config), public_values(config)
    del values["study"]["storage"]
    hide_objects(study)
    store_study_attribute(study, CONFIG, values)
    with atomic_path(paths.config) as temporary:
        temporary.write_text(resolved)
