"""Any ONNX file: work equals an independent count, dynamic sizes are bound, and every fault is one sentence."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from onnx_models import CONV, CONV_MACS, IMAGE, STRUCTURES, WORK, W, ints, model, node, one, tensor, weight
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from shared_data import SHARED

from exports import ExportError
from exports.onnx.static_graph import precision_of, static_graph

REFUSALS = (
    *(
        getattr(ort_errors, name)
        for name in ("Fail", "InvalidGraph", "InvalidArgument", "NotImplemented", "RuntimeException")
    ),
    ort_errors.InvalidProtobuf,
    DecodeError,
    RuntimeError,
)
FILES = sorted((SHARED / "inputs" / "onnx").glob("*.onnx"))


@pytest.mark.parametrize("name", WORK)
def test_every_operator_counts_its_work_from_its_own_shapes(name: str) -> None:
    graph = static_graph(WORK[name][0])
    assert graph.macs == WORK[name][1]
    assert graph.notes == ()


@pytest.mark.parametrize("name", STRUCTURES)
def test_bodies_branches_and_functions_are_counted(name: str) -> None:
    made, macs, words = STRUCTURES[name]
    graph = static_graph(made)
    assert graph.macs == macs
    assert (words in " ".join(graph.notes)) if words else graph.notes == ()
    assert all(graph.shapes[result] is not None for result in graph.results)


def independent_macs(path: Path) -> int:
    """Work of a file's own nodes, from the shapes of the tensors that ONNX Runtime computes.

    Raises:
        one of REFUSALS: ONNX Runtime does not run the file.
    """
    proto = onnx.inliner.inline_local_functions(onnx.load(path))
    names = [name for item in proto.graph.node for name in item.output if name]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    feeds = {
        item.name: np.ones([size if isinstance(size, int) and size > 0 else 1 for size in item.shape], kinds[item.type])
        for item in session.get_inputs()
    }
    shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    shapes.update({name: value.shape for name, value in feeds.items()})
    shapes.update({name: np.shape(value) for name, value in zip(names, session.run(names, feeds), strict=True)})
    total = 0
    for item in proto.graph.node:
        read = [shapes.get(name, ()) for name in item.input]
        made = next(shapes[name] for name in item.output if name)
        if item.op_type in ("Conv", "ConvInteger", "QLinearConv"):
            total += math.prod(made) * math.prod(read[3 if item.op_type == "QLinearConv" else 1][1:])
        elif item.op_type == "ConvTranspose":
            total += math.prod(read[0]) * math.prod(read[1][1:])
        elif item.op_type in ("MatMul", "MatMulInteger", "QLinearMatMul"):
            total += math.prod(made) * read[0][-1]
        elif item.op_type == "Gemm":
            flipped = any(entry.name == "transA" and entry.i for entry in item.attribute)
            total += math.prod(made) * read[0][0 if flipped else 1]
        elif item.op_type == "LSTM":
            total += math.prod(read[0][:2]) * (math.prod(read[1]) + math.prod(read[2]))
        elif item.op_type == "Einsum":
            total += read[0][0] * read[0][1] * math.prod(read[1])
    return total


@pytest.mark.skipif(not FILES, reason=f"no ONNX files at {SHARED / 'inputs' / 'onnx'}; set PARETOSEG_SHARED")
@pytest.mark.parametrize("path", [path for path in FILES if not path.stem.startswith("12")], ids=lambda path: path.stem)
def test_work_equals_an_independent_count_on_files_that_onnx_runtime_runs(path: Path) -> None:
    try:
        expected = independent_macs(path)
    except REFUSALS:  # ONNX Runtime does not run it: it is read to the end, or refused in a sentence
        with contextlib.suppress(ExportError):
            assert static_graph(path).macs >= 0
        return
    given = {"x": (1, 3, 1, 1)} if path.stem == "08b_minus1_hw" else None
    assert static_graph(path, given).macs == expected


@pytest.mark.parametrize("batch", [-1, 0, "n"])
def test_a_dynamic_batch_alone_is_one(batch: int | str) -> None:
    graph = static_graph(model([CONV], [tensor("x", [batch, 3, 16, 24])], ["a"], [W]))
    assert graph.macs == CONV_MACS
    assert graph.notes == ("the batch of input x is dynamic and is taken as 1",)


@pytest.mark.parametrize("sizes", [[1, 3, -1, -1], ["n", 3, "h", "w"], [0, 3, 0, 0], None])
def test_other_dynamic_sizes_are_given(sizes: list[int | str] | None) -> None:
    made = model([CONV], [tensor("x", sizes)], ["a"], [W])
    with pytest.raises(ExportError, match=r"must have static shapes, that of 'x' .*--input x=1x3x512x512"):
        static_graph(made)
    assert static_graph(made, {"x": (1, 3, 16, 24)}).macs == CONV_MACS
    if sizes is None or sizes[0] != 1:
        assert static_graph(made, {"x": (2, 3, 16, 24)}).macs == 2 * CONV_MACS


def test_a_named_size_is_the_same_everywhere() -> None:
    inputs = [tensor("ids", ["b", "t", 8]), tensor("mask", ["b", "t", 1])]
    made = model(
        [node("Mul", ["ids", "mask"], ["m"]), node("MatMul", ["m", "w"], ["y"])], inputs, ["y"], [weight("w", 8, 4)]
    )
    assert static_graph(made, {"ids": (1, 12, 8)}).macs == 12 * 32
    with pytest.raises(ExportError, match="--input ids=1x512x8 --input mask=1x512x1"):
        static_graph(made)


def test_sizes_that_do_not_fit_are_named() -> None:
    made = model([CONV], [tensor("x", [1, 3, -1, -1])], ["a"], [W])
    with pytest.raises(ExportError, match=r"shape 1x3x\?x\?, to which 1x4x8x8 does not fit"):
        static_graph(made, {"x": (1, 4, 8, 8)})
    with pytest.raises(ExportError, match=r'no input "x1"\. Did you mean "x"'):
        static_graph(made, {"x1": (1, 3, 8, 8)})


FAULTS = {
    "no operator set": "does not say which operator set",
    "an input that nothing computes": "reads 'nope', which nothing computes",
    "weights that do not fit": "does not fit its inputs",
    "a result that nothing computes": "returns 'z', which no operator computes",
    "nothing": "holds no operation",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_invalid_graph_is_one_sentence(fault: str) -> None:
    made = model([CONV], [IMAGE], ["a"], [W])
    if fault == "no operator set":
        del made.opset_import[:]
    elif fault == "an input that nothing computes":
        made.graph.node[0].input[1] = "nope"
    elif fault == "weights that do not fit":
        made.graph.initializer[0].dims[1] = 5
    elif fault == "a result that nothing computes":
        made.graph.output[0].name = "z"
    else:
        del made.graph.node[:]
    with pytest.raises(ExportError, match=FAULTS[fault]):
        static_graph(made)


def test_a_newer_operator_set_is_read_like_the_newest_one_and_noted() -> None:
    graph = static_graph(model([CONV], [IMAGE], ["a"], [W], opset=99))
    assert graph.macs == CONV_MACS
    assert "opset 99 is newer" in graph.notes[0]


def test_declared_shapes_do_not_overrule_computed_ones() -> None:
    made = model([CONV], [IMAGE], ["a"], [W])
    made.graph.output[0].CopyFrom(tensor("a", [1, 99, 16, 24]))
    assert static_graph(made).shapes["a"] == (1, 16, 16, 24)


def test_what_only_the_data_decides_is_counted_with_its_bound() -> None:
    nodes = [
        node("NonZero", ["x"], ["n"]),
        node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        node("MatMul", ["w", "f"], ["y"]),
    ]
    graph = static_graph(model(nodes, [tensor("x", [4, 6])], ["y"], [weight("w", 3, 2)]))
    assert graph.macs == 3 * 2 * 24
    assert "NonZero" in graph.notes[0]


def test_nodes_out_of_order_and_sparse_constants_are_read() -> None:
    values = helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0])
    places = helper.make_tensor("i", TensorProto.INT64, [2], [0, 5])
    bias = node("Constant", [], ["b"], sparse_value=helper.make_sparse_tensor(values, places, [16]))
    last = node("Relu", ["a"], ["y"])
    biased = node("Conv", ["x", "w", "b"], ["a"], pads=[1] * 4)
    graph = static_graph(model([last, biased, bias], [IMAGE], ["y"], [W]))
    assert [item.op for item in graph.nodes] == ["Conv", "Relu"]
    assert graph.macs == CONV_MACS


def external(folder: Path, *, location: str = "w.data", size: int | None = None, length: str = "1728") -> Path:
    """A model whose convolution's weights lie in another file of ``size`` bytes, or in none."""
    made = model([CONV], [IMAGE], ["a"], [W])
    stored = made.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", length)):
        stored.external_data.add(key=key, value=value)
    onnx.save(made, folder / "net.onnx")
    if size is not None:
        with (folder / "w.data").open("wb") as file:
            file.truncate(size)
    return folder / "net.onnx"


