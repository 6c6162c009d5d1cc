"""The cache of built engines."""

from __future__ import annotations

import hashlib
import json

import pytest
from fake_board.harness import Kit, fake_onnx
from fake_board.tree import FakeBoard


def test_an_engine_of_another_tensorrt_is_built_again(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=1.0)})
    assert kit.run(board.environment("8.2.1.8")).returncode == 0
    for plan in (kit.work / "engines").glob("*.plan"):
        content = plan.read_bytes().replace(b'"trt": "8.2.1.8"', b'"trt": "8.0.1.6"')
        plan.write_bytes(content)
        facts = json.loads(plan.with_suffix(".json").read_text())
        plan.with_suffix(".json").write_text(json.dumps({**facts, "sha256": hashlib.sha256(content).hexdigest()}))
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


@pytest.mark.parametrize("version", ["7.1.3", "8.2.1.8", "10.3.0"])
def test_nodes_that_fp16_does_not_suit_stay_in_float32(board: FakeBoard, kit: Kit, version: str) -> None:
    kit.write({"net": fake_onnx(ms=1.0, nodes=["Conv_0", "Exp_1", "Conv_2"])})
    (job,) = json.loads((kit.folder / "jobs.json").read_text())["jobs"]
    kit.edit(jobs=[{**job, "keep_fp32": ["Exp_1", "Gone_9"]}])
    assert kit.run(board.environment(version)).returncode == 0
    (plan,) = (kit.work / "engines").glob(f"{job['sha256'][:24]}-fp16-keep*.plan")
    assert json.loads(plan.read_bytes()[80:])["float32"] == ["Exp_1"]
    assert list(kit.measured()) == ["net"]


def test_an_int8_engine_is_measured_beside_a_reference_in_float(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx(ms=4.0, quantize=1)}, precision="int8")
    kit.edit(reference={"onnx": "reference.onnx", "precision": "fp16"})
    assert kit.run(board.environment("10.3.0")).returncode == 0
    assert kit.measured()["net"]["precision"] == "int8" and kit.measured()["net"]["reference_ms"] > 0
    names = sorted(plan.name.split("-")[1] for plan in (kit.work / "engines").glob("*.plan"))
    assert names == ["fp16", "int8"]
