"""`paretoseg build`: engines of a study's front on a board, their parity with torch, and what becomes of it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from referee_python import need_board_python
from test_measure_command import board_file

sys.path.insert(0, str(Path(__file__).parents[1] / "hw_latency_model"))

from loopback_sshd import LoopbackSshd

import trial_runner.front.engines as engines_module
from exports import TrainedNetwork, read_bundle
from exports.bundle.ladder import EngineRun
from objectives.trial_record import read_study
from trial_runner.cli.main import main
from trial_runner.config.load import load_config
from trial_runner.launch import launch
from trial_runner.study.objectives import open_configured


def changed(path: Path, old: str, new: str) -> Path:
    target = path.with_name("changed.yaml")
    target.write_text(path.read_text().replace(old, new))
    return target


def engines(study: Path) -> dict[int, dict]:
    config = load_config(study)
    return {record.number: record.engine for record in read_study(open_configured(config)) if record.engine}


@pytest.mark.slow
def test_a_launch_builds_its_front_and_the_command_what_is_left(
    write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(trials=2, measure=True)
    board = board_file(study)
    lines: list[str] = []
    result = launch(load_config(study, [f"device.board={board.name}"]), lines.append)
    assert any(line.startswith(f"trial {result.front[0].number}: measured ") for line in lines)
    known = engines(study)
    assert set(known) == {record.number for record in result.front}
    for record in result.front:
        step = known[record.number]
        assert step["passed"] and step["images"] == 2 and step["argmax_agreement"] >= 0.9999
        assert step["runtime"].startswith("onnxruntime ") and step["miou"] is not None and step["max_abs_error"] < 1e-3
        assert step["latency_ms"] == record.measured_ms
        manifest = read_bundle(Path(record.bundle or "")).manifest
        (measured,) = manifest["measurements"]
        assert measured["latency_ms_p50"] == record.measured_ms and measured["device"] == "beside"
        assert manifest["ladder"][-1] == step
        assert "engine (beside, onnxruntime" in (Path(record.bundle or "") / "README.md").read_text()
    assert main(["build", str(study), "--board", str(board)]) == 0
    assert "no engine is left to build" in capsys.readouterr().out
    assert main(["measure", str(study), "--board", str(board)]) == 0
    assert "nothing is left to measure" in capsys.readouterr().out
    number = result.front[0].number
    assert main(["build", str(study), "--board", str(board), "--trial", str(number)]) == 0
    again = engines(study)[number]
    assert again["measured_at"] > known[number]["measured_at"]

    # on a stick: another device, whose folder is carried there and back
    carried = board_file(study, transport="offline", name="stick")
    carried.write_text(carried.read_text().replace("output_dir: board", "output_dir: stick"))
    command = ["build", str(study), "--board", str(carried), "--trial", str(number)]
    assert main(command) == 0
    kit = study.with_name("stick") / "engines-kit-0001"
    assert f"kit: {kit}" in capsys.readouterr().out
    subprocess.run(
        ["sh", str(kit / "run.sh")], env={**os.environ, "PYTHON": sys.executable}, check=True, capture_output=True
    )
    assert main([*command, "--results", str(kit)]) == 0
    assert "engine by onnxruntime" in capsys.readouterr().out
    assert engines(study)[number]["device"] == "stick"
    steps = read_bundle(Path(result.front[0].bundle or "")).manifest["ladder"]
    assert [step.get("device") for step in steps if step["step"] == "engine"] == ["beside", "stick"]
    more_images_decide(study, number, monkeypatch)
    mistakes_are_told(study, number, kit, capsys, monkeypatch)


@pytest.mark.slow
def test_the_int8_variant_is_built_after_the_engine_and_compared_with_it(
    write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(trials=1)
    (record,) = launch(load_config(study, ["export.quantized_variant=true"]), lambda line: None).front
    board = board_file(study, transport="offline", name="stick")
    build, folder = ["build", str(study), "--board", str(board)], study.with_name("board")

    def carried(kit: Path) -> str:
        environment = {**os.environ, "PYTHON": sys.executable}
        subprocess.run(["sh", str(kit / "run.sh")], env=environment, check=True, capture_output=True)
        assert main([*build, "--results", str(kit)]) == 0
        return capsys.readouterr().out

    assert main(build) == 0
    out = carried(folder / "engines-kit-0001")
    assert "engine by onnxruntime" in out and f"kit: {folder / 'engines-int8-kit-0001'}" in out
    out = carried(folder / "engines-int8-kit-0001")
    config = load_config(study)
    (after,) = (r for r in read_study(open_configured(config)) if r.number == record.number)
    step = after.engine_int8
    assert step["step"] == "engine int8" and step["precision"] == "int8" and step["images"] == 2 and step["passed"]
    assert step["float_ms"] == after.engine["latency_ms"] == after.measured_ms and step["float_precision"] == "fp32"
    assert ("INT8 is not faster" in out) == (step["latency_ms"] >= step["float_ms"])
    ladder = read_bundle(Path(record.bundle)).manifest["ladder"]
    assert [item["step"] for item in ladder[-2:]] == ["engine", "engine int8"]
    assert "engine int8 (stick, onnxruntime" in (Path(record.bundle) / "README.md").read_text()
    assert main(build) == 0
    assert "no engine is left to build" in capsys.readouterr().out
    assert main(["export", str(study), "--set", "export.quantized_variant=true", "--trial", str(record.number)]) == 0
    assert read_bundle(Path(record.bundle)).manifest["ladder"][-1] == step, "the same network keeps its engines"


def more_images_decide(study: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that differs on two images by mIoU alone is run on the whole split, and by those it passes."""
    compare, seen = engines_module.engine_step, []

    def doubtful(network: TrainedNetwork, run: EngineRun) -> dict:
        seen.append(len(run.images))
        return {**compare(network, run), **({"passed": False} if len(run.images) == 2 else {})}

    monkeypatch.setattr(engines_module, "engine_step", doubtful)
    board = board_file(study)
    assert main(["build", str(study), "--board", str(board), "--trial", str(number)]) == 0
    assert seen == [2, 6] and engines(study)[number]["passed"] and engines(study)[number]["images"] == 6
    monkeypatch.undo()


