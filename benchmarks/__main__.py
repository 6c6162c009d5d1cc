"""List of the benchmarks with the first line of each docstring, for `make bench`."""

from __future__ import annotations

import ast
from pathlib import Path


def main() -> None:
    folder = Path(__file__).parent
    modules = {path.stem: path for path in folder.glob("[a-z]*.py")}
    modules |= {path.parent.name: path for path in folder.glob("[a-z]*/__main__.py")}
    for name, path in sorted(modules.items()):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        print(f"python -m benchmarks.{name:<20} {text.splitlines()[0] if text else ''}")


if __name__ == "__main__":
    main()
