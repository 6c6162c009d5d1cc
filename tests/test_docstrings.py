"""The first line of a docstring states what the object is or does, not a relative clause."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "search_spaces",
    "exports",
    "hw_latency_model",
    "objectives",
    "trial_runner",
    "paretoseg",
    "tests",
    "benchmarks",
    "dashboards",
)
REJECTED = frozenset({"What", "Who", "Whether", "How", "Where", "Why", "Which", "As", "Of", "By", "When"})
"""First words that begin a clause instead of naming an object or an action."""


def rejected_docstrings(source: str) -> list[tuple[int, str]]:
    """Line and first line of each docstring of a module, its classes and functions that begins with a rejected word."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in ast.walk(ast.parse(source)):
        text = ast.get_docstring(node) if isinstance(node, kinds) else None
        if text and text.split()[0].rstrip(",.:;") in REJECTED:
            found.append((getattr(node, "lineno", 1), text.splitlines()[0]))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_begin_with_what_the_object_is_or_does(package: str):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in rejected_docstrings(path.read_text())
    ]
    assert not wrong, "begin with a noun phrase or an imperative:\n" + "\n".join(wrong)


def test_a_relative_clause_is_found_wherever_a_docstring_may_stand():
    source = '"""What it is."""\nclass A:\n    """Whether."""\n    async def b(self):\n        """As told."""\n'
    assert rejected_docstrings(source + 'def c():\n    """Whole number."""\n') == [
        (1, "What it is."),
        (2, "Whether."),
        (4, "As told."),
    ]