def mistakes_are_told(
    study: Path, number: int, kit: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = board_file(study)
    build = ["build", str(study), "--board", str(board)]

    def refused(command: list[str], words: str) -> None:
        capsys.readouterr()
        assert main(command) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1, err

    before, folder = engines(study), study.with_name("board") / "engines"
    files = sorted(path.name for path in folder.iterdir())
    refused(["build", str(study)], "give its --board DEVICE.yaml")
    refused([*build, "--trial", "99"], "has no trial 99")
    refused([*build, "--workspace-mb", "0"], "--workspace-mb is at least 1, not 0")
    refused([*build, "--results", str(study.with_name("nowhere")), "--trial", str(number)], "no results.jsonl at")
    nano = study.with_name("nano.yaml")
    nano.write_text(board.read_text().replace("profile: local-cpu", "profile: jetson-nano"))
    refused(["build", str(study), "--board", str(nano)], "the study is for local-cpu, the board is a jetson-nano")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("hw_latency_model.board.kit.write_agent", lambda target: (_ for _ in ()).throw(full))
    refused([*build, "--trial", str(number)], "No space left on device. Free some space")
    monkeypatch.undo()
    blocked = study.with_name("file")
    blocked.write_text("")
    refused(
        [*build[:3], str(changed(board, "output_dir: board", "output_dir: file/x")), "--trial", str(number)], "cannot"
    )
    assert engines(study) == before and sorted(path.name for path in folder.iterdir()) == files, "nothing half-written"

    # logits that were damaged on the way, and a bundle that was
    (logits,) = (kit / "outputs").glob("*.f32")
    logits.write_bytes(logits.read_bytes()[:-4])
    carried = board_file(study, transport="offline", name="stick")
    carried.write_text(carried.read_text().replace("output_dir: board", "output_dir: again"))
    assert main([*build[:3], str(carried), "--trial", str(number)]) == 0
    jobs = study.with_name("again") / "engines-kit-0001"
    shutil.copytree(kit / "outputs", jobs / "outputs")
    shutil.copy(kit / "results.jsonl", jobs / "results.jsonl")
    capsys.readouterr()
    assert main([*build[:3], str(carried), "--trial", str(number), "--results", str(jobs)]) == 1
    assert "the file of its logits is missing or damaged" in capsys.readouterr().out
    config = load_config(study)
    weights = Path(read_study(open_configured(config), config.study.output_dir)[number].bundle or "") / "model.pt"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused([*build, "--trial", str(number)], "model.pt is not the file that was exported")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[LoopbackSshd]:
    server = LoopbackSshd(tmp_path / "sshd")
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)  # may install the board's software first
def test_from_winner_to_overlay_over_ssh_under_python_36(
    write_study: Callable[..., Path], sshd: LoopbackSshd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way with this machine as the board: build, measure, parity, runner, overlay."""
    study, python = write_study(trials=1), need_board_python()
    result = launch(load_config(study), lambda line: None)
    (record,) = result.front
    board = board_file(study, transport="ssh", name="ssh-board")
    section = sshd.section
    board.write_text(
        board.read_text()
        + f"ssh: {{host: 127.0.0.1, user: {section.user}, port: {section.port}, identity_file: {section.identity_file}, "
        f"known_hosts: {section.known_hosts}}}\nboard: {{dir: {tmp_path / 'login'}, python: {python}}}\n"
    )
    assert main(["build", str(study), "--board", str(board)]) == 0
    step = engines(study)[record.number]
    assert step["passed"] and step["runtime"] == "onnxruntime 1.10.0" and step["argmax_agreement"] >= 0.9999
    bundle = Path(shutil.copytree(record.bundle or "", tmp_path / "carried"))
    assert read_bundle(bundle).manifest["ladder"][-1] == step
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (80, 60), (90, 120, 200)).save(images / "sky.png")
    command = [python, str(bundle / "run.py"), "--images", str(images), "--out", str(tmp_path / "masks"), "--overlay"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0 and "1 images by onnxruntime in fp32" in done.stdout, done.stderr
    assert Image.open(tmp_path / "masks" / "sky-overlay.png").size == (80, 60)
