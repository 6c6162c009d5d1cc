"""The agent's results file: what is read back is what was measured, after every kind of cut."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_latency_model.agent import paretoseg_agent as agent

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def record(number: int) -> dict[str, object]:
    return {"type": "measurement", "job_id": f"j{number}", "latency_ms_p50": 17.25 + number}


@settings(max_examples=100, deadline=None)
@given(value=st.dictionaries(st.text(max_size=8).filter(lambda key: key != "crc"), JSON, max_size=6))
def test_a_line_is_read_back_as_it_was(value: dict[str, object]) -> None:
    line = agent.encode_line({**value, "type": "end"})
    assert line.count(b"\n") == 1
    assert agent.decode_line(line) == {**value, "type": "end"}


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_one_changed_byte_is_noticed(at: int, byte: int) -> None:
    line = agent.encode_line(record(1)).rstrip(b"\n")
    at %= len(line)
    changed = line[:at] + bytes([byte]) + line[at + 1 :]
    assert agent.decode_line(changed) in ([record(1)] if changed == line else [None])


@pytest.mark.parametrize("keep", range(0, 120, 7))
def test_a_torn_tail_is_removed_and_the_file_goes_on(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "results.jsonl"
    whole, last = agent.encode_line(record(1)), agent.encode_line(record(2))
    path.write_bytes(whole + last[: min(keep, len(last) - 2)])
    results = agent.ResultsFile(path)
    results.append(record(3))
    assert agent.read_results(path) == ([record(1), record(3)], 0)


def test_a_line_that_lost_only_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(agent.encode_line(record(1)).rstrip(b"\n"))
    results = agent.ResultsFile(path)
    results.append(record(2))
    assert agent.read_results(path) == ([record(1), record(2)], 0)


def test_damage_in_the_middle_is_counted_and_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    spoilt = agent.encode_line(record(2)).replace(b"19.25", b"19.26")
    path.write_bytes(agent.encode_line(record(1)) + spoilt + b"\x00\xff\n" + agent.encode_line(record(3)))
    assert agent.read_results(path) == ([record(1), record(3)], 2)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    results = agent.ResultsFile(path)
    results.append(record(1))
    real = os.write

    def short_write(handle: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[:40])

    monkeypatch.setattr(os, "write", short_write)
    with pytest.raises(agent.StopEarly, match="disk full"):
        results.append(record(2))
    assert path.read_bytes() == agent.encode_line(record(1))


def test_finished_jobs_are_those_of_the_same_file_precision_and_profile(tmp_path: Path) -> None:
    results = agent.ResultsFile(tmp_path / "results.jsonl")
    base = {"job_id": "a", "sha256": "1", "precision": "fp16", "power_profile": None}
    results.append({**base, "type": "measurement"})
    results.append({**base, "job_id": "b", "type": "failure", "retry": False})
    results.append({**base, "job_id": "c", "type": "failure", "retry": True})
    assert set(results.finished(False)) == {("a", "1", "fp16", None), ("b", "1", "fp16", None)}
    assert set(results.finished(True)) == {("a", "1", "fp16", None)}


def test_confidence_is_that_of_the_median() -> None:
    wide = [10.0 + 0.1 * (index % 11) for index in range(40)]
    assert agent.median_confidence(wide[:5]) == float("inf")
    assert agent.median_confidence(wide * 20) < agent.median_confidence(wide)
    assert agent.percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert agent.half_drift([[10.0], [10.0], [12.0], [12.0]]) == pytest.approx(0.2)


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
        assert agent.onnx_precision(path) == name
        path.write_bytes(path.read_bytes()[:-7])
        assert agent.onnx_precision(path) in (None, name)


@pytest.mark.parametrize("change", [{"min_runs": "many"}, {"speed": 1}, {"max_s": -1}, {"warmup_s": True}])
def test_a_wrong_protocol_is_refused_by_name(change: dict[str, object]) -> None:
    with pytest.raises(agent.UserMistake, match=next(iter(change))):
        agent.read_settings(change)


def test_a_wrong_job_list_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "jobs.json"
    good = {"format": "paretoseg jobs", "version": 1, "jobs": [{"id": "a", "onnx": "a.onnx", "sha256": "0"}]}
    cases = [
        ("{", "is no job list"),
        (json.dumps({**good, "version": 2}), "version 1"),
        (json.dumps({**good, "backend": "tvm"}), "no backend 'tvm'"),
        (json.dumps({**good, "jobs": good["jobs"] * 2}), "comes twice"),
        (json.dumps({**good, "jobs": [{"id": "a", "onnx": "a.onnx"}]}), "no sha256"),
        (json.dumps({**good, "reference": {"onnx": "missing.onnx"}}), "is missing"),
    ]
    for text, words in cases:
        path.write_text(text)
        with pytest.raises(agent.UserMistake, match=words):
            agent.JobList(path)
