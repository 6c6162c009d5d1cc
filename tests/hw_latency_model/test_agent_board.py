"""The agent as the board runs it: a real Python 3.6, as a process, on a simulated Nano with TensorRT stand-ins."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fake_board.harness import AGENT, Kit, fake_onnx
from fake_board.python36 import need_python36
from fake_board.tree import RAILS, FakeBoard, make_board, trans_stat

GPU = "sys/devices/57000000.gpu/devfreq/57000000.gpu"
VERSIONS = ["8.0.1.6", "8.2.1.8", "8.4.1.5", "8.6.1.6", "10.3.0", "11.0.0"]


def unlocked(board: FakeBoard) -> bool:
    """As ``make_board`` leaves it: mode 5W, GPU free to go down, nothing noted to be given back."""
    return (
        (board.root / "var/lib/nvpmodel/status").read_text() == "1\n"
        and board.frequency("min") == 76800000
        and not list((board.root / "var/tmp/paretoseg-clocks").glob("*"))
    )


def fp16_onnx() -> bytes:
    """The least that a protobuf reader takes for a model with fp16 weights; the stand-in reads the JSON before it."""
    tensor = b"\x10\x0a" + b"\x4a\x04\x00\x3c\x00\x3c"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    text = fake_onnx(ms=5.0, typed="fp16") + b"#"
    return b"\x12" + bytes([len(text)]) + text + b"\x3a" + bytes([len(graph)]) + graph


def test_the_file_is_python_36(board: FakeBoard) -> None:
    done = subprocess.run([board.python, "-m", "py_compile", str(AGENT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_check_tells_what_board_this_is(board: FakeBoard) -> None:
    done = subprocess.run(
        [board.python, str(AGENT), "check", "--root", str(board.root)],
        capture_output=True,
        text=True,
        env=board.environment("8.2.1.8"),
    )
    facts = json.loads(done.stdout)
    assert facts["board_model"] == "NVIDIA Jetson Nano Developer Kit"
    assert (facts["l4t"], facts["jetpack"], facts["cuda"], facts["tensorrt"]) == (
        "32.7.1",
        "4.6.1",
        "10.2.300",
        "8.2.1",
    )
    assert (facts["power_mode"], facts["rails"], facts["power_rail"]) == ("5W", list(RAILS), "POM_5V_IN")
    assert facts["temps_c"] == {"AO-therm": 41.5, "GPU-therm": 31.0}, "the PMIC's constant is left out"
    assert facts["memory_total_mb"] == 3964
    assert facts["backends"]["tensorrt"] == "8.2.1.8"
    assert (facts["tegrastats"]["gpu_load"], facts["tegrastats"]["cpu"][1]) == (3, None)
    assert facts["jetson_clocks"]["gpu"] == {"min": 76800000, "max": 614400000, "cur": 76800000}
    assert unlocked(board), "check changes nothing"


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_of_tensorrt_is_measured(board: FakeBoard, kit: Kit, version: str) -> None:
    """Precision fp16 makes the stand-in's networks 0.6 times as long; from 11 on the file must hold fp16 itself."""
    typed = version.startswith("11")
    network = fp16_onnx() if typed else fake_onnx(ms=5.0)
    kit.write({"net": network}, reference=network, power_profile="maxn", protocol={"warmup_s": 0.02})
    done = kit.run(board.environment(version))
    assert done.returncode == 0, done.stderr
    measured = kit.measured()["net"]
    assert measured["latency_ms_p50"] == pytest.approx(3.0, rel=0.01)
    assert measured["latency_ms_p50"] <= measured["latency_ms_p90"] <= measured["latency_ms_p99"]
    assert measured["reference_ms"] == pytest.approx(3.0, rel=0.01)
    assert measured["runs"] >= 20
    assert 0 < measured["end_to_end_ms_p50"] != measured["latency_ms_p50"]
    assert not measured["noisy"] and not measured["throttled"], measured["reasons"]
    facts = kit.records("board")[0]
    assert (facts["tensorrt"], facts["power_mode"], facts["clocks_locked"]) == (version, "MAXN", True)
    assert facts["clocks"]["gpu_hz"] == facts["clocks"]["gpu_max_hz"] == 921600000
    assert kit.records("end")[0]["left"] == 0
    assert unlocked(board)


