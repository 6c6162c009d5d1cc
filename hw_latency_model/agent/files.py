"""Reading and writing files: durable writes, checksums, tolerant JSON."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Dict

Json = Dict[str, Any]
"""A JSON object."""


def json_or_none(text: str) -> Any:
    """Parse JSON; None for text that is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_text(path: Path) -> str:
    """Return the text of a file; empty for a file that is missing or unreadable."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def write_durably(path: Path, content: bytes) -> None:
    """Write a file atomically and flush it to disk: after a crash it holds either the old or the new content.

    Raises:
        OSError: the file cannot be written, e.g. because the disk is full.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
    finally:
        if temporary.exists():
            temporary.unlink()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
