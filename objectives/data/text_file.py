"""Read text files as editors write them: UTF-8 or UTF-16, with or without a byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from objectives.data.base import DatasetError
from objectives.data.image_file import require_regular

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without surrounding white space, empty ones left out.

    Raises:
        FileNotFoundError: there is no such file.
        DatasetError: it is no regular file, cannot be read, or is in another encoding.
    """
    if path.exists():
        require_regular(path, "text file")
    try:
        content = path.read_bytes()
        text = content.decode(_encoding(content))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}; give yourself read permission.") from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} must be a text file in UTF-8 or UTF-16, but its byte {error.start} belongs to neither; save it as UTF-8."
        ) from error
    lines = (line.strip().strip("\ufeff\u200b").strip() for line in text.splitlines())
    return [line for line in lines if line]


def _encoding(content: bytes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    if b"\0" in content[:2]:  # UTF-16 without its mark
        return "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    return "utf-8"