def test_tensorrt_11_does_not_call_an_fp32_file_fp16(board: FakeBoard, kit: Kit) -> None:
    text = fp16_onnx().replace(b"\x10\x0a\x4a", b"\x10\x01\x4a")
    kit.write({"net": text}, reference=fp16_onnx())
    assert kit.run(board.environment("11.0.0")).returncode == 0
    failure = kit.records("failure")[0]
    assert "own precision, which is fp32" in failure["reason"]


def test_the_5w_profile_is_slower_and_the_mode_is_given_back(board: FakeBoard, kit: Kit, tmp_path: Path) -> None:
    other = make_board(tmp_path / "maxn", board.python, mode="0")
    slow = Kit(tmp_path / "slow", board.python, other.root)
    slow.write({"net": fake_onnx(ms=5.0)}, power_profile="5w")
    assert slow.run(other.environment("8.2.1.8")).returncode == 0
    assert slow.measured()["net"]["latency_ms_p50"] == pytest.approx(4.5, rel=0.01), "614.4 instead of 921.6 MHz"
    assert (other.root / "var/lib/nvpmodel/status").read_text() == "0\n"


def test_a_failing_build_takes_one_job_only(board: FakeBoard, kit: Kit) -> None:
    kit.write(
        {
            "hard": fake_onnx(op="HardSwish"),
            "unbuildable": fake_onnx(fate="unbuildable"),
            "abort": fake_onnx(fate="abort"),
            "oom": fake_onnx(fate="oom"),
            "hang": fake_onnx(build_s=60),
            "norun": fake_onnx(refuses_to_run=True),
            "good": fake_onnx(ms=2.0),
        },
        protocol={"build_timeout_s": 1.5},
    )
    (kit.folder / "good2.onnx").write_bytes(b"x")
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    assert list(kit.measured()) == ["good"]
    reasons = {record["job_id"]: (record["stage"], record["reason"]) for record in kit.records("failure")}
    assert "While parsing node number 1 [HardSwish" in reasons["hard"][1]
    assert "Could not find any implementation" in reasons["unbuildable"][1]
    assert "SIGABRT" in reasons["abort"][1] and "Cask" in reasons["abort"][1]
    assert "memory" in reasons["oom"][1]
    assert "took longer" in reasons["hang"][1]
    assert reasons["norun"][0] == "measure"
    log = next(record["log_tail"] for record in kit.records("failure") if record["job_id"] == "hard")
    assert "No importer registered for op: HardSwish" in log
    builds = len(board.builds())
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    assert len(board.builds()) == builds, "a failure is not tried again unless asked for"
    assert kit.records("end")[-1] == {**kit.records("end")[-1], "done": 1, "failed": 6, "left": 0}


def test_a_damaged_file_is_a_failure_that_is_tried_again(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=2.0)})
    good = (kit.folder / "net.onnx").read_bytes()
    (kit.folder / "net.onnx").write_bytes(good[:-3])
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    assert "sha256 differs" in kit.records("failure")[0]["reason"]
    (kit.folder / "net.onnx").write_bytes(good)
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    assert list(kit.measured()) == ["net"]


def test_killed_in_the_middle_nothing_is_lost_and_nothing_measured_twice(board: FakeBoard, kit: Kit) -> None:
    kit.write({f"n{index}": fake_onnx(ms=1.5 + index) for index in range(4)}, power_profile="maxn")
    process = kit.start(board.environment("8.2.1.8"))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("[2/4]"):
            break
    time.sleep(0.15)
    process.kill()
    process.wait()
    before = kit.measured()
    assert set(before) >= {"n0", "n1"}
    assert not unlocked(board), "nobody gave the clocks back"
    engines = {path: path.with_suffix(".plan").stat().st_mtime_ns for path in (kit.work / "engines").glob("*.json")}
    assert len(engines) >= 3
    with kit.results.open("ab") as stream:
        stream.write(b'{"type":"measurement","job_id":"n3","latency_ms_p50":0.0')
    time.sleep(0.3)
    done = kit.run(board.environment("8.2.1.8"))
    assert done.returncode == 0, done.stderr
    after = kit.measured()
    assert set(after) == {"n0", "n1", "n2", "n3"}
    assert {name: after[name] for name in before} == before
    assert {path: path.with_suffix(".plan").stat().st_mtime_ns for path in engines} == engines, (
        "no engine is built twice"
    )
    assert unlocked(board), "the next run gives back what was there before the one that was killed"


