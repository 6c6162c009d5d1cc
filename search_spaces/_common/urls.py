"""Database URLs: with the driver that is installed, and the only form in which one is shown, logged or written."""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

# Up to the last @ of the word, because a password may hold "/" and "@"; one with blanks ends at the next .
_PASSWORD = re.compile(r"(?P<keep>[A-Za-z][\w+.-]*://[^:/?#\s]*:)(?:\S*|(?!\d+(?:/|\s|$))[^@\n]*)@")
_BARE_PASSWORD = re.compile(r"(?<![^\s'\"(])(?P<keep>[^:/?#@\s'\"]+:)[^\s/]\S*@")
_SECRET_OPTION = re.compile(
    r"(?P<keep>(?:^|[?&;\s])(?:password|passwd|pwd|sslpassword|token|secret)=)[^&;#\s]*", re.IGNORECASE
)
HIDDEN = "***"


def redact_url(text: str) -> str:
    """``text`` with the password of every URL in it replaced by ``***``.

    Works on a bare URL and on a message that quotes one, so that a database driver's exception can be shown too. User,
    host and database stay readable; a password given as an option (``?password=...``) is hidden as
    well, and so is one in a URL whose scheme was forgotten.
    """
    for pattern in (_PASSWORD, _BARE_PASSWORD):
        text = pattern.sub(rf"\g<keep>{HIDDEN}@", text)
    return _SECRET_OPTION.sub(rf"\g<keep>{HIDDEN}", text)


def with_installed_driver(url: URL) -> URL:
    """A PostgreSQL URL that names no driver gets psycopg2 where psycopg, which SQLAlchemy would take, is not installed."""
    if url.drivername == "postgresql" and importlib.util.find_spec("psycopg") is None:
        return url.set(drivername="postgresql+psycopg2")
    return url
