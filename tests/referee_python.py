"""Software of boards under a real Python 3.6, installed once per machine: the LPCVC referee's, and a board's with ONNX Runtime."""

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
BOARD_PACKAGES = ("numpy==1.19.5", "onnxruntime==1.10.0", "Pillow==8.4.0")
INSTALL_S = 900


@functools.cache
def need_referee_python() -> str:
    """Path of its interpreter, or the test is skipped with the reason."""
    return os.environ.get("PARETOSEG_REFEREE_PYTHON") or _installed("lpcvc-referee", PACKAGES)


@functools.cache
def need_board_python() -> str:
    """Path of a Python 3.6 with ONNX Runtime, or the test is skipped with the reason."""
    return os.environ.get("PARETOSEG_BOARD_PYTHON") or _installed("board", BOARD_PACKAGES)


def _installed(name: str, packages: tuple[str, ...]) -> str:
    """Path of an interpreter with these packages in the user's cache; skips the test where they cannot be installed."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path("~/.cache").expanduser()))
    folder = cache / "paretoseg" / name
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            problem = _install(need_python36(), folder / "venv", python, packages)
            if problem:
                pytest.skip(f"{', '.join(packages)} cannot be installed here: {problem}")
            (folder / "complete").write_text("\n".join(packages))
    return str(python)


def _install(base: str, folder: Path, python: Path, packages: tuple[str, ...]) -> str | None:
    """Return the reason of a failure."""
    commands = (
        [base, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "-q", "--upgrade", "pip==21.3.1"],
        [str(python), "-m", "pip", "install", "-q", "--prefer-binary", *packages],
    )
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
        except subprocess.TimeoutExpired:
            return f"{command[3:5]} took more than {INSTALL_S} s"
        if done.returncode != 0:
            return done.stderr.strip()[-300:]
    return None
