"""The agent as the board runs it: a real Python 3.6, as a process, on a simulated Nano with TensorRT stand-ins."""

from __future__ import annotations

import array
import json
import subprocess

import pytest
from fake_board.harness import AGENT, Kit, fake_onnx, fp16_onnx, write_images
from fake_board.tree import RAILS, FakeBoard, unlocked

VERSIONS = ["7.1.3", "8.0.1.6", "8.2.1.8", "8.4.1.5", "8.6.1.6", "10.3.0", "11.0.0"]


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
    network = fp16_onnx() if typed else fake_onnx(ms=5.0, answer=1)
    kit.write({"net": network}, reference=network, power_profile="maxn", protocol={"warmup_s": 0.02})
    (job,) = json.loads((kit.folder / "jobs.json").read_text())["jobs"]
    kit.edit(jobs=[{**job, "images": write_images(kit.folder)}])
    done = kit.run(board.environment(version))
    assert done.returncode == 0, done.stderr
    measured = kit.measured()["net"]
    logits = array.array("f", (kit.folder / measured["outputs"]["file"]).read_bytes())
    assert logits.tolist() == ([0.0] * 64 + [1.0] * 64) * 2, (
        "two images, the engine's answer is the second of two classes"
    )
    assert measured["outputs"]["images"] == 2 and measured["plan_bytes"] > 80
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
