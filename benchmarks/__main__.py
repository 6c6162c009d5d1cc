"""List of the benchmarks with the first line of each docstring, for `make bench`."""

from __future__ import annotations

import ast
from pathlib import Path


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        print(f"python -m benchmarks.{path.stem:<20} {text.splitlines()[0] if text else ''}")


if __name__ == "__main__":
    main()
