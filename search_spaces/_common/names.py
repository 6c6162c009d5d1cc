"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from search_spaces._common.errors import UserError


def nearest_name(name: object, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """Return the known name most similar to ``name``, or None if none has a similarity of at least ``cutoff`` (0 to 1)."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def unknown_name(what: str, name: object, known: Iterable[str]) -> UserError:
    """Error for a name that is not known, with the nearest known name and all known ones."""
    names = list(known)
    near = nearest_name(name, names, cutoff=0.4)
    hint = f"did you mean {near!r}? " if near else ""
    return UserError(f"unknown {what} {name!r}: {hint}Known: {', '.join(names)}.")
