"""Finds a real Python 3.6, which the boards have and the agent must run under."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest


@functools.cache
def find_python36() -> str | None:
    """Its path: PARETOSEG_PYTHON36, ``python3.6`` on PATH, or one of pyenv's; None where there is none that runs."""
    roots = [os.environ.get("PYENV_ROOT"), "~/.pyenv", "/opt/pyenv", "/usr/local/pyenv"]
    candidates = [os.environ.get("PARETOSEG_PYTHON36"), shutil.which("python3.6")]
    for root in roots:
        if root:
            found = sorted(Path(root).expanduser().glob("versions/3.6.*/bin/python3.6"), reverse=True)
            candidates += [str(path) for path in found]
    for candidate in candidates:
        if candidate and _is_36(candidate):
            return candidate
    return None


def _is_36(path: str) -> bool:
    try:
        done = subprocess.run(
            [path, "-c", "import sys; print(sys.version_info[:2] == (3, 6))"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == "True"


def need_python36() -> str:
    """Its path, or the test is skipped with the reason."""
    path = find_python36()
    if path is None:
        pytest.skip("no Python 3.6 here; set PARETOSEG_PYTHON36 to one (pyenv install 3.6.15)")
    return path
