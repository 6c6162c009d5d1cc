"""The LPCVC referee's software: Python 3.6 with its versions of numpy, torch, torchvision and OpenCV, installed once per machine."""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "hw_latency_model"))

from fake_board.python36 import need_python36

PACKAGES = (
    "numpy==1.19.5",
    "torch==1.10.1",
    "torchvision==0.11.2",
    "opencv-python-headless==4.6.0.66",
    "imageio==2.15.0",
    "Pillow==8.4.0",
)
INSTALL_S = 900


@functools.cache
def need_referee_python() -> str:
    """Path of its interpreter, or the test is skipped with the reason."""
    given = os.environ.get("PARETOSEG_REFEREE_PYTHON")
    if given:
        return given
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path("~/.cache").expanduser()))
    folder = cache / "paretoseg" / "lpcvc-referee"
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            problem = _install(need_python36(), folder / "venv", python)
            if problem:
                pytest.skip(f"the referee's software cannot be installed here: {problem}")
            (folder / "complete").write_text("\n".join(PACKAGES))
    return str(python)


def _install(base: str, folder: Path, python: Path) -> str | None:
    """Return the reason of a failure."""
    commands = (
        [base, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "-q", "--upgrade", "pip==21.3.1"],
        [str(python), "-m", "pip", "install", "-q", "--prefer-binary", *PACKAGES],
    )
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
        except subprocess.TimeoutExpired:
            return f"{command[3:5]} took more than {INSTALL_S} s"
        if done.returncode != 0:
            return done.stderr.strip()[-300:]
    return None
