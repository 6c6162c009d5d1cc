"""INT8 variant of a bundle: TensorRT's form of quantization, compared with torch, and left out where it is another network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from test_bundle import inputs

from exports import get_profile, lint_onnx, write_bundle
from exports.bundle import int8 as module
from exports.onnx.runtime import OnnxSession
from search_spaces._common.yaml_config import ConfigError
from trial_runner.config.load import study_of


def test_the_variant_is_symmetric_checked_and_described(tmp_path: Path):
    given = inputs(profile=get_profile("jetson-orin-nano"))
    bundle = write_bundle(tmp_path / "orin", replace(given, calibration=given.images))
    steps = {step["step"]: step for step in bundle.manifest["ladder"]}
    step = steps["onnx int8"]
    assert step["passed"] and step["calibration_images"] == 2 and step["max_rel_error"] > 1e-4, "INT8 rounds"
    path = bundle.dir / "model-int8.onnx"
    model = onnx.load(str(path))
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zeros = [stored[node.input[2]] for node in pairs]
    assert zeros and all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert any(stored[node.input[1]].size > 1 for node in pairs), "weights have a scale for each output channel"
    assert [item for item in lint_onnx(model, given.profile) if item.severity == "error"] == []
    assert OnnxSession(path).run(given.images).shape[1] == 4
    text = (bundle.dir / "README.md").read_text()
    assert "`model-int8.onnx`: " in text and "| onnx int8 against torch | same classes on" in text


def test_a_variant_beyond_its_limits_is_left_out_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "INT8_AGREEMENT", 1.1)
    given = inputs(profile=get_profile("jetson-orin-nano"))
    bundle = write_bundle(tmp_path / "orin", replace(given, calibration=given.images))
    (step,) = (step for step in bundle.manifest["ladder"] if step["step"] == "onnx int8")
    assert step["passed"] is False and "get the same class, fewer than 110" in step["reason"]
    assert (
        not (bundle.dir / "model-int8.onnx").exists()
        and "`model-int8.onnx`" not in (bundle.dir / "README.md").read_text()
    )


def test_boards_with_int8_get_a_variant_and_others_only_where_it_is_wanted(tmp_path: Path):
    def wanted(device: str, **export: bool) -> bool:
        values = {
            "study": {"name": "s", "storage": "sqlite:///s.db", "output_dir": "out"},
            "data": {"kind": "synthetic"},
            "device": {"name": device, "latency_model": "m.json", "latency_budget_ms": 1},
            "export": export,
        }
        return study_of(values, tmp_path).quantized_variant

    assert [wanted(name) for name in ("jetson-orin-nano", "jetson-nano", "local-cpu")] == [True, False, False]
    assert wanted("local-cpu", quantized_variant=True) and not wanted("jetson-orin-nano", quantized_variant=False)
    with pytest.raises(ConfigError, match="jetson-nano has no INT8: leave it out"):
        wanted("jetson-nano", quantized_variant=True)
