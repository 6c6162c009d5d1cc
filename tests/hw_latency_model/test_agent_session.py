"""Runs of a job list: failures, crashes, signals, full disks and resuming."""

from __future__ import annotations

import json
import signal
import time

import pytest
from fake_board.harness import Kit, fake_onnx
from fake_board.tree import FakeBoard, unlocked


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
