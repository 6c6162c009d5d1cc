"""The cache of built engines."""

from __future__ import annotations

import hashlib
import json

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
