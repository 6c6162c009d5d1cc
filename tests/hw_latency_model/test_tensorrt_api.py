"""The stand-in for TensorRT offers, in each version, no name that NVIDIA's Python bindings of that version lack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_board.tree import HERE, FakeBoard

API: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())
# Names that every object of Python has, or that the bindings define outside the class in question.
_COMMON = {"name", "value", "from_bytes", "to_bytes", "as_integer_ratio", "is_integer"}
_LIST = """
import json, sys, tensorrt
found = {}
for name in sys.argv[1:]:
    kind = getattr(tensorrt, name, None)
    if kind is not None:
        members = getattr(kind, "__members__", None)
        listed = list(members) if members is not None else [item for item in dir(kind) if not item.startswith("_")]
        found[name] = listed + list(getattr(kind, "_settable", ()))
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("version", "bindings"),
    [
        ("7.1.3", "7.2"),
        ("8.0.1.6", "8.0"),
        ("8.2.1.9", "8.2"),
        ("8.4.1.5", "8.4"),
        ("8.5.2", "8.5"),
        ("8.6.2", "8.6"),
        ("10.3.0", "10.3"),
        ("11.0.0", "11.0"),
    ],
)
def test_the_stand_in_has_only_names_of_its_version(board: FakeBoard, version: str, bindings: str) -> None:
    table = API[bindings]
    names = sorted({name for classes in API.values() for name in classes})
    done = subprocess.run(
        [sys.executable, "-c", _LIST, *names],
        env={"FAKE_TRT_VERSION": version, "FAKE_BOARD_ROOT": str(board.root), "PYTHONPATH": str(HERE / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for kind, offered in json.loads(done.stdout).items():
        assert kind in table, f"TensorRT {version} has no {kind}"
        assert not set(offered) - set(table[kind].split()) - _COMMON, f"{kind} of TensorRT {version}"
