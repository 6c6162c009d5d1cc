"""Output of the command line: lines, notes on stderr, tables."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def say(line: str) -> None:
    """Print a line to stdout at once, also into a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def print_error(line: str) -> None:
    """Print a line to stderr: progress beside machine-readable output."""
    sys.stderr.write(line + "\n")


def console() -> Console:
    """Return the console for tables: the terminal's width, or whole lines into a pipe."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 200)
