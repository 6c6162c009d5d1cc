"""Atomic file and folder writes: readers, and runs after a crash, never see a partial file."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from search_spaces._common.errors import UserError

_PARTIAL, _REPLACED = ".partial", ".old"
_LEFT_BEHIND = re.compile(rf"\.(.+)\.[a-z0-9_]{{8}}{re.escape(_PARTIAL)}({re.escape(_REPLACED)})?")
_OLD_S = 3600.0


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; rename it into place if the block succeeds, remove it otherwise.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_PARTIAL, dir=target.parent)
    except OSError as error:
        raise write_error(target, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``target`` that replaces ``target`` if the block succeeds."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_PARTIAL, dir=target.parent))
    except OSError as error:
        raise write_error(target, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        old = temporary.with_name(temporary.name + _REPLACED)
        if target.exists():
            target.replace(old)
        temporary.replace(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_left_behind(folder: Path, older_than_s: float = _OLD_S) -> None:
    """Remove what killed processes left of atomic writes anywhere below a folder; one that may still be written to is kept.

    A folder that was killed between its two renames gets its earlier content back.
    """
    before = time.time() - older_than_s
    for path in list(folder.rglob(f".*{_PARTIAL}*")):
        name = _LEFT_BEHIND.fullmatch(path.name)
        with suppress(OSError):
            if name is None or path.stat().st_mtime > before:
                continue
            target = path.with_name(name[1])
            if name[2] and not target.exists():
                path.replace(target)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity raise ValueError."""
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_error(target: Path, error: OSError) -> UserError:
    """Convert an ``OSError`` from writing ``target`` to a `UserError`."""
    return UserError(
        f"cannot write {target}: {error.strerror or error}. "
        "Free some space or choose a folder you may write to, then run the same command again; nothing was lost."
    )
