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
    """Line and first line of each docstring of a module, its classes, functions and constants that begins with a rejected word."""
    found = []
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", [])
        for item in body if isinstance(body, list) else []:  # a constant's docstring stands behind it
            text = item.value.value if isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) else None
            if isinstance(text, str) and text.strip() and text.split()[0].rstrip(",.:;") in REJECTED:
                found.append((item.lineno, text.strip().splitlines()[0]))
    return sorted(found)


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
    assert rejected_docstrings(source + 'def c():\n    """Whole number."""\nD = 1\n"""How many."""\n') == [
        (1, "What it is."),
        (3, "Whether."),
        (5, "As told."),
        (9, "How many."),
    ]
