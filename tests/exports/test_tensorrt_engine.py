"""A missing or other version of TensorRT ends in a sentence with the next step."""

from __future__ import annotations

import importlib.util

import pytest

from exports import ExportError, build_engine, get_profile
from exports.tensorrt import check_version, trtexec_command

HAVE = importlib.util.find_spec("tensorrt") is not None


@pytest.mark.skipif(HAVE, reason="TensorRT is installed here")
def test_missing_tensorrt_names_the_command_for_the_board(tmp_path):
    with pytest.raises(ExportError, match="not installed") as raised:
        build_engine(tmp_path / "model.onnx", tmp_path / "model.plan", "fp16")
    assert "trtexec --onnx=model.onnx --fp16 --workspace=512 --saveEngine=model.plan" in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_another_version_than_the_board_is_refused():
    nano = get_profile("jetson-nano")
    check_version("8.2.1.9", nano)
    with pytest.raises(ExportError, match=r"jetson-nano has 8\.2, here is 10\.3\.0"):
        check_version("10.3.0", nano)
    with pytest.raises(ExportError, match="runs ONNX files"):
        check_version("8.2.1.9", get_profile("local-cpu"))


def test_wrong_precision_is_a_value_error(tmp_path):
    with pytest.raises(ValueError, match="int8"):
        build_engine(tmp_path / "a.onnx", tmp_path / "a.plan", "int8")
    assert trtexec_command("a.onnx", "a.plan", "fp32") == "trtexec --onnx=a.onnx --workspace=512 --saveEngine=a.plan"
