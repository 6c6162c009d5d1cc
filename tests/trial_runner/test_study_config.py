from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from trial_runner.config.load import ConfigError, dump_config, load_config

MINIMAL = """\
study:
  name: mine
  storage: sqlite:///study.db
  output_dir: out
data:
  kind: synthetic
device:
  latency_model: model.json
  latency_budget_ms: 10
"""


@pytest.fixture
def study_file(tmp_path: Path):
    def write(text: str = MINIMAL) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_committed_study_loads_and_survives_a_round_trip(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("CAMVID", "CITYSCAPES", "LPCVC"):
        monkeypatch.setenv(name, "/data")
    config = load_config(path)
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config))
    assert load_config(again) == config


def test_the_studies_that_were_promised_are_there(repo_root: Path):
    names = {path.name for path in (repo_root / "configs").glob("*.yaml")}
    assert names >= {"demo.yaml", "camvid-cpu.yaml", "camvid-gpu.yaml", "cityscapes-nano.yaml", "lpcvc-nano.yaml"}


def test_an_unknown_key_is_refused_with_the_nearest_one_and_its_line(study_file):
    path = study_file(MINIMAL + "training:\n  epochs: 5\n  batchsize: 4\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert f"{path}, line 12: training.batchsize is not a known key; did you mean batch_size?" in str(caught.value)


def test_all_problems_are_named_at_once_with_their_lines(study_file):
    path = study_file(MINIMAL.replace("latency_budget_ms: 10", "latency_budget_ms: -1") + "serch: {trials: 3}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "line 9: device.latency_budget_ms" in message and "found -1" in message
    assert "line 10: serch is not a known key; did you mean search?" in message


def test_a_missing_section_is_named(study_file):
    with pytest.raises(ConfigError, match="device is missing"):
        load_config(study_file(MINIMAL.split("device:")[0]))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("{early_stopping: {rungs_time_shares: [0.1]}}", "shares of time_budget_minutes, which is not set"),
        (
            "{time_budget_minutes: 9, early_stopping: {rungs_epochs: [2], rungs_time_shares: [0.1]}}",
            "rungs_epochs .* and rungs_time_shares .* exclude each other",
        ),
        ("{time_budget_minutes: 9, early_stopping: {rungs_time_shares: [1.5]}}", "rungs_time_shares"),
    ],
)
def test_rungs_in_time_need_a_time_budget_and_no_other_rungs(study_file, search: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load_config(study_file(MINIMAL + f"training: {{epochs: 4}}\nsearch: {search}\n"))


def test_a_rung_at_or_after_the_last_epoch_is_refused(study_file):
    text = MINIMAL + "training: {epochs: 4}\nsearch: {early_stopping: {rungs_epochs: [2, 4]}}\n"
    with pytest.raises(ConfigError, match=r"rungs_epochs \[4\] must lie below training.epochs \(4\)"):
        load_config(study_file(text))


def test_a_data_set_on_disk_needs_a_root(study_file):
    with pytest.raises(ConfigError, match=r"set data\.root"):
        load_config(study_file(MINIMAL.replace("kind: synthetic", "kind: camvid")))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "a: [1,\n"])
def test_what_is_no_study_is_refused_in_a_sentence(study_file, text: str):
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        load_config(study_file(text))


def test_a_device_file_is_sent_to_calibrate(repo_root: Path):
    with pytest.raises(ConfigError, match=r"describes a device.*paretoseg calibrate .*jetson-nano\.yaml"):
        load_config(repo_root / "configs" / "devices" / "jetson-nano.yaml")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        load_config(tmp_path / "nowhere.yaml")


def test_relative_paths_are_taken_from_the_folder_of_the_yaml(
    study_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = study_file()
    monkeypatch.chdir("/")
    config = load_config(path)
    assert config.study.storage == f"sqlite:///{tmp_path / 'study.db'}"
    assert config.study.output_dir == tmp_path / "out"
    assert config.device.latency_model == tmp_path / "model.json"


def test_variables_come_from_the_environment_or_their_default(study_file, monkeypatch: pytest.MonkeyPatch):
    path = study_file(MINIMAL.replace("name: mine", "name: ${STUDY_NAME:-plain}"))
    assert load_config(path).study.name == "plain"
    monkeypatch.setenv("STUDY_NAME", "other")
    assert load_config(path).study.name == "other"


def test_a_variable_without_value_is_named_with_its_line(study_file):
    with pytest.raises(ConfigError, match="line 3: the environment variable NOT_SET_HERE is not set"):
        load_config(study_file(MINIMAL.replace("sqlite:///study.db", "${NOT_SET_HERE}")))


def test_overrides_change_single_keys(study_file):
    config = load_config(study_file(), ["search.trials=7", "space.widths=[0.5]", "study.name=other"])
    assert (config.search.trials, config.space.widths, config.study.name) == (7, [0.5], "other")
    with pytest.raises(ConfigError, match="did you mean trials"):
        load_config(study_file(), ["search.trails=7"])
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config(study_file(), ["search.trials"])


def test_a_password_is_not_written_into_the_resolved_config(study_file):
    path = study_file(MINIMAL.replace("sqlite:///study.db", "postgresql+psycopg2://me:s3cret@host/db"))
    config = load_config(path)
    assert "s3cret" in config.study.storage
    text = dump_config(config)
    assert "s3cret" not in text
    assert yaml.safe_load(text)["study"]["storage"] == "postgresql+psycopg2://me@host/db"


def test_a_study_may_offer_precisions_each_with_a_latency_model_in_a_folder_of_its_own(study_file):
    text = MINIMAL.replace("model.json", "runs/cpu/model.json")
    assert load_config(study_file(text)).precisions == ("fp32",)
    path = study_file(text + "space: {precisions: [fp32, int8]}\n")
    config, folder = load_config(path), path.parent / "runs"
    assert config.precisions == ("fp32", "int8")
    assert config.device.model_path("fp32") == folder / "cpu" / "model.json"
    assert config.device.model_path("int8") == folder / "cpu-int8" / "model.json"
    config = load_config(path, ["device.latency_models.int8=quick/model.json"])
    assert config.device.model_path("int8") == path.parent / "quick" / "model.json"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ["device.name=jetson-nano"],
            "space.precisions offers int8, which jetson-nano does not run: offer fp16 or fp32",
        ),
        (["space.precisions=[int8]"], "device.precision is fp32, which space.precisions (int8) does not offer"),
        (["device.latency_models.fp16=a/b.json"], "device.latency_models names fp16"),
        (["device.latency_models.int8=int8.json"], "lie in one folder"),
        (["space.precisions=[fp32, int4]"], "space.precisions.1"),
    ],
)
def test_precisions_that_cannot_be_are_answered_with_what_to_do(study_file, changes, said):
    with pytest.raises(ConfigError) as caught:
        load_config(study_file(MINIMAL + "space: {precisions: [fp32, int8]}\n"), changes)
    assert said in str(caught.value)
