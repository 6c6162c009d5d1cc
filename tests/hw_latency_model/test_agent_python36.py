"""Checks of every agent module in its archive, under the board's Python 3.6 and under this one."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_board.harness import AGENT
from fake_board.python36 import need_python36

import hw_latency_model.agent

SOURCES = Path(hw_latency_model.agent.__file__).parent
CHECKS = Path(__file__).parent / "fake_board" / "agent_checks.py"


def module_names() -> list[str]:
    """Names of the agent's modules, relative to its package; without the package itself, which has no code."""
    paths = sorted(path.relative_to(SOURCES).with_suffix("") for path in SOURCES.rglob("*.py"))
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if name != "__init__"]


@functools.cache
def failures(python: str) -> dict[str, str]:
    """Failures by module, from one run of all checks."""
    done = subprocess.run([python, "-I", str(CHECKS), str(AGENT)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("module", module_names())
def test_a_module_of_the_archive_works_under_python_36(module: str) -> None:
    assert failures(need_python36())[module] == ""


@pytest.mark.parametrize("module", module_names())
def test_a_module_of_the_archive_works_under_this_python(module: str) -> None:
    assert failures(sys.executable)[module] == ""


def test_every_module_compiles_under_python_36(tmp_path: Path) -> None:
    """Also syntax that the checks do not reach; the byte code goes elsewhere."""
    code = "import sys; [compile(open(path, 'rb').read(), path, 'exec') for path in sys.argv[1:]]"
    paths = [str(path) for path in SOURCES.rglob("*.py")]
    done = subprocess.run([need_python36(), "-c", code, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