def test_external_data_is_checked_and_not_loaded(tmp_path: Path) -> None:
    assert static_graph(external(tmp_path, size=1728)).macs == CONV_MACS
    with pytest.raises(ExportError, match=r"w\.data, which ends too early \(17 bytes\)"):
        static_graph(external(tmp_path, size=17))
    for outside in ("../w.data", "/etc/passwd", "..\\w.data"):
        with pytest.raises(ExportError, match="lies outside its folder"):
            static_graph(external(tmp_path, location=outside))
    (tmp_path / "w.data").unlink()
    with pytest.raises(ExportError, match=r"w\.data, which is missing"):
        static_graph(external(tmp_path))


def test_huge_external_data_stays_on_the_disk(tmp_path: Path) -> None:
    path = external(tmp_path, size=1 << 40, length=str(1 << 40))
    assert static_graph(path).macs == CONV_MACS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no operation"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(100), "PyTorch"),
        (model([CONV], [IMAGE], ["a"], [W]).SerializeToString()[:900], "not a readable ONNX model"),
    ],
)
def test_what_is_no_model_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ExportError, match=words):
        static_graph(tmp_path / "net.onnx")


def test_a_file_over_what_protobuf_holds_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "net.onnx").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(ExportError, match=r"3\.0 GiB"):
        static_graph(tmp_path / "net.onnx")


