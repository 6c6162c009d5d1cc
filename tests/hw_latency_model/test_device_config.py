"""DEVICE.yaml: what is committed loads, and each mistake is told with its line and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw_latency_model.board.device_config import is_device_file, load_device
from search_spaces._common.errors import UserError

ROOT = Path(__file__).parents[2]

SSH = """
device: {name: jetson-nano, precision: fp16, power_profile: 5w}
transport: ssh
ssh:
  host: nano.local
  port: 2222
calibration:
  output_dir: out
  store: measured.sqlite
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "device.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "devices").glob("*.yaml")), ids=lambda path: path.name)
def test_every_committed_device_loads_and_is_told_from_a_study(path: Path) -> None:
    config = load_device(path)
    assert config.calibration.output_dir.is_relative_to(ROOT / "runs")
    assert is_device_file(path)


def test_studies_are_not_devices() -> None:
    assert not any(is_device_file(path) for path in (ROOT / "configs").glob("*.yaml"))


def test_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    config = load_device(written(tmp_path, SSH))
    assert config.calibration.output_dir == tmp_path / "out"
    assert config.store_location == str(tmp_path / "measured.sqlite")
    assert config.model_path == tmp_path / "out" / "latency_model.json"
    assert (config.device.runtime, config.device.profile_name) == ("tensorrt", "jetson-nano")


def test_a_database_url_stays_one(tmp_path: Path) -> None:
    url = "postgresql+psycopg2://me@host/db"
    assert load_device(written(tmp_path, SSH.replace("measured.sqlite", url))).store_location == url


def test_the_environment_fills_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANO_HOST", "10.0.0.9")
    config = load_device(written(tmp_path, SSH.replace("nano.local", "${NANO_HOST}")))
    assert config.ssh is not None and config.ssh.host == "10.0.0.9"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("port: 2222", "prot: 2222", r"line 6: ssh\.prot is not a known key; did you mean port\?"),
        ("transport: ssh\n", "transprot: ssh\n", r"line 3: transprot is not a known key; did you mean transport\?"),
        ("transport: ssh", "transport: telnet", r"line 3: transport: .*'ssh', 'local' or 'offline'.*'telnet'"),
        ("port: 2222", "port: 99999", r"line 6: ssh\.port.*99999"),
        ("host: nano.local", "host: -oProxyCommand=x", r"line 5: ssh\.host"),
        ("precision: fp16", "precision: int4", r"device\.precision.*'int4'"),
        (
            "name: jetson-nano",
            "name: my-board",
            r"no export rules named 'my-board'.*set device\.profile to one of .*jetson-nano",
        ),
        ("transport: ssh", "transport: local", r"section ssh is for transport ssh, not for local"),
        (
            "  port: 2222",
            "  identity_file: no_such_key",
            r"ssh\.identity_file names .*no_such_key, which is not there.*ssh-keygen",
        ),
        ("  output_dir: out", "  hours: 1", r"calibration\.output_dir is missing; add it"),
        ("  output_dir: out", "  output_dir: out\n  hours: 0", r"calibration\.hours.*greater than 0"),
    ],
)
def test_each_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SSH
    with pytest.raises(UserError, match=message):
        load_device(written(tmp_path, SSH.replace(old, new)))


def test_ssh_without_a_host_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"transport ssh needs the section ssh: set ssh\.host"):
        load_device(written(tmp_path, "device: {name: jetson-nano}\ntransport: ssh\ncalibration: {output_dir: out}\n"))


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the device file .*No such file"):
        load_device(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="must hold the sections device, transport, calibration"):
        load_device(written(tmp_path, "- a list"))
