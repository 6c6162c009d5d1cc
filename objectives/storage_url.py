"""Storage URLs may carry a password: this is the only form in which one is shown, logged or written."""

from __future__ import annotations

import re

# Up to the last @ of the word, because a password may hold "/" and "@"; one with blanks ends at the next @.
_PASSWORD = re.compile(r"(?P<keep>[A-Za-z][\w+.-]*://[^:/?#\s]*:)(?:\S*|(?!\d+(?:/|\s|$))[^@\n]*)@")
_SECRET_OPTION = re.compile(
    r"(?P<key>(?:^|[?&;\s])(?:password|passwd|pwd|sslpassword|token|secret)=)[^&;#\s]*", re.IGNORECASE
)
HIDDEN = "***"


def redact_url(text: str) -> str:
    """``text`` with the password of every URL in it replaced by ``***``.

    Works on a bare URL and on a message that quotes one, so that a database driver's exception can be shown too. User,
    host and database stay readable; a password given as an option (``?password=...``) is hidden as well.
    """
    return _SECRET_OPTION.sub(rf"\g<key>{HIDDEN}", _PASSWORD.sub(rf"\g<keep>{HIDDEN}@", text))
