"""Rows of the table of trainings, and their file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("camvid.jsonl")

Row = dict[str, Any]


def read_table(path: Path = TABLE) -> list[Row]:
    """Read the rows of a table; an incomplete last line, of a run that was cut off, is left out. [] where there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[-1]:
        path.write_text("\n".join([*lines[:-1], ""]), encoding="utf-8")
    return [json.loads(line) for line in lines[:-1]]
