"""The sentence shown when a name is not one of those known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from search_spaces._common.errors import UserError


def unknown_name(what: str, name: object, known: Iterable[str]) -> UserError:
    """An error that says which ``what`` was asked for, the nearest known name, and all known ones."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {what} {name!r}: {hint}Known: {', '.join(names)}.")
