"""Console output and timestamps."""

import datetime
import sys
from typing import Any


def now_iso() -> str:
    """Return the current UTC time as ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def say(text: str, stream: Any = None) -> None:
    """Print one line to ``stream`` (default: stdout). A closed stream (a dropped connection) is ignored."""
    target = stream or sys.stdout
    try:
        target.write(
            text.encode(target.encoding or "ascii", "backslashreplace").decode(target.encoding or "ascii") + "\n"
        )
        target.flush()
    except (OSError, ValueError):
        pass