def test_restore_after_a_crash(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=1.0, build_s=30)}, power_profile="maxn")
    process = kit.start(board.environment("8.2.1.8"))
    deadline = time.monotonic() + 20
    while not board.builds() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not unlocked(board)
    command = [board.python, str(AGENT), "restore", "--root", str(board.root)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert unlocked(board)
    again = subprocess.run(command, capture_output=True, text=True)
    assert "nothing to give back" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_stops_it_resumably_and_gives_the_clocks_back(
    board: FakeBoard, kit: Kit, number: signal.Signals
) -> None:
    kit.write({"a": fake_onnx(ms=1.0), "b": fake_onnx(ms=1.0, build_s=20)}, power_profile="maxn")
    process = kit.start(board.environment("8.2.1.8"))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("[1/2]"):
            break
    time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(timeout=20) == 3
    assert unlocked(board)
    end = kit.records("end")[-1]
    assert (end["done"], end["left"], end["stopped"]) == (1, 1, f"stopped by {number.name}")


def test_clock_drop_is_repeated_and_then_clean(board: FakeBoard, kit: Kit) -> None:
    board.script(
        [
            {"at": 20, "write": {f"{GPU}/cur_freq": "614400000\n", f"{GPU}/trans_stat": trans_stat(11)}},
            {"at": 45, "write": {f"{GPU}/cur_freq": "921600000\n", f"{GPU}/trans_stat": trans_stat(12)}},
        ]
    )
    kit.write({"net": fake_onnx(ms=5.0)}, power_profile="maxn", protocol={"max_repeats": 2})
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert measured["repeats"] >= 1
    assert measured["latency_ms_p50"] == pytest.approx(3.0, rel=0.01)
    assert not measured["throttled"]


def test_clock_that_stays_down_is_marked(board: FakeBoard, kit: Kit) -> None:
    board.script([{"at": 20, "write": {f"{GPU}/cur_freq": "614400000\n"}}])
    kit.write({"net": fake_onnx(ms=5.0)}, power_profile="maxn")
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert measured["throttled"] and measured["noisy"]
    assert measured["repeats"] == 1
    assert "614400000" in " ".join(measured["reasons"])


@pytest.mark.parametrize(
    ("event", "words", "throttled"),
    [
        ({"write": {f"{GPU}/trans_stat": trans_stat(14)}}, "trans_stat counts 4", True),
        ({"append": {"kernel.log": "[  812.5] soctherm: OC ALARM 0x00000001\n"}}, "over-current alarm", True),
        ({"write": {"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "918000\n"}}, "CPU clock fell", True),
        (
            {"at": 1, "write": {f"{GPU}/{which}_freq": "614400000\n" for which in ("max", "cur")}},
            "fell to 614400000",
            True,
        ),
        ({"write": {"sys/class/thermal/thermal_zone1/temp": "52000\n"}}, "temperature went", False),
        ({"write": {"sys/class/thermal/thermal_zone1/temp": "96500\n"}}, "the board is at 96.5", False),
    ],
    ids=["short dip", "undervoltage", "cpu", "cap lowered before it began", "warming", "overheating"],
)
def test_what_the_board_says_marks_the_measurement(
    board: FakeBoard, kit: Kit, event: dict[str, object], words: str, throttled: bool
) -> None:
    board.script([{"at": 25, **event}])
    kit.write({"net": fake_onnx(ms=5.0)}, power_profile="maxn", protocol={"max_repeats": 0})
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert words in " ".join(measured["reasons"])
    assert (measured["noisy"], measured["throttled"]) == (True, throttled)


def test_unlocked_clocks_that_move_make_noise(board: FakeBoard, kit: Kit) -> None:
    board.script([{"at": 25, "write": {f"{GPU}/cur_freq": "153600000\n"}}])
    kit.write({"net": fake_onnx(ms=5.0)}, lock_clocks=False, protocol={"max_repeats": 0})
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert measured["noisy"] and not measured["throttled"]
    assert not kit.records("board")[0]["clocks_locked"]
    assert not [call for call in board.calls() if call.startswith("jetson_clocks") and "--show" not in call]


def test_garbage_in_the_boards_files_is_no_reading(board: FakeBoard, kit: Kit) -> None:
    files = ["cur_freq", "min_freq", "max_freq", "available_frequencies", "trans_stat"]
    paths = [f"{GPU}/{name}" for name in files] + ["sys/class/thermal/thermal_zone1/temp", "proc/meminfo", "kernel.log"]
    paths += [f"sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power{rail}_input" for rail in range(3)]
    for path in paths:
        (board.root / path).write_bytes(b"\x00\xff 12;34 nan\n")
    (board.root / "power.json").unlink()
    kit.write({"net": fake_onnx(ms=5.0)}, protocol={"energy_s": 0.3})
    done = kit.run(board.environment("8.2.1.8"))
    assert done.returncode == 0, done.stderr
    facts, measured = kit.records("board")[0], kit.measured()["net"]
    assert (facts["clocks_locked"], facts["rails"], facts["memory_total_mb"]) == (False, [], None)
    assert measured["power_note"] == "no power rail"
    assert (measured["clocks_end"]["gpu_hz"], measured["temp_c_end"]) == (None, 41.5)


def test_drift_of_the_reference_is_noticed(board: FakeBoard, kit: Kit) -> None:
    """The clock that the board shows stays, but everything gets slower: only the reference network can tell."""
    kit.write(
        {"net": fake_onnx(ms=5.0, spread=0.0)}, reference=fake_onnx(ms=3.0, spread=0.3), protocol={"max_repeats": 1}
    )
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert measured["noisy"] and measured["drift_rel"] > 0.02
    assert not measured["throttled"]
    assert "the reference network drifted" in " ".join(measured["reasons"])


def test_noise_takes_more_runs(board: FakeBoard, kit: Kit) -> None:
    kit.write(
        {"steady": fake_onnx(ms=1.0, spread=0.001), "noisy": fake_onnx(ms=1.0, spread=0.2)},
        protocol={"max_runs": 400, "confidence_rel": 0.01},
    )
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()
    assert measured["steady"]["runs"] == 20
    assert measured["noisy"]["runs"] > 100
    assert measured["noisy"]["confidence_rel"] <= 0.01 or measured["noisy"]["runs"] >= 400


def test_energy_is_integrated_and_the_idle_board_taken_off(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=20.0)}, power_profile="maxn", protocol={"energy_s": 0.8})
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert measured["power_rail"] == "POM_5V_IN"
    assert measured["power_mw"] == pytest.approx(6000, rel=0.15)
    assert measured["idle_power_mw"] == pytest.approx(2000, rel=0.15)
    share = 1 - measured["idle_power_mw"] / measured["power_mw"]
    assert measured["energy_mj_net"] == pytest.approx(measured["energy_mj_gross"] * share, rel=0.01)
    assert 0 < measured["energy_mj_net"] < measured["energy_mj_gross"]


@pytest.mark.parametrize(
    ("rails", "busy", "words"),
    [
        ((), (), "no power rail"),
        (("POM_5V_GPU", "POM_5V_IN", "POM_5V_CPU"), (8949, 3227, 3148), "mislabelled"),
        (RAILS, (0, 0, 0), "reads 0 mW"),
    ],
    ids=["2 GB board", "mislabelled carrier", "dead sensor"],
)
def test_power_that_cannot_be_believed_is_not_reported(
    tmp_path: Path, rails: tuple[str, ...], busy: tuple[int, ...], words: str
) -> None:
    board = make_board(tmp_path / "root", need_python36(), rails=rails, busy_mw=busy, idle_mw=busy)
    kit = Kit(tmp_path / "kit", board.python, board.root)
    kit.write({"net": fake_onnx(ms=5.0)}, protocol={"energy_s": 0.3})
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    measured = kit.measured()["net"]
    assert words in measured["power_note"]
    names = ("energy_mj_gross", "energy_mj_net", "power_mw", "power_rail")
    assert [measured[name] for name in names] == [None] * 4


def test_clocks_that_do_not_lock_are_told(board: FakeBoard, kit: Kit) -> None:
    (board.root / "jetson_clocks.weak").write_text("")
    kit.write({"net": fake_onnx(ms=1.0)}, power_profile="maxn")
    done = kit.run(board.environment("8.2.1.8"))
    assert done.returncode == 0
    facts = kit.records("board")[0]
    assert not facts["clocks_locked"]
    assert "did not lock" in facts["clocks_note"]
    assert "clocks are not locked" in done.stderr
    assert unlocked(board)


def test_another_power_mode_is_not_measured_as_the_one_asked_for(board: FakeBoard, kit: Kit) -> None:
    (board.root / "nvpmodel.stuck").write_text("")
    kit.write({"net": fake_onnx(ms=1.0)}, power_profile="maxn")
    done = kit.run(board.environment("8.2.1.8"))
    assert done.returncode == 2
    assert "did not switch to maxn" in done.stderr
    assert not kit.measured()
    (board.root / "nvpmodel.stuck").unlink()
    kit.edit(power_profile="40w")
    assert "no power mode '40w'; it has 5w, maxn" in kit.run(board.environment("8.2.1.8")).stderr


def test_an_engine_of_another_tensorrt_is_built_again(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=1.0)})
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    for plan in (kit.work / "engines").glob("*.plan"):
        text = plan.read_text().replace('"trt": "8.2.1.8"', '"trt": "8.0.1.6"')
        plan.write_text(text)
        facts = json.loads(plan.with_suffix(".json").read_text())
        plan.with_suffix(".json").write_text(json.dumps({**facts, "sha256": hashlib.sha256(text.encode()).hexdigest()}))
    kit.results.unlink()
    builds = len(board.builds())
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    assert list(kit.measured()) == ["net"]
    assert len(board.builds()) == builds + 2


