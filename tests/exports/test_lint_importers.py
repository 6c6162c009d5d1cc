"""Lint as an allow list: what each TensorRT release imports, under its conditions, with one finding for each cause."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import CONV, IMAGE, W, ints, model, node, one, tensor, weight
from test_static_graph import external

from exports import LintFinding, get_profile, lint_onnx

NANO, OLD_NANO = get_profile("jetson-nano"), get_profile("jetson-nano-jetpack-4.5")
JETPACK_5, JETPACK_6_0, JETPACK_6 = (get_profile(f"jetson-jetpack-{release}") for release in ("5", "6.0", "6"))
RELEASES = {"7.1": OLD_NANO, "8.2": NANO, "8.5": JETPACK_5, "8.6": JETPACK_6_0, "10": JETPACK_6}


def errors(made: onnx.ModelProto, release: str) -> list[tuple[str, str]]:
    return [(item.rule, item.node) for item in lint_onnx(made, RELEASES[release]) if item.severity == "error"]


def messages(made: onnx.ModelProto | Path, release: str) -> str:
    return "; ".join(item.message for item in lint_onnx(made, RELEASES[release]))


UNARY = {
    "Celu": "8.2",
    "HardSwish": "8.5",
    "IsInf": "8.6",
    "Mish": "10",
    "NonZero": "8.5",
    "RandomNormalLike": "8.5",
    "Round": "8.2",
    "Shrink": "8.5",
    "Sigmoid": "7.1",
    "Det": "",
    "Unheard": "",
}
"""The first release that imports an operator; "" for none."""


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("release", RELEASES)
def test_an_operator_runs_from_the_release_that_imports_it(op: str, release: str) -> None:
    made = model([node(op, ["x"], ["y"])], [tensor("x", [1, 3, 8, 8])], ["y"], opset=11)
    order = list(RELEASES)
    known = UNARY[op] != "" and order.index(release) >= order.index(UNARY[op])
    found = [item for item in lint_onnx(made, RELEASES[release]) if item.rule == "forbidden-op"]
    assert (found == []) is known
    if found:
        assert f"{op} cannot run: TensorRT {release} has no importer for it; " in found[0].message


def resized(computed: str, *, opset: int = 13, **values: object) -> onnx.ModelProto:
    """Resize whose sizes or scales are computed, or stored."""
    sizes = [node("Shape", ["x"], ["s"]), node("Mul", ["s", "two"], ["z"])]
    scales = [*sizes, node("Cast", ["z"], ["k"], to=TensorProto.FLOAT)]
    nodes = {"sizes": sizes, "scales": scales, "": []}[computed]
    inputs = {"sizes": ["x", "", "", "z"], "scales": ["x", "", "k"], "": ["x", "", "f"]}[computed]
    stored = [ints("two", [1, 1, 2, 2]), numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "f")]
    return model(
        [*nodes, node("Resize", inputs, ["y"], **values)], [tensor("x", [1, 3, 8, 8])], ["y"], stored, opset=opset
    )


def test_resize_takes_computed_sizes_and_stored_scales_in_8_2() -> None:
    assert errors(resized("sizes", mode="linear"), "8.2") == []
    assert errors(resized("", mode="linear"), "8.2") == []
    assert errors(resized("scales", mode="linear"), "8.2") == [("non-constant", "Resize_3")]
    assert errors(resized("scales", mode="linear"), "8.6") == []


def test_resize_coordinates_by_release() -> None:
    assert errors(resized("", coordinate_transformation_mode="tf_half_pixel_for_nn"), "8.2") == []
    odd = resized("", coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor")
    assert errors(odd, "8.2") == []
    assert "round_prefer_floor" in messages(odd, "8.2")
    assert errors(resized("", mode="cubic"), "8.2") == [("resize-mode", "Resize_0")]
    assert errors(resized("", mode="cubic"), "8.6") == []
    assert errors(resized("", opset=11, coordinate_transformation_mode="tf_half_pixel_for_nn"), "7.1") == [
        ("resize-coordinates", "Resize_0")
    ]
    nearest = {"coordinate_transformation_mode": "asymmetric", "opset": 11}
    assert errors(resized("", **nearest), "7.1") == [("resize-nearest", "Resize_0")]
    assert errors(resized("", **nearest, nearest_mode="floor"), "7.1") == []
    assert errors(resized("sizes", opset=11, mode="linear", coordinate_transformation_mode="asymmetric"), "7.1") == [
        ("resize-coordinates", "Resize_2")
    ]


def test_slice_takes_computed_starts_and_known_axes() -> None:
    shape = [node("Shape", ["x"], ["s"]), node("Slice", ["s", "two", "four"], ["hw"])]
    cut = model(
        [*shape, node("Slice", ["x", "zero", "hw", "ax"], ["y"])],
        [tensor("x", [1, 3, 8, 8])],
        ["y"],
        [ints("two", [2]), ints("four", [4]), ints("zero", [0, 0]), ints("ax", [2, 3])],
        opset=11,
    )
    assert errors(cut, "8.2") == errors(cut, "7.1") == []
    cut.graph.node[2].input[3] = "fed"
    cut.graph.input.append(tensor("fed", [2], TensorProto.INT64))
    assert errors(cut, "8.2") == errors(cut, "10") == [("non-constant", "Slice_2")]


def test_normalisation_needs_stored_parameters_up_to_8_5() -> None:
    made = model(
        [CONV, node("GlobalAveragePool", ["a"], ["p"]), node("Reshape", ["p", "n"], ["s"]),
         node("InstanceNormalization", ["a", "s", "s"], ["y"])],
        [IMAGE],
        ["y"],
        [W, ints("n", [16])],
        opset=11,
    )  # fmt: skip
    for release in ("7.1", "8.2", "8.5"):
        assert errors(made, release) == [("non-constant", "InstanceNormalization_3")]
    assert "its scale and bias as a computed tensor" in messages(made, "8.2")
    assert errors(made, "8.6") == []


def test_clip_takes_computed_bounds_from_8_2_on() -> None:
    made = model([node("Clip", ["x", "low"], ["y"])], [IMAGE, tensor("low", [])], ["y"], opset=11)
    assert errors(made, "7.1") == [("non-constant", "Clip_0")]
    assert errors(made, "8.2") == []


def test_one_cause_is_one_finding_at_its_first_node() -> None:
    chain = [node("IsInf", ["x"], ["b0"])] + [node("IsInf", ["x"], [f"b{index}"]) for index in (1, 2)]
    (finding,) = lint_onnx(model(chain, [IMAGE], ["b2"], opset=13), NANO)
    assert (finding.rule, finding.node) == ("forbidden-op", "IsInf_0")
    assert finding.message.endswith("(3 nodes)")
    sizes = resized("sizes", mode="linear")
    assert [item.rule for item in lint_onnx(sizes, NANO) if item.severity == "warning"] == ["shape-arithmetic"]
    doubled = model(
        [node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE), node("Mul", ["d", "k"], ["y"])],
        [IMAGE],
        ["y"],
        [numpy_helper.from_array(np.array(0.5), "k")],
        opset=13,
    )
    assert [item.rule for item in lint_onnx(doubled, NANO)] == ["double"]


def test_quantized_graphs_need_symmetric_pairs_and_a_target_with_int8() -> None:
    def quantized(zero: np.generic) -> onnx.ModelProto:
        stored = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.asarray(zero), "z")]
        nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])]
        return model(nodes, [IMAGE], ["y"], stored, opset=13)

    assert [item.rule for item in lint_onnx(quantized(np.int8(0)), NANO)] == ["quantized"]
    assert errors(quantized(np.int8(0)), "8.6") == []
    assert (
        errors(quantized(np.int8(3)), "8.6")
        == errors(quantized(np.uint8(0)), "8.6")
        == [("zero-point", "QuantizeLinear_0")]
    )
    integer = one("ConvInteger", [1, 3, 8, 8], numpy_helper.from_array(np.ones((2, 3, 3, 3), np.int8), "w"), opset=13)
    integer.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    assert "QuantizeLinear and DequantizeLinear pairs" in messages(integer, "8.6")


def test_bodies_and_functions_are_checked() -> None:
    then = helper.make_graph([node("Shrink", ["x"], ["t"])], "then", [], [tensor("t", None)])
    other = helper.make_graph([node("Relu", ["x"], ["e"])], "else", [], [tensor("e", None)])
    branches = model(
        [node("If", ["c"], ["y"], then_branch=then, else_branch=other)],
        [IMAGE, tensor("c", [], TensorProto.BOOL)],
        ["y"],
        opset=13,
    )
    assert errors(branches, "8.2") == [("forbidden-op", "Shrink_0")]
    made = helper.make_function("pkg", "F", ["a"], ["b"], [node("Mish", ["a"], ["b"])], [helper.make_opsetid("", 18)])
    call = model([node("F", ["x"], ["y"], domain="pkg")], [IMAGE], ["y"], opset=17, domains=["pkg"], functions=[made])
    assert errors(call, "8.6") == [("local-function", "F_0")]
    assert errors(call, "10") == []


def test_plugins_of_tensorrt_and_integer_indices_are_no_errors() -> None:
    made = model(
        [node("EfficientNMS_TRT", ["x", "ids"], ["y"], domain="TRT")],
        [IMAGE, tensor("ids", [1, 4], TensorProto.INT64)],
        ["y"],
        opset=11,
        domains=["TRT"],
    )
    assert errors(made, "8.2") == []


def test_external_data_and_invalid_graphs_do_not_crash(tmp_path: Path) -> None:
    rules = [item.rule for item in lint_onnx(external(tmp_path, size=1728), NANO)]
    assert rules == ["opset"]
    with (tmp_path / "w.data").open("r+b") as file:
        file.write(np.full(1, 1e9, np.float32).tobytes())
    assert "fp16-range" in [item.rule for item in lint_onnx(tmp_path / "net.onnx", JETPACK_5)]
    broken = model([node("Conv", ["x", "nope"], ["y"])], [IMAGE], ["y"], opset=13)
    found: list[LintFinding] = lint_onnx(broken, NANO)
    assert [item.rule for item in found] == ["invalid-graph"]
    assert "reads 'nope', which nothing computes" in found[0].message


def test_weights_beyond_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exports.lint._CHECKED_ELEMENTS", 100)
    made = model([CONV], [IMAGE], ["a"], [weight("w", 16, 3, 3, 3)], opset=13)
    assert [item.rule for item in lint_onnx(made, NANO)] == ["unchecked-weights"]
