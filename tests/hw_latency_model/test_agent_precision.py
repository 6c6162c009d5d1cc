"""Weight precision read from ONNX files, and the runtimes that execute it."""

from __future__ import annotations

from pathlib import Path

from fake_board.harness import Kit, fp16_onnx
from fake_board.tree import FakeBoard

from hw_latency_model.agent.precision import onnx_precision


def test_the_precision_of_an_onnx_file_is_read_without_onnx(tmp_path: Path) -> None:
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    for kind, name in ((np.float32, "fp32"), (np.float16, "fp16")):
        weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), dtype=kind), "w")
        shape = numpy_helper.from_array(np.array([1, -1], dtype=np.int64), "s")
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value], [weight, shape])
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(helper.make_model(graph).SerializeToString())
        assert onnx_precision(path) == name
        path.write_bytes(path.read_bytes()[:-7])
        assert onnx_precision(path) in (None, name)


def test_tensorrt_11_does_not_call_an_fp32_file_fp16(board: FakeBoard, kit: Kit) -> None:
    text = fp16_onnx().replace(b"\x10\x0a\x4a", b"\x10\x01\x4a")
    kit.write({"net": text}, reference=fp16_onnx())
    assert kit.run(board.environment("11.0.0")).returncode == 0
    failure = kit.records("failure")[0]
    assert "own precision, which is fp32" in failure["reason"]
