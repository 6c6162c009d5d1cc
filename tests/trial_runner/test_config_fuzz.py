"""Any value in any key of a study's or a board's YAML: read as written, or refused in a sentence. Never a traceback, never a hang."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from pydantic import AliasChoices, BaseModel

from hw_latency_model.board.device_config import DeviceConfig, load_device
from search_spaces import open_space
from search_spaces._common.errors import UserError
from trial_runner.config.load import dump_config, load_config, public_values, study_of
from trial_runner.config.study import StudyConfig

PROFILE = settings(
    max_examples=120, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
STUDY: dict[str, Any] = {
    "study": {"name": "mine", "storage": "sqlite:///study.db", "output_dir": "out"},
    "data": {"kind": "synthetic"},
    "device": {"latency_model": "model.json", "latency_budget_ms": 10},
}
BOARD: dict[str, Any] = {
    "device": {"name": "jetson-nano"},
    "transport": "ssh",
    "ssh": {"host": "nano"},
    "space": {"families": ["lcnet"]},
}
_LONG = "9" * 400


def keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a YAML file, as the path of names that it is written under."""
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        for written in alias.choices if isinstance(alias, AliasChoices) else (name,):
            yield (*above, str(written))
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from keys(kind, (*above, name))


STUDY_KEYS, BOARD_KEYS = list(keys(StudyConfig)), list(keys(DeviceConfig))
HOSTILE = [
    *(
        None,
        True,
        False,
        "",
        " ",
        "~",
        "~nosuch",
        "~nosuch/x",
        "a\0b",
        "\ud800",
        "x" * 5000,
        "../..",
        "/dev/zero",
        "-1",
        "{}",
    ),
    *(0, -1, 1, 7, 255, 65536, 2**31, 2**32, 2**63, 2**64, int(_LONG), -int(_LONG)),
    *(0.0, -0.5, 0.5, 1e-300, 1e30, 1e308, float("inf"), float("-inf"), float("nan")),
    *([], {}, [[]], [[[]]], {"": 1}, {"low": 1, "high": 0}, {"low": 1e-300, "high": 1e308}, [1, "a"], {"a": {"b": []}}),
    *(
        "module:name",
        "os:system",
        "none",
        "hub",
        "ray://a:b@c",
        "sqlite://",
        "postgresql://me:s3cret@h:p/d",
        "optunahub:x",
    ),
    *(
        "fp16",
        "int8",
        "cuda",
        "folder",
        "camvid",
        "tpe",
        "val_miou",
        "module:",
        ":name",
        "${HOME}",
        "${NOT_SET}",
        "*x",
        "&x",
    ),
]
TEXTS = st.text(st.characters(), max_size=30)
VALUES = st.one_of(
    st.sampled_from(HOSTILE),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=3)),
        max_leaves=6,
    ),
)


def changes(known: list[tuple[str, ...]]) -> st.SearchStrategy[list[tuple[tuple[str, ...], Any]]]:
    return st.lists(st.tuples(st.sampled_from(known), VALUES), min_size=1, max_size=3)


def with_changes(base: dict[str, Any], given_changes: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    values = json.loads(json.dumps(base))
    for path, value in given_changes:
        place = values
        for section in path[:-1]:
            if not isinstance(place.get(section), dict):
                place[section] = {}
            place = place[section]
        place[path[-1]] = value
    return values


def as_yaml(value: Any) -> str:
    """Flow YAML of any value: JSON, with the infinities of YAML."""
    if isinstance(value, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(str(value), repr(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_yaml(key)}: {as_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    return json.dumps(value)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "study.yaml"


@pytest.fixture(autouse=True)
def _unchanged_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study with references puts its folder on ``sys.path``."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def refused(error: UserError) -> None:
    said = str(error)
    assert said and len(said) < 6000 and "s3cret" not in said and "Traceback" not in said
    said.encode()


def read_study(path: Path, text: str, overrides: tuple[str, ...] = ()) -> None:
    """Read a study; one that is accepted can be stored as JSON, and its resolved YAML gives the same study."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config = load_config(path, overrides)
    except UserError as error:
        refused(error)
        return
    json.dumps(public_values(config), allow_nan=False).encode()
    dumped = dump_config(config)
    path.write_text(dumped)
    assert dump_config(load_config(path)) == dumped
    try:
        if not config.space.custom:
            open_space(config.space)
    except UserError as error:
        refused(error)


@pytest.mark.parametrize("key", STUDY_KEYS, ids=".".join)
def test_every_hostile_value_in_every_key_of_a_study(path: Path, key: tuple[str, ...]) -> None:
    for value in HOSTILE:
        values = with_changes(STUDY, [(key, value)])
        try:
            config = study_of(values, path.parent)
        except UserError as error:
            refused(error)
        else:
            json.dumps(public_values(config), allow_nan=False).encode()


@PROFILE
@given(chosen=changes(STUDY_KEYS))
def test_any_values_in_any_keys_of_a_study(path: Path, chosen: list[tuple[tuple[str, ...], Any]]) -> None:
    read_study(path, as_yaml(with_changes(STUDY, chosen)))


@PROFILE
@given(key=st.sampled_from(STUDY_KEYS), text=st.one_of(TEXTS, VALUES.map(as_yaml)))
def test_any_override(path: Path, key: tuple[str, ...], text: str) -> None:
    read_study(path, as_yaml(STUDY), (f"{'.'.join(key)}={text}",))


@PROFILE
@given(chosen=changes(BOARD_KEYS))
def test_any_values_in_any_keys_of_a_board(path: Path, chosen: list[tuple[tuple[str, ...], Any]]) -> None:
    path.write_bytes(as_yaml(with_changes(BOARD, chosen)).encode("utf-8", "surrogatepass"))
    try:
        json.dumps(load_device(path).model_dump(mode="json"), allow_nan=False).encode()
    except UserError as error:
        refused(error)


@PROFILE
@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
)
def test_any_bytes_as_a_study(path: Path, content: bytes) -> None:
    for whole in (content, as_yaml(STUDY).encode() + b"\n" + content):
        path.write_bytes(whole)
        try:
            load_config(path)
        except UserError as error:
            refused(error)


def test_a_pipe_is_refused_and_a_shells_substitution_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "study.yaml")
    for read in (load_config, load_device):
        with pytest.raises(UserError, match="is a pipe, which may never end"):
            read(tmp_path / "study.yaml")
    reading, writing = os.pipe()
    os.write(writing, as_yaml(STUDY).encode())
    os.close(writing)
    assert load_config(f"/dev/fd/{reading}").study.name == "mine"
    os.close(reading)


BILLIONS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    "text",
    [
        BILLIONS,
        BILLIONS.replace("[", "{k: ").replace("]", "}").replace(", ", ", k: "),
        "study: &s {name: x, more: *s}\n",
        "study: &s [*s]\n",
        "[" * 3000,
        "a: {" * 3000,
        "x" * 2_000_000,
        "a: " + "9" * 5000 + "\n",
        "\0",
    ],
    ids=["lists", "mappings", "own mapping", "own list", "deep list", "deep mapping", "long", "digits", "NUL"],
)
def test_a_file_that_would_fill_the_memory_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    for read in (load_config, load_device):
        with pytest.raises(UserError) as caught:
            read(path)
        refused(caught.value)
    with pytest.raises(UserError, match=r"^/dev/zero|the study file /dev/zero"):
        load_config("/dev/zero")
    path.write_text(as_yaml(STUDY))
    with pytest.raises(UserError):
        load_config(path, [f"data.options={text}"])
