"""A study's database: opening it, and creating or loading the study in it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from objectives.objective import OBJECTIVES, Objective
from objectives.trial_record import CONFIG
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path
from search_spaces._common.urls import redact_url, with_installed_driver
from trial_runner.config.compatibility import incompatible_change
from trial_runner.config.load import dump_config
from trial_runner.config.study import StudyConfig
from trial_runner.study.paths import StudyPaths

_SCHEMA_TRIES = 5


class StorageError(UserError):
    """The study's database cannot be reached, read or written."""


class StudyNotFoundError(StorageError):
    """The database does not exist yet, or holds no study of that name."""


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
    """Open the database at a URL.

    Raises:
        StudyNotFoundError: it is a sqlite file that does not exist and ``create`` is False.
        StorageError: it cannot be reached.
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
                    raise StudyNotFoundError(
                        f"there is no study at {path}. Start one with: paretoseg launch STUDY.yaml"
                    )
        else:
            arguments = {"pool_pre_ping": True}
        address = parsed.render_as_string(hide_password=False)
        for _ in range(_SCHEMA_TRIES):
            try:
                # Only a launch creates the tables: a reader that came first would create them at the same time.
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
    """Load a study, or create it where it does not exist and ``create`` is True.

    Raises:
        StudyNotFoundError: it does not exist and ``create`` is False.
        StorageError: the database cannot be reached, or its study has other objectives.
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
                raise StudyNotFoundError(
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


def require_comparable(config: StudyConfig, study: optuna.Study) -> None:
    """Refuse a configuration that differs from the stored one in a key that makes old and new trials incomparable.

    Raises:
        UserError: the key is named, with both values.
    """
    previous = study.user_attrs.get(CONFIG)
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
    text = dump_config(config)
    study.set_user_attr(CONFIG, config.model_dump(mode="json", exclude={"study": {"storage"}}))
    with atomic_path(paths.config) as temporary:
        temporary.write_text(text)
