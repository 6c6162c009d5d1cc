"""Builds the API reference from the docstrings: ``make docs``, or ``python docs/build_reference.py FOLDER``."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from pathlib import Path

import pdoc
import pdoc.render

MODULES = ("paretoseg", "search_spaces", "objectives", "objectives.data", "hw_latency_model", "exports")


def build(folder: Path) -> None:
    """Write the pages of ``MODULES`` to a folder; ``index.html`` is the first."""
    for name in MODULES:
        module = import_module(name)
        vars(module).update({item: getattr(module, item) for item in module.__all__})  # pdoc reads the module's dict
    # Types that modules import for the type checker alone are shown as they are written.
    warnings.filterwarnings("ignore", message="Error parsing type annotation", category=UserWarning)
    pdoc.render.configure(docformat="google", footer_text="paretoseg", show_source=False)
    pdoc.pdoc(*MODULES, output_directory=folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
