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
        (
            "host: nano.local",
            "host: -oProxyCommand=x",
            r"line 5: ssh\.host: it must be the board's name or address alone",
        ),
        (
            "power_profile: 5w",
            "power_profile: 15w",
            r"line 2: device: a Jetson Nano has no power mode '15w': .*maxn or 5w",
        ),
        ("power_profile: 5w", "power_profile: 1", r"line 2: device\.power_profile: give the name of a power mode"),
        ("port: 2222", "user: nano@host", r"line 6: ssh\.user"),
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


@pytest.mark.parametrize(
    ("host", "advice"),
    [
        ("ssh://nano@10.0.0.9:2200/srv", "`host: 10.0.0.9`, `user: nano`, `port: 2200`"),
        ("ssh://nano.local", "`host: nano.local`"),
        ("http://10.0.0.9/", "`host: 10.0.0.9`"),
        ("nano@10.0.0.9", "`host: 10.0.0.9`, `user: nano`"),
        ("10.0.0.9:2200", "`host: 10.0.0.9`, `port: 2200`"),
        ("nano.local:/srv/nano", "`host: nano.local`"),
        ("nano@nano.local:22", "`host: nano.local`, `user: nano`, `port: 22`"),
        ("'[fe80::1%eth0]:22'", "`host: fe80::1%eth0`, `port: 22`"),
        ("'[::1]'", "`host: ::1`"),
        ("ssh nano@10.0.0.9", "`host: 10.0.0.9`, `user: nano`"),
        ("nano 10.0.0.9", "`host: 192.168.0.7` or `host: nano.local`"),
        ("'@'", "`host: 192.168.0.7` or `host: nano.local`"),
        ("'  '", "`host: 192.168.0.7` or `host: nano.local`"),
    ],
)
def test_a_host_with_more_than_its_name_is_refused_with_what_to_write(tmp_path: Path, host: str, advice: str) -> None:
    with pytest.raises(UserError) as refused:
        load_device(written(tmp_path, SSH.replace("nano.local", host)))
    assert "line 5: ssh.host: it must be the board's name or address alone" in str(refused.value)
    assert f"write {'such as ' if 'or `host' in advice else ''}{advice}" in str(refused.value)


@pytest.mark.parametrize(
    "host", ["ssh://nano:s3cret@10.0.0.9", "nano:s3cret@10.0.0.9:22", "ssh://nano:s3cr@et/@10.0.0.9"]
)
def test_a_password_in_the_host_is_not_repeated(tmp_path: Path, host: str) -> None:
    with pytest.raises(UserError, match=r"no password: .*ssh-copy-id") as refused:
        load_device(written(tmp_path, SSH.replace("nano.local", host)))
    assert "s3cr" not in str(refused.value)


@pytest.mark.parametrize("host", ["nano", "nano.local", "10.0.0.9", "::1", "fe80::1%eth0", "2001:db8::7", "my_board-2"])
def test_names_and_addresses_are_hosts(tmp_path: Path, host: str) -> None:
    config = load_device(written(tmp_path, SSH.replace("nano.local", f"'{host}'")))
    assert config.ssh is not None and config.ssh.host == host


@pytest.mark.parametrize(
    ("text", "mode"), [("MAXN", "maxn"), ("MaxN", "maxn"), ("5W", "5w"), ("maxn", "maxn"), ("null", None)]
)
def test_a_power_mode_in_any_case(tmp_path: Path, text: str, mode: str | None) -> None:
    assert load_device(written(tmp_path, SSH.replace("5w", text))).device.power_profile == mode


def test_another_board_has_modes_of_its_own(tmp_path: Path) -> None:
    text = SSH.replace("name: jetson-nano", "name: my-orin, profile: jetson-nano").replace("5w", "MODE_30W_ALL")
    assert load_device(written(tmp_path, text)).device.power_profile == "mode_30w_all"
