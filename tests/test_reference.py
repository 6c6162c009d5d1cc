"""The API reference: every public name has its page, and every docstring that it shows is there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
MODULES = ("paretoseg", "search_spaces", "objectives", "objectives.data", "hw_latency_model", "exports")


@pytest.mark.slow
def test_the_reference_is_built_with_every_public_name(tmp_path: Path):
    command = [sys.executable, str(ROOT / "docs" / "build_reference.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 and "Warn" not in done.stderr, done.stderr
    assert (tmp_path / "index.html").is_file()
    for name in MODULES:
        page = (tmp_path / f"{name.replace('.', '/')}.html").read_text()
        assert set(import_module(name).__all__) <= set(re.findall(r'<section id="([\w.]+)"', page)), name
    study = (tmp_path / "paretoseg.html").read_text()
    assert '<div id="Study.launch"' in study and ">Raises:" in study


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public functions and properties that a class itself defines."""
    for name, item in vars(kind).items():
        if isinstance(item, staticmethod | classmethod):
            item = item.__func__
        if not name.startswith("_") and (inspect.isfunction(item) or isinstance(item, property | cached_property)):
            yield name, getattr(kind, name) if inspect.isfunction(item) else item


@pytest.mark.parametrize("package", MODULES)
def test_every_public_name_is_described(package: str):
    module, missing = import_module(package), []
    for name in module.__all__:
        item = getattr(module, name)
        if not inspect.isclass(item) and not inspect.isroutine(item):
            continue
        text = item.__doc__ or ""
        missing += [] if text.strip() else [name]
        if inspect.isclass(item):
            missing += [f"{name}.{member}" for member, found in members(item) if not inspect.getdoc(found)]
        if is_dataclass(item):
            described = {*re.findall(r"\w+", " ".join(base.__doc__ or "" for base in item.__mro__))}
            missing += [f"{name}.{field.name}" for field in fields(item) if not {field.name} <= described]
    assert not missing, f"{package} has no description of {', '.join(missing)}"
