"""Database URLs: parsing, redaction of passwords, and selection of the installed driver."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces._common.errors import UserError
from search_spaces._common.redaction import is_secret_name, redact_url as redact_url

if TYPE_CHECKING:
    from sqlalchemy.engine import URL


def with_installed_driver(url: URL) -> URL:
    """Select psycopg2 for a PostgreSQL URL without driver if psycopg, SQLAlchemy's default, is not installed."""
    if url.drivername == "postgresql" and importlib.util.find_spec("psycopg") is None:
        return url.set(drivername="postgresql+psycopg2")
    return url


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a path has lost one slash of ``://``
_EXAMPLES = "sqlite:///study.db or postgresql+psycopg2://user@host/db"
_LONGEST_PART = 255


def parse_database_url(text: str, what: str) -> URL:
    """Parse a database URL; ``~`` in the path of a SQLite file is the home folder.

    Args:
        text: the URL. No message quotes it: it may hold a password.
        what: the key or option of the URL, for errors: ``study.storage``.

    Raises:
        UserError: it is no URL, its port is no number, or its kind of database is unknown.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        url = make_url(text)
    except ArgumentError as error:
        raise UserError(f"{what} is not a database URL. Write for example {_EXAMPLES}.") from error
    except ValueError:
        raise UserError(
            f"{what} is a database URL whose port is no number. In a password write : / @ and # as %3A %2F %40 and %23."
        ) from None
    if url.drivername == "postgres":
        raise UserError(f"{what} begins with postgres://, which SQLAlchemy does not know: write postgresql:// instead.")
    try:
        url.get_dialect()
    except NoSuchModuleError as error:
        raise UserError(
            f"{what} begins with {url.drivername}://, which is not a database URL that SQLAlchemy knows. Write for example {_EXAMPLES}."
        ) from error
    except ImportError as error:
        raise UserError(f"{what} needs a Python driver that is not installed. {_install(url)}") from error
    if url.get_backend_name() != "sqlite":
        return url
    if url.host:
        raise UserError(f"{what} has two slashes after sqlite:, which name a host. Write three: sqlite:///{url.host}.")
    if url.database and url.database != ":memory:":
        url = url.set(database=str(home_path(url.database, what)))
    return url


def missing_driver(url: URL, what: str) -> UserError:
    """Return the error for a URL whose Python driver is not installed."""
    return UserError(
        f"{what} needs a Python driver for {url.get_backend_name()} that is not installed. {_install(url)}"
    )


def _install(url: URL) -> str:
    backend = url.drivername.partition("+")[0]
    if backend == "postgresql":
        return "Run: pip install 'paretoseg[postgres]'"
    if backend in ("mysql", "mariadb"):
        return f"Run: pip install pymysql, and write {backend}+pymysql://user@host/db"
    return f"Install the driver of {url.drivername}, or write for example {_EXAMPLES}."


def home_path(path: str | Path, what: str) -> Path:
    """Expand ``~`` in a path.

    Raises:
        UserError: it is a URL, there is no such user, or no home folder.
    """
    if _SCHEME.match(str(path)):
        raise UserError(f"{what} is a URL, but takes the path of a file or folder. Write a path, such as data/mine.")
    if "\0" in str(path) or any(len(os.fsencode(part)) > _LONGEST_PART for part in Path(path).parts):
        raise UserError(
            f"{what} is no path: it holds a NUL character, or a name of more than {_LONGEST_PART} bytes. Write a shorter one."
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{what} is {str(path)!r}, but that home folder is not known here. Write the whole path."
        ) from error


def without_secrets(url: URL) -> str:
    """Return a URL as text, without password and secret options; it still opens a database that asks for none."""
    options = {key: value for key, value in url.query.items() if not is_secret_name(key)}
    return url._replace(password=None).set(query=options).render_as_string()
