"""Names that packages import on first use: all found, told to type checkers, and not before they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = ("search_spaces", "exports", "hw_latency_model", "objectives", "dashboards")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_is_found_and_known_to_type_checkers(name: str):
    package = import_module(name)
    assert package.__file__ is not None and dir(package) == package.__all__
    imports = [
        node for node in ast.walk(ast.parse(Path(package.__file__).read_text())) if isinstance(node, ast.ImportFrom)
    ]
    typed = {alias.asname: node.module for node in imports for alias in node.names if alias.asname}
    assert sorted(typed) == package.__all__
    for public, module in typed.items():
        assert getattr(package, public) is getattr(import_module(str(module)), public)


@pytest.mark.parametrize("name", PACKAGES)
def test_no_submodule_hides_a_name(name: str):
    package = import_module(name)
    folder = Path(str(package.__file__)).parent
    assert not {path.stem for path in folder.iterdir()} & set(package.__all__)


@pytest.mark.parametrize("name", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(name: str):
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        _ = import_module(name).nothing


def test_importing_the_packages_imports_no_framework():
    heavy = ("torch", "onnx", "onnxruntime", "timm", "scipy", "sqlalchemy", "optuna", "plotly")
    code = f"import sys, {', '.join(PACKAGES)}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
