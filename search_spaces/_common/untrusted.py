"""Files that anybody may have written: bounded size, and JSON whose numbers and text every later step can hold."""

from __future__ import annotations

import json
import math
import os
import stat
import zipfile
from pathlib import Path
from typing import Any, NoReturn

from search_spaces._common.errors import UserError

_INT_LIMIT = 2**63
MOST_WEIGHTS_MB = 16_000


def read_bounded(path: Path, what: str, most_mb: int) -> bytes:
    """Read a file of at most ``most_mb`` megabytes; its size is checked before it is read.

    Raises:
        UserError: it is larger, or no regular file: a pipe may never end.
        OSError: it cannot be read.
    """
    # Without waiting for the other end of a pipe.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise UserError(
                f"{what} must be a regular file, but {path} is a folder, pipe or device. Give another file."
            )
        check_size(path, what, most_mb, facts.st_size)
        content = file.read(most_mb * 1_000_000 + 1)
    check_size(path, what, most_mb, len(content))  # of a file that grows
    return content


def check_size(path: Path, what: str, most_mb: int, size: int | None = None) -> None:
    """Refuse a file of more than ``most_mb`` megabytes before it is read.

    Args:
        size: its bytes, where they are known.

    Raises:
        UserError: it is larger.
        OSError: there is no such file.
    """
    found = path.stat().st_size if size is None else size
    if found > most_mb * 1_000_000:
        raise UserError(
            f"{path} has {found / 1e6:.0f} MB, more than {what} ever has ({most_mb} MB at most): it is damaged, or was made to "
            "fill the memory. Get it again from its source."
        )


def parse_json(text: str | bytes) -> Any:
    """Parse JSON whose whole numbers have 64 bits, whose other numbers are finite, and whose text is Unicode.

    Raises:
        ValueError: it is none, or is nested too deeply.
    """
    try:
        value = json.loads(text, parse_int=_whole_number, parse_float=_finite_number, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()  # raises for lone surrogates, in keys and values
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a text in it is no Unicode") from None
    return value


def load_torch(path: Path) -> Any:
    """Load a file of torch on the CPU: plain values and tensors, none of which stands for more bytes than the file has.

    Raises:
        UserError: the file is larger than weights ever are, or was made to unpack to more than it holds.
        OSError, RuntimeError, ValueError, …: torch cannot read it.
    """
    import torch

    check_size(path, "a file of weights", MOST_WEIGHTS_MB)
    check_archive(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    most = path.stat().st_size
    seen: set[int] = set()
    left = [content]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        size = value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0
        if size > most:
            raise UserError(
                f"{path} has {most / 1e6:.3g} MB, but a tensor in it repeats its values to {size / 1e6:.3g} MB, which could fill the "
                "memory. Get the file again from its source, or save its tensors with .contiguous()."
            )
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
    return content


def check_archive(path: Path) -> None:
    """Refuse a file of torch whose content is larger than the file: a small one could fill the memory.

    Raises:
        UserError: its archive is compressed, which torch never does, or lists bytes more than once.
    """
    try:
        if not zipfile.is_zipfile(path):
            return  # the format of old releases, or none: torch says which
        with zipfile.ZipFile(path) as archive:
            content = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return  # damaged: torch says how
    size = path.stat().st_size
    if content > size:
        raise UserError(
            f"{path} has {size / 1e6:.3g} MB but unpacks to {content / 1e6:.3g} MB: torch packs nothing, so it was made by something else "
            "and could fill the memory. Get the file again from its source, or save it again with torch.save."
        )


def _whole_number(text: str) -> int:
    value = int(text) if len(text) <= 20 else _INT_LIMIT
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        raise ValueError(f"a number of {len(text)} digits does not fit into 64 bits")
    return value


def _finite_number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond the largest number")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