def test_a_torn_engine_is_built_again_and_the_timing_cache_is_used(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=1.0)})
    assert kit.run(board.environment("8.6.1.6")).returncode == 0
    assert next(iter(kit.work.glob("timing-*.cache"))).read_bytes() == b"8.6.1.6 timings"
    plan = max((kit.work / "engines").glob("*.plan"), key=lambda path: path.stat().st_mtime)
    plan.write_bytes(plan.read_bytes()[:40])
    kit.results.unlink()
    assert kit.run(board.environment("8.6.1.6")).returncode == 0
    assert list(kit.measured()) == ["net"]
    assert len(board.builds()) == 3


def test_kernels_jobs_say_what_each_layer_takes(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=5.0)}, power_profile="maxn")
    jobs = json.loads((kit.folder / "jobs.json").read_text())["jobs"]
    kit.edit(jobs=[{**jobs[0], "kind": "kernels"}])
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    layers = dict(kit.measured()["net"]["layers"])
    assert layers["Conv_0 + Relu_1"] == pytest.approx(2.25, rel=0.02)
    assert layers["Resize_2"] == pytest.approx(0.75, rel=0.02)


def test_a_second_agent_in_the_same_folder_is_refused(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=1.0, build_s=20)})
    first = kit.start(board.environment("8.2.1.8"))
    deadline = time.monotonic() + 20
    while not board.builds() and time.monotonic() < deadline:
        time.sleep(0.05)
    second = kit.run(board.environment("8.2.1.8"))
    first.terminate()
    first.wait(timeout=20)
    assert second.returncode == 2
    assert "another agent" in second.stderr


