"""The stand-in for TensorRT takes, in each version, the calls that NVIDIA's Python bindings take, and the agent makes no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_board.harness import fake_onnx
from fake_board.tree import HERE, FakeBoard

API: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())
BINDINGS = {
    "7.1.3": "7.2",
    "8.0.1.6": "8.0",
    "8.2.1.9": "8.2",
    "8.4.1.5": "8.4",
    "8.5.2": "8.5",
    "8.6.2": "8.6",
    "10.3.0": "10.3",
    "11.0.0": "11.0",
}
ROOT = Path(__file__).parents[2]
_AGENT = """
import json, sys
from hw_latency_model.agent.backends.tensorrt import TensorRt
from hw_latency_model.agent.errors import JobError
folder, found = sys.argv[1], {}
spec = {"cache": folder + "/timing", "workspace_mb": 64, "keep_fp32": ["a", "lost"]}
for name, precision in (("plain", "fp32"), ("plain", "fp16"), ("quantized", "int8"), ("plain", "int8")):
    spec.update(onnx=f"{folder}/{name}.onnx", plan=f"{folder}/{name}-{precision}.plan", precision=precision)
    try:
        TensorRt.build(spec)
        runner = TensorRt.open(spec)
        shape, _ = runner.run(bytes(4 * 3 * 32 * 32))
        runner.end_to_end(1)
        found[name + " " + precision] = [len(shape), [layer for layer, _ in runner.layers()]]
    except JobError as error:
        found[name + " " + precision] = str(error)
print(json.dumps(found))
"""
_REFUSED = """
import json, sys, tensorrt as trt
logger = type("L", (trt.ILogger,), {"log": lambda self, severity, text: None})()
trt.ILogger.__init__(logger)
builder = trt.Builder(logger)
network = builder.create_network(1) if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") else builder.create_network()
config, parser, runtime = builder.create_builder_config(), trt.OnnxParser(network, logger), trt.Runtime(logger)
taken = []
for call in json.loads(sys.argv[1]):
    try:
        exec(call)
        taken.append(call)
    except (TypeError, AttributeError):
        pass
print(json.dumps(taken))
"""


def on(version: str, board: FakeBoard, script: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "FAKE_TRT_VERSION": version,
            "FAKE_BOARD_ROOT": str(board.root),
            "PYTHONPATH": f"{HERE / 'site'}:{ROOT}",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", list(BINDINGS))
def test_the_agent_builds_and_runs_by_the_calls_of_the_version(board: FakeBoard, tmp_path: Path, version: str) -> None:
    for name, options in (("plain", {}), ("quantized", {"quantize": 1})):
        (tmp_path / f"{name}.onnx").write_bytes(fake_onnx(nodes=["a", "b"], **options))
    found = on(version, board, _AGENT, str(tmp_path))
    ran = [4 * 2 * 8 * 8, ["Conv_0 + Relu_1", "Resize_2"]]
    assert found["plain fp32"] == found["plain fp16"] == ran
    if version.startswith("7"):
        assert "int8 needs" in found["quantized int8"]
    else:
        assert found["quantized int8"] == ran
    assert "int8 needs" in found["plain int8"]


@pytest.mark.parametrize(
    ("version", "calls"),
    [
        (
            "8.2.1.9",
            [
                "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1)",  # of 8.4
                "config.set_flag(0)",  # a number for an enumeration
                "config.set_flag(trt.BuilderFlag.FP16, True)",
                "config.set_timing_cache(config.create_timing_cache(b''))",
                "config.create_timing_cache(content=b'')",  # another keyword
                "config.max_workspace_size = '1'",
                "builder.create_network(explicit_batch=1)",
                "builder.logger = logger",  # read-only
                "parser.parse('a.onnx')",
                "runtime.deserialize_cuda_engine('plan')",
                "trt.init_libnvinfer_plugins(logger)",
                "trt.TensorIOMode",  # of 8.5
            ],
        ),
        ("7.1.3", ["builder.build_serialized_network(network, config)", "config.create_timing_cache(b'')"]),
        ("10.3.0", ["config.max_workspace_size = 1", "builder.build_engine(network, config)"]),
        ("11.0.0", ["trt.BuilderFlag.FP16", "network.get_layer(0).precision = trt.DataType.FLOAT"]),
    ],
)
def test_the_stand_in_refuses_calls_that_the_bindings_refuse(board: FakeBoard, version: str, calls: list[str]) -> None:
    assert on(version, board, _REFUSED, json.dumps(calls)) == []
    good = ["trt.init_libnvinfer_plugins(logger, namespace='')", "builder.create_builder_config()"]
    assert on(version, board, _REFUSED, json.dumps(good)) == good


def test_the_table_is_that_of_the_published_bindings() -> None:
    """Facts of NVIDIA's release notes, so that a table written anew by a broken reader is noticed."""
    assert set(API) == set(BINDINGS.values())
    assert API["8.2"]["ICudaEngine"]["methods"]["binding_is_input"] == [["index"], ["name"]]
    assert API["10.3"]["IExecutionContext"]["methods"]["execute_async_v3"] == [["stream_handle"]]
    assert API["8.4"]["IBuilderConfig"]["methods"]["set_memory_pool_limit"] == [["pool", "pool_size"]]
    assert "num_bindings" not in API["10.3"]["ICudaEngine"]["properties"]
    assert "FP16" in API["10.3"]["BuilderFlag"]["values"] and "FP16" not in API["11.0"]["BuilderFlag"]["values"]
