"""Output of the command line: lines, notes on stderr, tables."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def say(line: str) -> None:
    """Print a line to stdout at once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say_json(value: Any) -> None:
    """Print a value as JSON to stdout; a number that is not finite, for which JSON has no word, becomes null."""
    say(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def print_error(line: str) -> None:
    """Print a line to stderr: progress beside machine-readable output."""
    sys.stderr.write(line + "\n")


def console() -> Console:
    """Return the console for tables: the terminal's width, or whole lines into a pipe."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 200)
