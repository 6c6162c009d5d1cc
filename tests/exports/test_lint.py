"""Lint: what TensorRT 8.2 refuses is found; the networks we export pass."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from exports import ExportError, export_onnx, get_profile, lint_onnx, lint_summary
from exports.lint import peak_memory_mb
from search_spaces._common.errors import UserError

NANO, LOCAL = get_profile("jetson-nano"), get_profile("local-cpu")


def graph(nodes, weights=None, *, opset=13, shape=(1, 3, 8, 8), kind=TensorProto.FLOAT, out_kind=TensorProto.FLOAT):
    inputs = [helper.make_tensor_value_info("image", kind, shape)]
    outputs = [helper.make_tensor_value_info("logits", out_kind, None)]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    made = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("acme", 1)])


def node(op, inputs=("image",), outputs=("logits",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), name="n", **attributes)


W = np.ones((2, 3, 1, 1), np.float32)
SCALES = np.array([1, 1, 2, 2], np.float32)

REFUSED = {
    "opset": (graph([node("Relu")], opset=17), "opset 17"),
    "forbidden-op": (graph([node("HardSwish")], opset=14), "HardSigmoid"),
    "quantized": (graph([node("QuantizeLinear", ("image", "s"))], {"s": np.float32(0.1)}), "INT8"),
    "custom-domain": (graph([helper.make_node("Blur", ["image"], ["logits"], domain="acme")]), "acme"),
    "resize-mode": (graph([node("Resize", ("image", "", "s"), mode="cubic")], {"s": SCALES}), "cubic"),
    "resize-coordinates": (
        graph(
            [node("Resize", ("image", "", "s"), mode="linear", coordinate_transformation_mode="tf_crop_and_resize")],
            {"s": SCALES},
        ),
        "tf_crop",
    ),
    "non-constant": (graph([node("Conv", ("image", "image"))]), "must be a constant"),
    "dynamic-shape": (graph([node("Relu")], shape=("batch", 3, 8, 8)), "image"),
    "io-type": (graph([node("Relu")], kind=TensorProto.UINT8), "UINT8"),
    "cast": (graph([node("Cast", to=TensorProto.DOUBLE)]), "double"),
    "double": (graph([node("Relu")], {"w": np.ones(2)}), "float64"),
    "int64": (graph([node("Relu")], {"w": np.array([2**40])}), "beyond int32"),
    "einsum": (graph([node("Einsum", equation="bcii->bci")]), "diagonal"),
    "memory": (
        graph([node("Conv", ("image", "w"))], {"w": W}, shape=(1, 3, 16384, 8192)),
        "MB",
    ),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_the_nano_refuses(rule):
    model, words = REFUSED[rule]
    errors = [finding for finding in lint_onnx(model, NANO) if finding.severity == "error"]
    assert rule in [finding.rule for finding in errors]
    assert any(words in finding.message for finding in errors if finding.rule == rule)
    assert lint_summary(errors, NANO).startswith("cannot run on jetson-nano: ")


@pytest.mark.parametrize("rule", REFUSED)
def test_the_local_cpu_refuses_nothing(rule):
    assert lint_onnx(REFUSED[rule][0], LOCAL) == []


def test_max_pool_indices_slice_axes_and_einsum_ellipsis_are_refused():
    pool = graph([helper.make_node("MaxPool", ["image"], ["logits", "indices"], kernel_shape=[2, 2])])
    assert [finding.rule for finding in lint_onnx(pool, NANO)] == ["forbidden-op"]
    shape = helper.make_node("Shape", ["image"], ["ends"])
    axes = helper.make_node("ArgMax", ["image"], ["axes"])
    cut = helper.make_node("Slice", ["image", "from", "ends", "axes"], ["logits"], name="cut")
    findings = lint_onnx(graph([shape, axes, cut], {"from": np.zeros(4, np.int64)}), NANO)
    assert ("non-constant", "cut", "error") in [(f.rule, f.node, f.severity) for f in findings]
    assert "shape-arithmetic" in [f.rule for f in findings]
    dots = graph([node("Einsum", equation="...ij->...ji")])
    assert "ellipsis" in lint_onnx(dots, NANO)[0].message


def test_warnings_do_not_refuse():
    findings = lint_onnx(graph([node("ArgMax", axis=1)], out_kind=TensorProto.INT32), NANO)
    assert [(f.rule, f.severity) for f in findings] == [("discouraged-op", "warning")]
    assert "low-resolution logits" in lint_summary(findings, NANO)
    large = graph([node("Conv", ("image", "w"))], {"w": W * 1e5})
    assert [(f.rule, f.severity) for f in lint_onnx(large, NANO)] == [("fp16-range", "warning")]
    to_the_end = graph([node("Relu")], {"w": np.array([2**63 - 1, -1])})
    assert [(f.rule, f.severity) for f in lint_onnx(to_the_end, NANO)] == [("int64", "info")]


def test_a_clean_network_has_no_finding(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish(), nn.Conv2d(8, 4, 1))
    path = export_onnx(net, (32, 32), tmp_path / "model.onnx").path
    findings = lint_onnx(path, NANO)
    assert [finding for finding in findings if finding.severity != "info"] == []
    assert lint_summary(findings, NANO) == "nothing known against running on jetson-nano"


def test_cubic_upsampling_in_a_torch_network_is_found(tmp_path):
    class Cubic(nn.Module):
        def forward(self, x):
            return nn.functional.interpolate(x, scale_factor=2, mode="bicubic")

    with torch.no_grad():
        path = export_onnx(Cubic(), (8, 8), tmp_path / "model.onnx").path
    assert "resize-mode" in [finding.rule for finding in lint_onnx(path, NANO)]


def test_peak_memory_counts_what_is_alive_together():
    first = helper.make_node("Conv", ["image", "w"], ["a"])
    second = helper.make_node("Relu", ["a"], ["b"])
    third = helper.make_node("Add", ["a", "b"], ["logits"])
    model = graph([first, second, third], {"w": W})
    # while Add runs: a, b and its result, each 2 x 8 x 8, and the 6 weights; the image is gone
    assert peak_memory_mb(model) == pytest.approx((3 * 128 + 6) * 4 / 1e6)


def test_unreadable_models_and_unknown_profiles_are_named(tmp_path):
    with pytest.raises(ExportError, match="cannot read the ONNX model"):
        lint_onnx(tmp_path / "none.onnx", NANO)
    (tmp_path / "text.onnx").write_text("hello, this is not a model")
    with pytest.raises(ExportError, match="not a readable ONNX model"):
        lint_onnx(tmp_path / "text.onnx", NANO)
    with pytest.raises(UserError, match=r'Did you mean "jetson-nano"\?.*local-cpu'):
        get_profile("jetson_nano")


def test_lint_leaves_the_model_alone():
    model = REFUSED["memory"][0]
    before = model.SerializeToString(deterministic=True)
    lint_onnx(model, NANO)
    assert onnx.ModelProto.FromString(before) == model