def test_disk_full_stops_it_cleanly_and_it_goes_on_later(board: FakeBoard, kit: Kit) -> None:
    """RLIMIT_FSIZE makes every write beyond a length fail, as a full disk does: first the engines, then the results."""
    kit.write({f"n{index}": fake_onnx(ms=1.0 + index) for index in range(4)})
    limit = ["bash", "-c", 'ulimit -f "$1"; shift; exec "$@"', "limit"]
    done = kit.run(board.environment("8.2.1.8"), wrap=[*limit, "5"])
    assert done.returncode == 3, done.stderr
    assert "disk full" in done.stderr
    first = kit.measured()
    assert 0 < len(first) < 4
    assert kit.results.stat().st_size <= 5 * 1024
    assert unlocked(board)
    done = kit.run(board.environment("8.2.1.8"))
    assert done.returncode == 0, done.stderr
    second = kit.measured()
    assert len(second) == 4
    assert {name: second[name] for name in first} == first
    assert len(board.builds()) == len(set(board.builds()))


def test_disk_full_while_an_engine_is_written(board: FakeBoard, kit: Kit) -> None:
    kit.write({"small": fake_onnx(ms=1.0), "big": fake_onnx(ms=1.0, plan_bytes=300_000)})
    limit = ["bash", "-c", 'ulimit -f "$1"; shift; exec "$@"', "limit", "64"]
    done = kit.run(board.environment("8.2.1.8"), wrap=limit)
    assert done.returncode == 3
    assert "disk full" in done.stderr
    assert list(kit.measured()) == ["small"]
    assert not list((kit.work / "engines").glob("*.tmp"))
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    assert set(kit.measured()) == {"small", "big"}
