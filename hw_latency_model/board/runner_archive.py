"""Packs the programs for a board, with the agent and the torch operators, into one archive that Python runs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import exports.onnx

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("hw_latency_model/agent", "hw_latency_model/onboard")


def runner_archive(
    main: str = "", data: Mapping[str, bytes] | None = None, interpreter: str = "/usr/bin/env python3"
) -> bytes:
    """Return an executable archive; its bytes depend on sources and arguments only.

    Args:
        main: source of ``__main__.py``; empty for an archive to import from.
        data: further files by name, packed into the folder ``data``.
        interpreter: command in the archive's first line.
    """
    entries = {"__main__.py": main.encode(), "hw_latency_model/__init__.py": b"", "exports/__init__.py": b""}
    for package in _PACKAGES:
        folder = _ROOT / Path(package).name
        for path in folder.rglob("*.py"):
            entries[f"{package}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    onnx_folder = Path(next(iter(exports.onnx.__path__)))
    entries["exports/onnx/__init__.py"] = b""
    entries["exports/onnx/torch_operators.py"] = (onnx_folder / "torch_operators.py").read_bytes()
    entries.update({f"data/{name}": content for name, content in (data or {}).items()})
    written = io.BytesIO()
    written.write(f"#!{interpreter}\n".encode())
    with zipfile.ZipFile(written, "a") as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            entry.compress_type = zipfile.ZIP_STORED if name.startswith("data/") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, entries[name])
    return written.getvalue()
