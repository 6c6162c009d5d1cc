"""`paretoseg predict` on files of other exporters: sizes, precision, notes, and one sentence for every fault."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from hw_latency_model import LatencyModel
from trial_runner.cli.console import say_json
from trial_runner.cli.main import main

sys.path.insert(0, str(Path(__file__).parents[1] / "exports"))
from onnx_models import CONV, IMAGE, STRUCTURES, W, model, node, tensor, weight


def predict(
    capsys: pytest.CaptureFixture[str], made: onnx.ModelProto, folder: Path, *options: str
) -> tuple[int, str, str]:
    """Status, output and errors of the command for the Jetson Nano's bundled model."""
    onnx.save(made, folder / "net.onnx")
    status = main(["predict", str(folder / "net.onnx"), "--device", "jetson-nano", *options])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_dynamic_sizes_are_given_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = model([CONV], [tensor("x", [1, 3, -1, -1])], ["a"], [W])
    status, _, error = predict(capsys, made, tmp_path)
    assert status == 2
    assert "--input x=1x3x512x512" in error
    status, out, _ = predict(capsys, made, tmp_path, "--input", "x=1x3x512x512", "--json")
    small = predict(capsys, made, tmp_path, "--input", "x=1x3x64x64", "--json")[1]
    assert status == 0
    assert json.loads(out)["latency_ms"] > 5 * json.loads(small)["latency_ms"]
    assert "notes" not in json.loads(out)


@pytest.mark.parametrize("option", ["x", "x=", "x=1x3xHxW", "=1x3", "x=1x3x0x8", "x=-1x3x8x8"])
def test_a_size_of_another_form_is_refused(option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, error = predict(capsys, model([CONV], [IMAGE], ["a"], [W]), tmp_path, "--input", option)
    assert (status, "NAME=1x3x512x512" in error) == (2, True)


def test_assumptions_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = model([CONV], [tensor("x", ["n", 3, 16, 24])], ["a"], [W])
    assert "note: the batch of input x is dynamic and is taken as 1\n" in predict(capsys, made, tmp_path)[1]
    out = predict(capsys, STRUCTURES["a custom operator"][0], tmp_path, "--json")[1]
    assert json.loads(out)["unknown_kinds"] == ["op:acme.MyNorm"]
    assert "acme.MyNorm" in json.loads(out)["notes"][0]


def test_the_precision_is_the_files_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    half = model(
        [CONV], [tensor("x", [1, 3, 16, 24], TensorProto.FLOAT16)], ["a"], [weight("w", 16, 3, 3, 3, kind=np.float16)]
    )
    assert json.loads(predict(capsys, half, tmp_path, "--json")[1])["precision"] == "fp16"
    status, _, error = predict(capsys, half, tmp_path, "--precision", "fp32")
    assert (status, "is an fp16 file" in error) == (2, True)
    full = model([CONV], [IMAGE], ["a"], [W])
    assert json.loads(predict(capsys, full, tmp_path, "--json")[1])["precision"] == "fp32"
    assert json.loads(predict(capsys, full, tmp_path, "--precision", "fp16", "--json")[1])["precision"] == "fp16"
    double = model(
        [CONV], [tensor("x", [1, 3, 16, 24], TensorProto.DOUBLE)], ["a"], [weight("w", 16, 3, 3, 3, kind=np.float64)]
    )
    status, _, error = predict(capsys, double, tmp_path)
    assert (status, "works in fp64" in error) == (2, True)


def test_views_alone_are_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, error = predict(capsys, model([node("Flatten", ["x"], ["y"])], [IMAGE], ["y"]), tmp_path, "--json")
    assert (status, out) == (2, "")
    assert error.splitlines()[-1].startswith("paretoseg: ")
    assert "no operation that takes time" in error and "Traceback" not in error


def test_json_never_holds_nan(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_json({"a": float("nan"), "b": [1.5, float("inf")]})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None]}
    whole = LatencyModel.predict

    def broken(self: LatencyModel, kernels: object) -> object:
        estimate = whole(self, kernels)  # type: ignore[arg-type]
        object.__setattr__(estimate, "high_ms", float("nan"))
        return estimate

    monkeypatch.setattr(LatencyModel, "predict", broken)
    status, out, error = predict(capsys, model([CONV], [IMAGE], ["a"], [W]), tmp_path, "--json")
    assert (status, out) == (2, "")
    assert "cannot be computed" in error


@pytest.mark.parametrize(
    ("offset", "length", "said"),
    [
        (1 << 40, 1728, "ends too early"),
        (0, (1 << 40) + 1, "ends too early"),
        (-1, 1728, "ends too early"),
        (0, 1 << 40, None),  # more than the tensor holds: nothing of it is read
    ],
)
def test_external_data_of_a_terabyte_is_never_read(
    offset: int, length: int, said: str | None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = model([CONV], [IMAGE], ["a"], [W])
    stored = made.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.data"), ("offset", str(offset)), ("length", str(length))):
        stored.external_data.add(key=key, value=value)
    with (tmp_path / "w.data").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    status, _, error = predict(capsys, made, tmp_path)
    assert "Traceback" not in error
    assert (
        (status, error) == (0, "") if said is None else status == 2 and said in error and len(error.splitlines()) == 1
    )
