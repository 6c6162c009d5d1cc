"""A study's YAML as people write it: values are read as written, or refused in a sentence that holds no secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hw_latency_model.board.device_config import load_device
from search_spaces._common.errors import UserError
from trial_runner.config.load import ConfigError, dump_config, load_config

SECRET = "s3cr:et"
MINIMAL = """\
study: {name: mine, storage: 'sqlite:///study.db', output_dir: out}
data: {kind: synthetic}
device: {latency_model: model.json, latency_budget_ms: 10}
"""
Write = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    def write(more: str = "", encoding: str = "utf-8", whole: str | None = None) -> Path:
        path = tmp_path / "study.yaml"
        path.write_bytes((MINIMAL + more if whole is None else whole).encode(encoding))
        return path

    return write


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize("value", ["/data/set #2", "a: b", "it's", '"', "{x}", "- 1", "*x", "!y", "%", "@"])
def test_a_variable_may_hold_any_character(written: Write, monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("DATA", value)
    for quoted in ("${DATA}/x", "'${DATA}/x'", '"${DATA}/x"'):
        study = written(whole=MINIMAL.replace("kind: synthetic", f"kind: folder, root: {quoted}"))
        assert load_config(study).data.root == (study.parent / f"{value}/x").resolve()


def test_a_variable_may_be_a_number_and_its_default_any_text(written: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRIALS", "7")
    config = load_config(written("search: {trials: ${TRIALS}, startup_trials: ${NOT_SET:-3}}\n"))
    assert (config.search.trials, config.search.startup_trials) == (7, 3)
    study = written(whole=MINIMAL.replace("output_dir: out", "output_dir: ${NOT_SET:-a #1: b, c}"))
    assert load_config(study).study.output_dir.name == "a #1: b, c"


def test_a_variable_in_a_comment_is_none(written: Write):
    assert load_config(written("# ${NOT_SET}\nsearch: {trials: 3} # ${NOT_SET}\n")).search.trials == 3
    assert "line 4: the environment variable NOT_SET is not set" in refusal(written("search: {trials: ${NOT_SET}}\n"))


def test_the_value_of_a_variable_is_in_no_message(written: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PASSWORD", SECRET)
    for text in (
        "search: {trials: ${PASSWORD}}\n",
        "space: {widths: ['${PASSWORD}']}\n",
        "objectives: ['${PASSWORD}', val_miou]\n",
    ):
        said = refusal(written(text))
        assert SECRET not in said
    assert "search.trials" in refusal(written("search: {trials: ${PASSWORD}}\n"))
    assert "found the value of ${PASSWORD}" in refusal(written("search: {trials: ${PASSWORD}}\n"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            "search: {trials: 3}\ntraining: {epochs: 2}\nsearch: {trials: 4}\n",
            "line 6: search is given twice, in line 4 and in line 6",
        ),
        (
            "search:\n  trials: 3\n  sampler: tpe\n  trials: 4\n",
            "line 7: trials is given twice, in line 5 and in line 7",
        ),
        ("search: {early_stopping: {min_trials: 1, min_trials: 2}}\n", "min_trials is given twice"),
    ],
)
def test_a_repeated_key_is_refused_with_both_lines(written: Write, more: str, said: str):
    assert said in refusal(written(more))


@pytest.mark.parametrize(("text", "read"), [("0100", 100), ("1e1", 10), ("0x10", 16), ("'5'", 5)])
def test_numbers_are_read_as_written(written: Write, text: str, read: int):
    assert load_config(written(f"search: {{trials: {text}}}\n")).search.trials == read


@pytest.mark.parametrize("text", ["yes", "true", "1:30", "[3]", ".nan", "2024-01-01"])
def test_what_is_no_number_is_none(written: Write, text: str):
    assert "search.trials" in refusal(written(f"search: {{trials: {text}}}\n"))
    assert "space.widths" in refusal(written(f"space: {{widths: [{text}]}}\n"))


@pytest.mark.parametrize("name", ["no", "yes", "0100", "2024-01-01", "off"])
def test_text_is_read_as_written_and_survives_the_resolved_config(written: Write, name: str):
    config = load_config(written(whole=MINIMAL.replace("name: mine", f"name: {name}")))
    assert config.study.name == name
    assert load_config(written(whole=dump_config(config))) == config
    quoted = load_config(written(whole=MINIMAL.replace("name: mine", "name: '1e5'")))
    assert load_config(written(whole=dump_config(quoted))).study.name == "1e5"
    assert "found 2024: put it into quotes" in refusal(written(whole=MINIMAL.replace("name: mine", "name: 2024")))


def test_yes_and_no_are_answers_where_one_is_asked_for(written: Write):
    config = load_config(written("search: {start_with_default: yes}\ntraining: {compile: off, mixed_precision: on}\n"))
    assert (config.search.start_with_default, config.training.compile, config.training.mixed_precision) == (
        True,
        False,
        True,
    )


@pytest.mark.parametrize(
    ("choices", "read"),
    [
        ("loss.dice: [1e-1, '2e-1', 0100]", [0.1, 0.2, 100.0]),
        ("ema_decay: ['9e-1']", [0.9]),
        ("mixed_precision: [yes, no]", [True, False]),
        ("loss.dice: [1, 2]", [1, 2]),
        ("optimizer: [sgd, adamw]", ["sgd", "adamw"]),
    ],
)
def test_searched_training_values_are_of_their_keys_type(written: Write, choices: str, read: list[object]):
    (found,) = (load_config(written(f"space: {{training: {{{choices}}}}}\n")).space.training or {}).values()
    assert found == read and [type(value) for value in found] == [type(value) for value in read]


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ("loss.dice: [true]", "it takes no true"),
        ("loss.dice: [0.1, '1e-1']", "space.training.loss.dice lists 0.1 twice"),
        ("loss.dice: [much]", "space.training.loss.dice"),
        ("loss.dice: 3", "space.training.loss.dice"),
    ],
)
def test_searched_training_values_of_another_type_are_refused(written: Write, choices: str, said: str):
    assert said in refusal(written(f"space: {{training: {{{choices}}}}}\n"))


def test_an_empty_section_is_one_of_defaults(written: Write):
    config = load_config(written("training:\nsearch:\n  early_stopping:\nspace:\nobjectives:\nrobustness: ~\n"))
    assert config == load_config(written())
    assert load_config(written("training:\n"), ["training.epochs=3"]).training.epochs == 3
    assert "search.trials: it has no value: give one, or leave the line out" in refusal(written("search:\n  trials:\n"))
    assert "study.name is missing" in refusal(written(whole="study:\n" + MINIMAL.partition("\n")[2]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[96, 128]", "pairs [height, width] in pixels: write [[96, 128]]"),
        ("['96x128']", "pairs [height, width] in pixels"),
        ("[[96, 128, 3]]", "space.resolutions_px.0"),
        ("96", "put it into brackets"),
    ],
)
def test_a_flat_resolution_is_answered_with_the_right_form(written: Write, given: str, said: str):
    assert said in refusal(written(f"space: {{resolutions_px: {given}}}\n"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("search.trials=[1", "--set search.trials: its value is not valid YAML"),
        ("study.storage=postgresql://me:s3cr: et@h/db", "study.storage"),
        ("search={trials: 1, trials: 2}", "trials is given twice"),
        ("search..trials=1", "--set takes section.key=value"),
        ("=3", "--set takes section.key=value"),
        ("search.trials", "--set takes section.key=value"),
        ("study.name.x=1", "--set study.name.x: study.name is a value"),
        ("postgresql://me:s3cr:et@h/db", "--set takes section.key=value"),
        ("search.trials=a: b: c", "--set search.trials"),
    ],
)
def test_a_broken_override_is_refused_without_its_value(written: Write, override: str, said: str):
    message = refusal(written(), override)
    assert said in message and "s3cr" not in message and "et@h" not in message


def test_an_override_reaches_entries_of_lists(written: Write):
    config = load_config(written("objectives: [val_miou, latency_ms, {name: macs}]\n"), ["objectives.2.budget=1e9"])
    assert config.objectives[2].budget == 1e9


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_content(written: Write, encoding: str):
    assert load_config(written(encoding=encoding)).study.name == "mine"


@pytest.mark.parametrize(
    "storage",
    [
        "postgresql://me:s3cr: et@h/db",
        "*s3cret",
        "!s3cret x",
        "@s3cret",
        "'s3cret\n",
        "{s3cret: [}",
        "&s3cret",
        "a: s3cret: b",
    ],
)
def test_a_syntax_error_names_its_line_and_quotes_nothing(written: Write, storage: str):
    said = refusal(written(whole=f"study:\n  name: mine\n  storage: {storage}\n  output_dir: out\n"))
    assert "s3cr" not in said and "study.yaml" in said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgres://me:s3cret@h/db", "write postgresql:// instead"),
        ("foo://me:s3cret@h/db", "foo://, which is not a database URL"),
        ("postgresql://me:s3/cret@h:port/db", "whose port is no number"),
        ("sqlite://study.db", "Write three: sqlite:///study.db"),
        ("s3cret", "study.storage is not a database URL"),
        ("sqlite:///~no-such-user/study.db", "home folder is not known"),
    ],
)
def test_a_wrong_storage_is_answered_by_its_cause_and_never_quoted(written: Write, url: str, said: str):
    message = refusal(written(), f"study.storage='{url}'")
    assert said in message and "s3" not in message.replace("sqlite", "")


def test_the_home_folder_may_be_named_in_a_storage(written: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        load_config(written(), ["study.storage='sqlite:///~/a/study.db'"]).study.storage
        == f"sqlite:///{tmp_path}/a/study.db"
    )


def test_a_device_file_is_read_by_the_same_rules(tmp_path: Path):
    path = tmp_path / "device.yaml"
    path.write_text("device: {profile: jetson-nano}\ndevice: {profile: jetson-nano}\ntransport: local\n")
    with pytest.raises(ConfigError, match="line 2: device is given twice, in line 1 and in line 2"):
        load_device(path)