def test_the_precision_is_that_of_most_work() -> None:
    half = model(
        [CONV], [tensor("x", [1, 3, 16, 24], TensorProto.FLOAT16)], ["a"], [weight("w", 16, 3, 3, 3, kind=np.float16)]
    )
    scale, zero = numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")
    rounded = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Conv", ["d", "w"], ["a"]),
    ]
    doubled = [node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE), node("Cast", ["d"], ["f"], to=TensorProto.FLOAT)]
    found = {
        "fp32": model([CONV], [IMAGE], ["a"], [W]),
        "fp16": half,
        "int8": model(rounded, [IMAGE], ["a"], [W, scale, zero]),
    }
    assert {name: precision_of(static_graph(made)) for name, made in found.items()} == {name: name for name in found}
    assert precision_of(static_graph(WORK["quantized conv"][0])) == "int8"
    scaled = model([*doubled, node("Conv", ["f", "w"], ["a"])], [IMAGE], ["a"], [W])
    assert precision_of(static_graph(scaled)) == "fp32"


def test_old_operator_sets_are_read() -> None:
    first = one("Add", [2, 3], weight("b", 3), opset=6, broadcast=1)
    assert static_graph(first).shapes["y"] == (2, 3)
    reshaped = model([node("Reshape", ["x"], ["y"], shape=[3, 2])], [tensor("x", [2, 3])], ["y"], opset=1)
    assert static_graph(reshaped).results == ("y",)
    assert static_graph(one("Reshape", [2, 3], ints("s", [-1]), opset=5)).shapes["y"] == (6,)


def _renamed(made: onnx.ModelProto) -> bytes:
    made.graph.node[0].output[0] = "a~~"
    made.graph.output[0].name = "a~~"
    return made.SerializeToString().replace(b"a~~", b"a\xff\xfe")


MALFORMED = {
    "a name that is no text": _renamed(model([CONV], [IMAGE], ["a"], [W])),
    "an If without branches": model(
        [node("If", ["c"], ["y"])], [tensor("c", [], TensorProto.BOOL)], ["y"]
    ).SerializeToString(),
    "an Einsum with too few operands": one("Einsum", [2, 3], equation="ij,jk->ik").SerializeToString(),
    "a LSTM without weights": one("LSTM", [2, 3, 4], hidden_size=5).SerializeToString(),
    "a shape of 2**40 dimensions": model(
        [node("Expand", ["x", "s"], ["y"])], [IMAGE, tensor("s", [1 << 40], TensorProto.INT64)], ["y"]
    ).SerializeToString(),
    "a split into 2**40 parts": model(
        [node("SplitToSequence", ["x"], ["s"]), node("SequenceLength", ["s"], ["y"])], [tensor("x", [1 << 40])], ["y"]
    ).SerializeToString(),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_node_is_one_sentence(fault: str, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(MALFORMED[fault])
    with pytest.raises(ExportError, match=r"net\.onnx.*Export it again\."):
        static_graph(tmp_path / "net.onnx")


def test_constants_that_would_fill_the_memory_keep_their_shape_only() -> None:
    nodes = [
        node("ConstantOfShape", ["n"], ["zeros"]),
        node("Range", ["a", "b", "c"], ["r"]),
        node("Mul", ["x", "x"], ["y"]),
    ]
    limits = [
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in (("a", 0), ("b", 1 << 40), ("c", 1))
    ]
    graph = static_graph(
        model(nodes, [tensor("x", [4])], ["y", "zeros", "r"], [ints("n", [1 << 20, 1 << 20]), *limits])
    )
    assert (graph.shapes["zeros"], graph.shapes["r"]) == ((1 << 20, 1 << 20), (1 << 40,))
    assert {"zeros", "r"} <= graph.constants


def test_a_loop_that_runs_too_often_is_one_sentence() -> None:
    made = STRUCTURES["loop with a known count"][0]
    endless = onnx.ModelProto()
    endless.CopyFrom(made)
    next(item for item in endless.graph.initializer if item.name == "n").CopyFrom(
        numpy_helper.from_array(np.array(1 << 40, np.int64), "n")
    )
    with pytest.raises(ExportError, match="too long to be counted"):
        static_graph(endless)
