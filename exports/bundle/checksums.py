"""Checksums of a bundle's files, in the format of `sha256sum`: ``sha256sum -c SHA256SUMS`` checks them on any board."""

from __future__ import annotations

import hashlib
from pathlib import Path

from search_spaces._common.files import atomic_path
from search_spaces._common.untrusted import read_bounded

CHECKSUMS = "SHA256SUMS"
_MOST_MB = 1

# files that a board or a file manager may add to a bundle
TOLERATED = (".plan", ".engine", ".cache")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_checksums(folder: Path) -> None:
    """Write the checksums of all files of a bundle, its manifest included; atomically."""
    with atomic_path(folder / CHECKSUMS) as temporary:
        temporary.write_text(_checksums(folder))


def changed_checksums(folder: Path) -> bool:
    """True if a file differs from its checksum, or the list from the files; False for a bundle without such a list."""
    path = folder / CHECKSUMS
    return path.exists() and read_bounded(path, "a list of checksums", _MOST_MB) != _checksums(folder).encode()


def _checksums(folder: Path) -> str:
    files = sorted(
        path
        for path in folder.iterdir()
        if path.name != CHECKSUMS and not path.name.startswith(".") and path.suffix not in TOLERATED
    )
    return "".join(f"{sha256_of(path)}  {path.name}\n" for path in files)
