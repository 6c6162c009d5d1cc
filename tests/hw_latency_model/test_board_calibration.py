"""The whole path to a board: the real agent under a real Python 3.6 behind a real sshd, on a simulated Nano with a stand-in for
TensorRT 8.2; connections are cut, the agent is killed, the disk fills up, lines are damaged. And this machine, and a stick."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_board.python36 import need_python36
from fake_board.tree import FakeBoard, make_board
from loopback_sshd import LoopbackSshd

from hw_latency_model import LatencyModel, MeasurementStore
from hw_latency_model.agent.results import read_results
from hw_latency_model.board.calibration import BoardCalibrationReport, calibrate_board
from hw_latency_model.board.device_config import DeviceConfig, load_device
from search_spaces._common.errors import UserError

SPACE = {
    "families": ["resnet10t", "lcnet"],
    "decoders": ["fpn"],
    "widths": [0.25],
    "resolutions_px": [[64, 64], [96, 96]],
    "prune_ratios": [0.0, 0.5],
}
PROTOCOL = {
    "warmup_s": 0.02,
    "min_runs": 10,
    "max_runs": 30,
    "max_s": 0.5,
    "rounds": 3,
    "reference_runs": 3,
    "confidence_rel": 0.02,
    "max_repeats": 0,
    "energy_s": 0.2,
    "cool_down_s": 0.1,
}
STAND_IN = Path(__file__).parent / "fake_board" / "site" / "tensorrt" / "__init__.py"
# The stand-in reads a network's time from a text; real networks take it from their size.
_TENSORRT = """
import json
__file__ = {stand_in!r}
exec(compile(open(__file__).read(), __file__, "exec"), globals())
_parse_text = OnnxParser.parse
def _parse(self, content):
    content = bytes(content)
    text = json.dumps({{"ms": 0.5 + len(content) / 1e6, "build_s": 0.1}})
    return _parse_text(self, (text + "#" + hashlib.sha256(content).hexdigest()).encode())
