"""Redaction of passwords in messages."""

from __future__ import annotations

import re

# Up to the last @ of the word, because a password may contain "/" and "@"; one with blanks ends at the next .
_PASSWORD = re.compile(r"(?P<keep>[A-Za-z][\w+.-]*:/{1,2}[^:/?#\s]*:)(?:\S*|(?!\d+(?:/|\s|$))[^@\n]*)@")
_BARE_PASSWORD = re.compile(r"(?<![^\s'\"(])(?P<keep>[^:/?#@\s'\"]+:)[^\s/]\S*@")
_SECRET_WORDS = r"(?:passw(?:or)?d|passphrase|pwd|token|secret|credential|api[_-]?key)"
# A name with an escape may spell any of these words.
_SECRET_OPTION = re.compile(
    rf"(?P<keep>(?:^|[?&;\s])(?:[\w-]{{0,40}}{_SECRET_WORDS}[\w-]{{0,40}}|[\w-]{{0,40}}%[\w%-]{{0,80}})=)[^&;#\s]*",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(_SECRET_WORDS, re.IGNORECASE)
HIDDEN = "***"


def is_secret_name(name: str) -> bool:
    """Return True for the name of an option that holds a secret, such as ``sslpassword`` or ``access_token``."""
    return _SECRET_NAME.search(name) is not None


def redact_url(text: str) -> str:
    """Replace the password of every URL in ``text`` by ``***``.

    Works on a bare URL and on a message that quotes one, such as a database driver's exception. User, host and database stay
    readable; a password given as an option (``?password=...``), or in a URL without scheme, is hidden as well.
    """
    for pattern in (_PASSWORD, _BARE_PASSWORD):
        text = pattern.sub(rf"\g<keep>{HIDDEN}@", text)
    return _SECRET_OPTION.sub(rf"\g<keep>{HIDDEN}", text)
