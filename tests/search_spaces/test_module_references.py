"""References ``module:name``: what they find, and one sentence for each mistake."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from search_spaces._common.errors import UserError
from search_spaces._common.references import add_import_folder, check_arguments, is_reference, resolve, resolve_callable

SOURCE = """
class Outer:
    inner = staticmethod(len)

def boundary(scores, *, width=3):
    return width

LIMIT = 4
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "ref_user.py").write_text(SOURCE)
    (tmp_path / "ref_needs.py").write_text("import ref_is_not_installed\n")
    (tmp_path / "ref_broken.py").write_text("raise RuntimeError('no licence')\n")
    (tmp_path / "ref_syntax.py").write_text("def f(:\n")
    add_import_folder(tmp_path)
    return tmp_path


def test_a_reference_finds_functions_and_attributes_of_attributes(modules: Path):
    assert resolve("ref_user:boundary", "x")(None) == 3
    assert resolve_callable("ref_user:Outer.inner", "x")("abc") == 3


def test_the_folder_is_added_once_and_first(modules: Path):
    add_import_folder(modules)
    assert sys.path[0] == str(modules) and sys.path.count(str(modules)) == 1
    before = list(sys.path)
    add_import_folder(None)
    assert sys.path == before


@pytest.mark.parametrize("text", ["camvid", "mypkg.data", "runs/local-cpu/latency_model.json", "C:\\x", ":f", "m:", 3])
def test_names_and_paths_are_no_references(text: object):
    assert not is_reference(text)


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("encoder_decoder", "space.name must be written module:name"),
        ("__main__:MySpace", "cannot import what a script or notebook defines"),
        ("ref_absent:f", "there is no module 'ref_absent'. Put it beside the YAML file or install it"),
        ("ref_user.sub:f", "space.name is 'ref_user.sub:f'"),
        ("ref_user:boundry", "did you mean 'boundary'"),
        ("ref_needs:f", "importing ref_needs failed: ModuleNotFoundError: No module named 'ref_is_not_installed'"),
        ("ref_broken:f", "importing ref_broken failed: RuntimeError: no licence"),
        ("ref_syntax:f", "importing ref_syntax failed: SyntaxError"),
        ("ref_user:LIMIT", "is a int: it must name a function or a class"),
    ],
)
def test_each_mistake_gives_one_sentence(modules: Path, reference: str, sentence: str):
    with pytest.raises(UserError) as caught:
        resolve_callable(reference, "space.name")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_options_are_compared_with_the_signature():
    def make(depth: int, *, width: int = 3) -> None: ...

    check_arguments("space 'm:make'", make, ["depth", "resolutions_px"], also=["resolutions_px"])
    with pytest.raises(UserError, match="unknown option of space 'm:make': 'widht': did you mean 'width'"):
        check_arguments("space 'm:make'", make, ["depth", "widht"])
    with pytest.raises(UserError, match="space 'm:make' needs the option depth"):
        check_arguments("space 'm:make'", make, ["width"])
    check_arguments("any", lambda **options: None, ["whatever"])