OnnxParser.parse = _parse
"""


class Board:
    """A simulated Nano whose Python 3.6 finds the stand-in for TensorRT."""

    def __init__(self, folder: Path) -> None:
        python = need_python36()
        self.fake: FakeBoard = make_board(folder / "root", python)
        site = folder / "site" / "tensorrt"
        site.mkdir(parents=True)
        (site / "__init__.py").write_text(_TENSORRT.format(stand_in=str(STAND_IN)))
        self.python = folder / "python3"
        self.python.write_text(
            f"#!/bin/sh\nexport FAKE_BOARD_ROOT='{self.fake.root}' FAKE_TRT_VERSION=8.2.1.8 PYTHONPATH='{site.parent}'\n"
            f"exec {python} \"$@\" --root '{self.fake.root}'\n"
        )
        self.python.chmod(0o755)
        self.disk = folder / "disk"

    @property
    def results(self) -> Path:
        (found,) = self.disk.glob("*/results.jsonl")
        return found

    def measured(self) -> list[str]:
        records, _ = read_results(self.results)
        return [record["subject"] for record in records if record["type"] == "measurement"]

    def agent_pid(self) -> int:
        (pid_file,) = self.disk.glob("*/agent.pid")
        wrapper = int(pid_file.read_text())
        return int(Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text().split()[0])


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")


def device_file(folder: Path, board: Board, sshd: LoopbackSshd | None, **calibration: Any) -> DeviceConfig:
    values: dict[str, Any] = {
        "device": {"name": "my-nano", "profile": "jetson-nano", "precision": "fp16", "power_profile": "maxn"},
        "transport": "offline" if sshd is None else "ssh",
        "board": {"dir": str(board.disk), "python": str(board.python)},
        "calibration": {"hours": 1, "num_classes": 4, "output_dir": "out", **calibration},
        "space": SPACE,
        "protocol": PROTOCOL,
    }
    if sshd is not None:
        values["ssh"] = {key: str(value) for key, value in sshd.section.model_dump().items() if key != "port"}
        values["ssh"]["port"] = sshd.port
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "device.yaml").write_text(yaml.safe_dump(values))
    return load_device(folder / "device.yaml")


def at_result(number: int, act: Callable[[], None], lines: list[str]) -> Callable[[str], None]:
    """A taker of progress that acts when the result with this number is told."""

    def say(line: str) -> None:
        lines.append(line)
        if sum(" ms" in text for text in lines) == number and " ms" in line:
            act()

    return say


def stored(config: DeviceConfig) -> int:
    store = MeasurementStore(config.store_location)
    try:
        return sum(group.measurements for group in store.groups(config.device.name))
    finally:
        store.close()


def check_whole(config: DeviceConfig, board: Board, report: BoardCalibrationReport) -> None:
    """Nothing was lost, nothing was measured twice, the clocks are back, and the model speaks for this board."""
    subjects = board.measured()
    assert len(subjects) == len(set(subjects)) == report.measured == stored(config)
    assert "jetson_clocks --restore" in board.fake.calls() and board.fake.frequency("min") == 76800000
    assert report.fingerprint["runtime"] == "tensorrt 8.2.1.8" and report.fingerprint["power_mode"] == "MAXN"
    assert report.fingerprint["clocks_locked"] is True
    model = LatencyModel.load(config.model_path, fingerprint=report.fingerprint)
    assert (model.device, model.precision, model.calibrated) == ("my-nano", "fp16", True)
    assert model.quality.networks == report.networks >= 5


@pytest.mark.slow
def test_over_ssh_through_a_pulled_cable_a_killed_agent_and_garbage(
    board: Board, sshd: LoopbackSshd, tmp_path: Path
) -> None:
    config = device_file(tmp_path, board, sshd, max_networks=6)
    lines: list[str] = []
    told = iter(range(1, 100))

    def trouble(line: str) -> None:
        lines.append(line)
        if " ms" not in line:
            return
        number = next(told)
        if number == 1:
            sshd.stop()
            threading.Timer(1.0, sshd.start).start()
        if number == 2:
            os.kill(board.agent_pid(), signal.SIGKILL)
        if number == 3:
            with board.results.open("ab") as file:
                file.write(b'{"type":"measurement","job_id":"b0001-001","latency_ms_p50":0.001,"crc":1}\n\x00\xff\n')

    report = calibrate_board(config, progress=trouble)
    check_whole(config, board, report)
    assert report.measured >= 6 and report.drops == 1 and report.damaged == 2
    text = "\n".join(lines)
    assert "connection to" in text and "answers again" in text and "starting it again, it goes on where it was" in text
    assert "NVIDIA Jetson Nano" in text and "JetPack 4.6.1" in text
    assert report.why == "enough networks are measured"
    assert "2 damaged lines of results were not believed" in report.summary
    store = MeasurementStore(config.store_location)
    (group,) = store.groups("my-nano")
    first = store.all("my-nano", group.fingerprint)[0]
    store.close()
    assert (
        first.energy_mj is not None
        and first.power_mw is not None
        and first.samples_ms
        and first.kernels
        and first.build_s
    )


@pytest.mark.slow
def test_ctrl_c_stops_the_board_gives_the_clocks_back_and_the_next_call_goes_on(
    board: Board, sshd: LoopbackSshd, tmp_path: Path
) -> None:
    config = device_file(tmp_path, board, sshd, max_networks=5, chains=False)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate_board(config, progress=at_result(2, interrupt, []))
    assert board.fake.frequency("min") == 76800000 and board.fake.calls()[-1] != "jetson_clocks "
    kept = board.measured()
    assert 2 <= len(kept) == stored(config)
    report = calibrate_board(config)
    check_whole(config, board, report)
    assert board.measured()[: len(kept)] == kept


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk that can be filled needs root, which CI has")
def test_a_disk_that_fills_up_meanwhile_ends_with_a_sentence_and_loses_nothing(
    board: Board, sshd: LoopbackSshd, tmp_path: Path
) -> None:
    board.disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(board.disk)], check=True)
    try:
        config = device_file(tmp_path, board, sshd, max_networks=5, chains=False)
        filler = board.disk / "filler"

        def fill() -> None:
            filler.write_bytes(bytes(shutil.disk_usage(board.disk).free - 8192))

        with pytest.raises(UserError, match=r"the disk of .* is full.*nothing that was measured is lost"):
            calibrate_board(config, progress=at_result(1, fill, []))
        kept = board.measured()
        assert kept and stored(config) == len(kept)
        filler.unlink()
        report = calibrate_board(config)
        check_whole(config, board, report)
        assert board.measured()[: len(kept)] == kept
    finally:
        subprocess.run(["umount", "-l", str(board.disk)], check=True)


def test_what_stands_in_the_way_is_told_before_anything_is_measured(
    board: Board, sshd: LoopbackSshd, tmp_path: Path
) -> None:
    config = device_file(tmp_path, board, sshd)
    assert config.ssh is not None
    elsewhere = config.model_copy(update={"ssh": config.ssh.model_copy(update={"host": "no-such-board.invalid"})})
    with pytest.raises(
        UserError, match=r"no-such-board\.invalid does not answer .*resolve.*Check that the board is on"
    ):
        calibrate_board(elsewhere)
    bare = config.model_copy(update={"board": config.board.model_copy(update={"python": "python3.99"})})
    with pytest.raises(UserError, match=r"there is no python3\.99 on"):
        calibrate_board(bare)
    with pytest.raises(UserError, match="needs hours above 0"):
        calibrate_board(config, hours=0)


@pytest.mark.slow
def test_on_a_stick_and_back_and_only_what_was_sent_is_believed(board: Board, tmp_path: Path) -> None:
    config = device_file(tmp_path, board, None, max_networks=6, chains=False)
    ordered = calibrate_board(config, hours=0.02)
    assert ordered.kit == config.calibration.output_dir / "kit-0001" and ordered.model_path is None
    assert "--results PATH" in ordered.summary
    assert calibrate_board(config, hours=0.02).kit == ordered.kit, "the kit that waits is not replaced"
    carried = tmp_path / "stick"
    shutil.copytree(ordered.kit, carried)
    swapped = sorted(carried.glob("onnx/*.onnx"))[0]
    swapped.write_bytes(swapped.read_bytes() + b"\x00")
    subprocess.run(
        ["sh", str(carried / "run.sh")],
        env={**os.environ, "PYTHON": str(board.python)},
        check=True,
        capture_output=True,
    )
    with (carried / "results.jsonl").open("ab") as file:
        file.write(b'{"type":"measurement","job_id":"b00')
    jobs = len(json.loads((carried / "jobs.json").read_text())["jobs"])
    report = calibrate_board(config, results=carried)
    assert report.measured == jobs - 1 == stored(config) and report.damaged == 1
    assert len(report.failed) == 1 and "sha256 differs" in report.failed[0]
    assert report.model_path is not None and LatencyModel.load(report.model_path).quality.networks == jobs - 1
    assert calibrate_board(config, results=carried / "results.jsonl").fresh == 0
    with pytest.raises(UserError, match=r"there is no results\.jsonl at"):
        calibrate_board(config, results=tmp_path / "empty")


@pytest.mark.slow
def test_this_machine_through_onnx_runtime_by_the_committed_file(repo_root: Path, tmp_path: Path) -> None:
    config = load_device(
        repo_root / "configs" / "devices" / "this-machine.yaml",
        [
            f"calibration.output_dir={tmp_path}",
            "calibration.max_networks=5",
            "protocol.max_s=0.1",
            "protocol.warmup_s=0.05",
        ],
    )
    lines: list[str] = []
    started = time.monotonic()
    report = calibrate_board(config, hours=0.05, progress=lines.append)
    assert report.measured >= 5 and report.networks == report.measured == stored(config)
    assert str(report.fingerprint["runtime"]).startswith("onnxruntime ")
    assert LatencyModel.load(config.model_path).device == "this-machine"
    assert any(line.startswith("batch 1: ") for line in lines)
    assert report.seconds <= time.monotonic() - started
    assert json.loads(json.dumps(report.to_dict()))["measured"] == report.measured
