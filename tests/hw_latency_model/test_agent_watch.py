"""Throttling, clock changes and temperature drift during a measurement."""

from __future__ import annotations

import pytest
from fake_board.harness import Kit, fake_onnx
from fake_board.tree import GPU, FakeBoard, trans_stat


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
