"""Parts that the golden tests and `make.py` share: where the fixtures lie, the command line in this process, shapes of JSON."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(__file__).resolve().parent / "fixtures"
HELP_COLUMNS = "100"
ROOT_MARK = "<root>"
PLAIN_HELP = sys.version_info < (3, 13)  # newer argparse folds and spells options otherwise

# Every parser of the command line, by its words; the first is `paretoseg` itself.
PARSERS: tuple[tuple[str, ...], ...] = (
    (),
    ("doctor",),
    ("calibrate",),
    ("launch",),
    ("dashboard",),
    ("predict",),
    ("latency-report",),
    ("fit-latency",),
    ("measurements",),
    ("measurements", "list"),
    ("measurements", "export"),
    ("measurements", "import"),
    ("front",),
    ("choose",),
    ("rescore",),
    ("measure",),
    ("build",),
    ("export",),
    ("solution",),
    ("score",),
    ("verify",),
    ("evaluate",),
    ("refit",),
    ("report",),
)

# What the committed YAML files read from the environment, and what the tests set it to; None: not set.
ENVIRONMENT: dict[str, str | None] = {
    "CAMVID": "/golden/camvid",
    "CITYSCAPES": "/golden/cityscapes",
    "LPCVC": "/golden/lpcvc",
    "NANO_HOST": None,
    "NANO_USER": None,
    "PARETOSEG_STORAGE": None,
}


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit status and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.out + self.err
        return json.loads(self.out)


def declared() -> tuple[str, str]:
    """Module and function behind the console script `paretoseg`, as this checkout's pyproject.toml says."""
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["paretoseg"]
    module, _, name = script.partition(":")
    return module, name


def entry_point() -> Any:
    """The function behind the console script."""
    module, name = declared()
    return getattr(import_module(module), name)


def console_script() -> list[str]:
    """Code that the console script of this checkout runs, for a process of its own with ``PYTHONPATH`` set to `ROOT`.

    The script that is installed beside the Python may be that of another checkout.
    """
    module, name = declared()
    code = f"import sys; from {module} import {name}; sys.argv[0] = 'paretoseg'; sys.exit({name}())"
    return [sys.executable, "-c", code]


def paretoseg(*arguments: object) -> Done:
    """Run a command in this process, as the console script would."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = entry_point()([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse ends so, after --help and usage errors
            status = stop.code
    return Done(int(status or 0), out.getvalue(), err.getvalue())


def help_text(words: tuple[str, ...]) -> str:
    """Output of `--help` of a parser, folded at ``HELP_COLUMNS``."""
    with environment(COLUMNS=HELP_COLUMNS):
        done = paretoseg(*words, "--help")
    assert done.status == 0, done.err
    return done.out


def help_file(words: tuple[str, ...]) -> Path:
    return FIXTURES / "help" / ("-".join(("paretoseg", *words)) + ".txt")


@contextlib.contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Environment variables set, or with None unset, inside the context."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """``folder`` as the current one inside the context."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def scrubbed(value: Any, folder: Path, mark: str = ROOT_MARK) -> Any:
    """JSON values with the path of ``folder`` in every text replaced by a mark."""
    if isinstance(value, str):
        return value.replace(str(folder), mark)
    if isinstance(value, dict):
        return {key: scrubbed(item, folder, mark) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(item, folder, mark) for item in value]
    return value


def shape(value: Any) -> Any:
    """Keys and kinds of JSON values: what stays when the numbers differ from machine to machine. A list shows its first entry."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    return "text" if isinstance(value, str) else "number"


def stored(name: str) -> Any:
    """A JSON fixture."""
    return json.loads((FIXTURES / name).read_text())


def store(name: str, value: Any) -> None:
    """Write a JSON fixture; for `make.py`."""
    path = FIXTURES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def copied(name: str, target: Path) -> Path:
    """A folder of fixtures, copied or unpacked to where a command may write."""
    if (FIXTURES / f"{name}.zip").is_file():
        shutil.unpack_archive(FIXTURES / f"{name}.zip", target)
        return target
    return Path(shutil.copytree(FIXTURES / name, target, dirs_exist_ok=True))


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def differences(found: Any, expected: Any, *, rel: float = 0.0, where: str = "") -> list[str]:
    """Differences of JSON values from the stored ones, numbers by more than ``rel``; empty where they are the same."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = [f"{where}: {key!r} is {'gone' if key in expected else 'new'}" for key in found.keys() ^ expected.keys()]
        both = [key for key in expected if key in found]
        return keys + [
            text for key in both for text in differences(found[key], expected[key], rel=rel, where=f"{where}.{key}")
        ]
    if isinstance(expected, list) and isinstance(found, list | tuple) and len(expected) == len(found):
        pairs = enumerate(zip(found, expected, strict=True))
        return [text for i, (a, b) in pairs for text in differences(a, b, rel=rel, where=f"{where}[{i}]")]
    if isinstance(expected, float) and isinstance(found, int | float) and math.isclose(found, expected, rel_tol=rel):
        return []
    return [] if found == expected and type(found) is type(expected) else [f"{where}: {found!r}, was {expected!r}"]
