"""The agent's results file: what is read back is what was measured, after every kind of cut."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from hw_latency_model.agent.errors import StopEarly
from hw_latency_model.agent.results import ResultsFile, decode_line, encode_line, read_results

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
    line = encode_line({**value, "type": "end"})
    assert line.count(b"\n") == 1
    assert decode_line(line) == {**value, "type": "end"}


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_one_changed_byte_is_noticed(at: int, byte: int) -> None:
    line = encode_line(record(1)).rstrip(b"\n")
    at %= len(line)
    changed = line[:at] + bytes([byte]) + line[at + 1 :]
    assert decode_line(changed) in ([record(1)] if changed == line else [None])


@pytest.mark.parametrize("keep", range(0, 120, 7))
def test_a_torn_tail_is_removed_and_the_file_goes_on(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "results.jsonl"
    whole, last = encode_line(record(1)), encode_line(record(2))
    path.write_bytes(whole + last[: min(keep, len(last) - 2)])
    results = ResultsFile(path)
    results.append(record(3))
    assert read_results(path) == ([record(1), record(3)], 0)


def test_a_line_that_lost_only_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(encode_line(record(1)).rstrip(b"\n"))
    results = ResultsFile(path)
    results.append(record(2))
    assert read_results(path) == ([record(1), record(2)], 0)


def test_damage_in_the_middle_is_counted_and_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    spoilt = encode_line(record(2)).replace(b"19.25", b"19.26")
    path.write_bytes(encode_line(record(1)) + spoilt + b"\x00\xff\n" + encode_line(record(3)))
    assert read_results(path) == ([record(1), record(3)], 2)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.jsonl"
    results = ResultsFile(path)
    results.append(record(1))
    real = os.write

    def short_write(handle: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[:40])

    monkeypatch.setattr(os, "write", short_write)
    with pytest.raises(StopEarly, match="disk full"):
        results.append(record(2))
    assert path.read_bytes() == encode_line(record(1))


def test_finished_jobs_are_those_of_the_same_file_precision_and_profile(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "results.jsonl")
    base = {"job_id": "a", "sha256": "1", "precision": "fp16", "power_profile": None}
    results.append({**base, "type": "measurement"})
    results.append({**base, "job_id": "b", "type": "failure", "retry": False})
    results.append({**base, "job_id": "c", "type": "failure", "retry": True})
    assert set(results.finished(False)) == {("a", "1", "fp16", None), ("b", "1", "fp16", None)}
    assert set(results.finished(True)) == {("a", "1", "fp16", None)}
