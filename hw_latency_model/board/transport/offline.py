"""Offline transfer: a folder to copy to the board, e.g. by USB drive, and the results copied back."""

from __future__ import annotations

import shutil
from pathlib import Path

from hw_latency_model.board.agent_archive import AGENT_FILE, write_agent
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_folder

RESULTS_FILE = "results.jsonl"

_RUN = f"""#!/bin/sh
# Measures everything in jobs.json that is not in {RESULTS_FILE} yet. May be stopped and started again at any time.
cd "$(dirname "$0")" || exit 1
exec ${{PYTHON:-python3}} {AGENT_FILE} run --jobs jobs.json --results {RESULTS_FILE} --work "${{WORK:-work}}" "$@"
"""

_README = """paretoseg: what to do with this folder

1. Copy it to {device}: to its own disk, not a USB drive, where that has room ({size_mb} MB here, as much again for engines).
2. There, run:    sh run.sh
   To let it lock the clocks (advised, and put back afterwards):    sudo sh run.sh
   It needs Python 3.6 or newer; another command for it is given as    PYTHON=/path/to/python3 sh run.sh
   It takes about {hours:.1f} hours, for building engines above all. It may be stopped with Ctrl-C, and the board may lose its
   power: started again, it goes on with what is missing.
3. Carry the file {results} (or the whole folder) back and run on the other machine:
       {command} --results PATH

Do not change any file here: what does not match its checksum is not measured, and not believed.
"""


def write_offline_kit(kit: Path, target: Path, *, device: str, hours: float, command: str) -> Path:
    """Copy a batch's kit to ``target`` and add ``run.sh`` and ``README.txt``, which names the command that imports the results.

    Raises:
        UserError: the folder cannot be written.
    """
    size_mb = sum(path.stat().st_size for path in kit.rglob("*") if path.is_file()) // 1_000_000 + 1
    with atomic_folder(target) as folder:
        shutil.copytree(kit, folder, dirs_exist_ok=True)
        if not (folder / AGENT_FILE).exists():  # a kit of an earlier version
            write_agent(folder / AGENT_FILE)
        (folder / "run.sh").write_text(_RUN)
        (folder / "run.sh").chmod(0o755)
        text = _README.format(device=device, size_mb=size_mb, hours=hours, results=RESULTS_FILE, command=command)
        (folder / "README.txt").write_text(text)
    return target


def find_results(path: Path) -> list[Path]:
    """Find the results files of ``path``: the file itself, or ``results.jsonl`` in the folder or its subfolders.

    Raises:
        UserError: no file was found.
    """
    if path.is_file():
        return [path]
    found = sorted([*path.glob(RESULTS_FILE), *path.glob(f"*/{RESULTS_FILE}")]) if path.is_dir() else []
    if not found:
        raise UserError(
            f"there is no {RESULTS_FILE} at {path}. Give the file, or the folder that was carried back from the board; "
            "`sh run.sh` on the board writes it."
        )
    return found
