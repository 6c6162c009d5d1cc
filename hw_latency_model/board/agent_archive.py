"""Packs the agent's package into the one file that a board gets, ``paretoseg_agent.pyz``."""

from __future__ import annotations

import io
import zipapp
import zipfile
from pathlib import Path

AGENT_FILE = "paretoseg_agent.pyz"
AGENT_PACKAGE = "paretoseg_agent"
"""Name of ``hw_latency_model.agent`` inside the archive."""

_SOURCES = Path(__file__).parents[1] / "agent"
_MAIN = f"""import sys

from {AGENT_PACKAGE}.__main__ import main

sys.exit(main(sys.argv[1:]))
"""


def write_agent(target: Path) -> Path:
    """Write the agent as an executable zip archive and return ``target``.

    The bytes depend on the sources only (sorted entries, fixed timestamps and modes, no compression), so that the archive
    has the same checksum on every machine and is not sent again to a board that has it.

    Args:
        target: file to write, usually called ``paretoseg_agent.pyz``.

    Raises:
        OSError: it cannot be written.
    """
    entries = {"__main__.py": _MAIN.encode()}
    for path in _SOURCES.rglob("*.py"):
        entries[f"{AGENT_PACKAGE}/{path.relative_to(_SOURCES).as_posix()}"] = path.read_bytes()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, entries[name])
    content.seek(0)
    zipapp.create_archive(content, target, "/usr/bin/env python3")
    return target
