"""Reading results: nothing that a cable, a stick or a mistake can do to the file is believed."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from hw_latency_model import kernels_from_onnx
from hw_latency_model.agent.results import encode_line
from hw_latency_model.board.results import BoardResults, KnownJob, kernel_shares, read_results, record_crc
from hw_latency_model.board.session import BoardSession
from hw_latency_model.local.reference_network import write_reference
from hw_latency_model.store.measurement_store import MeasurementStore
from hw_latency_model.types import KernelSpec
from search_spaces._common.errors import UserError

SHA = hashlib.sha256(b"network").hexdigest()
JOBS = {name: KnownJob(name, f"net-{name}", SHA, "network", ()) for name in ("a", "b", "c")}
BOARD = {
    "type": "board",
    "run_id": "r1",
    "fingerprint": {"board": "Nano", "clocks_locked": True},
    "settings": {"rounds": 5},
}


def measurement(job: str = "a", **changes: Any) -> dict[str, Any]:
    record = {
        "type": "measurement",
        "run_id": "r1",
        "job_id": job,
        "sha256": SHA,
        "latency_ms_p50": 10.0,
        "latency_ms_p90": 10.5,
        "latency_ms_p99": 11.25,
        "samples_ms": [10.0, 10.25],
        "runs": 200,
        "reference_ms": 3.0,
        "drift_rel": 0.004,
        "confidence_rel": 0.002,
        "energy_mj_gross": 60.0,
        "energy_mj_net": 40.0,
        "power_mw": 6000.0,
        "build_s": 600.0,
        "temp_c_end": 45.5,
        "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": "2026-01-01T00:10:20+00:00",
    }
    return {**record, **changes}


def text(*records: dict[str, Any]) -> bytes:
    return b"".join(encode_line(record) for record in records)


def read(data: bytes) -> BoardResults:
    return read_results(data, JOBS, device="jetson-nano", precision="fp16")


def test_what_the_agent_wrote_comes_back_as_measurements() -> None:
    failure = {
        "type": "failure",
        "run_id": "r1",
        "job_id": "b",
        "sha256": SHA,
        "reason": "out of memory",
        "log_tail": "…",
    }
    results = read(text(BOARD, measurement(), failure, {"type": "end", "run_id": "r1"}))
    (found,) = results.measurements
    assert (found.subject, found.device, found.precision, found.latency_ms_p99) == (
        "net-a",
        "jetson-nano",
        "fp16",
        11.25,
    )
    assert found.fingerprint == {"board": "Nano", "clocks_locked": True, "device": "jetson-nano"}
    assert (found.energy_mj, found.energy_net_mj, found.power_mw, found.temp_c) == (60.0, 40.0, 6000.0, 45.5)
    assert (found.noise_rel, found.samples_ms, found.build_s) == (0.004, (10.0, 10.25), 600.0)
    assert results.protocols == ({"rounds": 5},)
    assert results.seconds == {"a": (620.0, 600.0)}
    assert [failure.reason for failure in results.failures] == ["out of memory"]
    assert results.done == {"a", "b"} and results.ended and not results.damaged and not results.refused


def test_a_failure_that_may_pass_is_not_done_and_a_later_measurement_replaces_it() -> None:
    failure = {"type": "failure", "run_id": "r1", "job_id": "a", "sha256": SHA, "reason": "busy", "retry": True}
    assert read(text(BOARD, failure)).done == frozenset()
    results = read(text(BOARD, failure, measurement()))
    assert results.done == {"a"} and results.failures == ()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (measurement(sha256="0" * 64), "another file than the one that was sent"),
        (measurement("zz"), "belongs to no job of this calibration"),
        (measurement(run_id="r2"), "on a board that the file does not describe"),
        (measurement(precision="fp32"), "measured in fp32, not in fp16"),
        (measurement(latency_ms_p90=9.0), "percentiles"),
        (measurement(latency_ms_p50=-1.0), "latency_ms_p50 is -1"),
        (measurement(latency_ms_p50=True), "latency_ms_p50 is True"),
        (measurement(runs=0), "0 runs"),
        (measurement(reference_ms=None), "reference_ms is None"),
        (measurement(samples_ms=["fast"]), "samples_ms is 'fast'"),
        ({key: value for key, value in measurement().items() if key != "runs"}, "runs is missing"),
    ],
)
def test_whole_lines_that_cannot_be_true_are_refused_with_the_reason(record: dict[str, Any], message: str) -> None:
    results = read(text(BOARD, record))
    assert results.measurements == () and results.done == frozenset()
    assert len(results.refused) == 1 and message in results.refused[0]


def test_a_torn_line_costs_one_measurement_and_no_other() -> None:
    whole = text(BOARD, measurement("a"), measurement("b"))
    for cut in range(len(text(BOARD)), len(whole)):
        results = read(whole[:cut])
        assert len(results.measurements) in (0, 1)
        assert all(item.latency_ms_p50 == 10.0 for item in results.measurements)
    torn = text(measurement("b"))[:-40]
    glued = read(text(BOARD, measurement("a")) + torn + text(measurement("c")))
    assert [item.subject for item in glued.measurements] == ["net-a", "net-c"]
    assert glued.damaged == 1


def test_no_flipped_bit_is_believed() -> None:
    whole = text(BOARD, measurement())
    rng = random.Random(0)
    for _ in range(2000):
        place, bit = rng.randrange(len(whole) * 8) // 8, rng.randrange(8)
        data = bytearray(whole)
        data[place] ^= 1 << bit
        results = read(bytes(data))
        kept = [item.to_dict() for item in results.measurements]
        assert kept == [] or kept == [item.to_dict() for item in read(whole).measurements]


def test_garbage_between_the_lines_is_counted_and_passed_over() -> None:
    garbage = b'\x00\x00\xff\xfe{"type": "measurement"}\n[1, 2]\nnull\n\n' + b"{" * 3000 + b"\n"
    nan = json.dumps({**measurement("b"), "latency_ms_p50": float("nan"), "crc": 0}).encode() + b"\n"
    results = read(text(BOARD) + garbage + nan + text(measurement("a")))
    assert [item.subject for item in results.measurements] == ["net-a"]
    assert results.damaged == 5


def kernel(name: str, *nodes: str, macs: int = 100, size: int = 10) -> KernelSpec:
    return KernelSpec("conv", name, macs, size, 1, size, nodes=nodes or (name,))


def test_a_chains_profile_gives_each_kernel_its_share() -> None:
    kernels = [kernel("Conv_0", "Conv_0", "Relu_1"), kernel("Conv_2", size=30), kernel("Pool_3", macs=0)]
    layers = [
        ["Conv_0 + Relu_1", 2.0],
        ["Reformatting CopyNode for Input Tensor 0 to Conv_2", 0.5],
        ["Conv_2", 6.0],
        ["Pool_3", 2.0],
    ]
    assert kernel_shares(kernels, layers) == pytest.approx((0.2, 0.6, 0.2))
    assert kernel_shares(kernels, [["Conv_0 + Relu_1 + Conv_2", 8.0], ["Pool_3", 2.0]]) == pytest.approx(
        (0.8 * 21 / 82, 0.8 * 61 / 82, 0.2)
    )


def test_a_profile_that_does_not_explain_the_time_gives_none() -> None:
    kernels = [kernel("Conv_0"), kernel("Conv_2")]
    assert kernel_shares(kernels, [["Conv_0", 1.0], ["Conv_2", 1.0], ["{ForeignNode[x]}", 3.0]]) == ()
    assert kernel_shares(kernels, [["Conv_0", 1.0]]) == ()
    assert kernel_shares(kernels, []) == ()


def test_a_session_remembers_jobs_kernels_and_where_to_go_on(tmp_path: Path) -> None:
    kernels = tuple(kernels_from_onnx(write_reference(tmp_path / "reference.onnx"), runtime="tensorrt"))
    session = BoardSession(tmp_path / "session", device="jetson-nano", precision="fp16")
    jobs = [KnownJob(name, f"net-{name}", SHA, "network", kernels, "resnet") for name in ("a", "b")]
    session.add_batch(jobs, [600.0, 300.0])
    data = text(BOARD, measurement("a"))
    session.append(data + b'{"torn')
    again = BoardSession(tmp_path / "session", device="jetson-nano", precision="fp16")
    assert again.id == session.id and again.offset == len(data)
    assert again.jobs()["b"].kernels == kernels
    assert again.jobs()["b"].kernels[0].nodes == kernels[0].nodes != ()
    results = again.results()
    assert results.measurements[0].kernels == kernels and results.damaged == 0
    waiting = again.open_batch(results)
    assert waiting is not None and waiting.seconds == (600.0, 300.0)
    again.start_over()
    assert again.offset == 0
    again.append(text(BOARD, measurement("b")))
    assert again.results().done == {"a", "b"} and again.open_batch(again.results()) is None


def test_results_carried_twice_count_once(tmp_path: Path) -> None:
    session = BoardSession(tmp_path / "session", device="jetson-nano", precision="fp16")
    session.add_batch(list(JOBS.values()), [1.0, 1.0, 1.0])
    carried = tmp_path / "results.jsonl"
    carried.write_bytes(text(BOARD, measurement("a")))
    session.import_results([carried])
    session.import_results([carried])
    carried.write_bytes(text(BOARD, measurement("a"), {**BOARD, "run_id": "r2"}, measurement("b", run_id="r2")))
    session.import_results([carried])
    assert [item.subject for item in session.results().measurements] == ["net-a", "net-b"]


def test_a_session_of_another_device_is_not_gone_on_with(tmp_path: Path) -> None:
    BoardSession(tmp_path, device="jetson-nano", precision="fp16")
    with pytest.raises(
        UserError, match=r"holds the calibration of jetson-nano in fp16.*another calibration\.output_dir"
    ):
        BoardSession(tmp_path, device="jetson-nano", precision="fp32")
    (tmp_path / "session.json").write_text("{")
    with pytest.raises(UserError, match=r"session\.json is damaged"):
        BoardSession(tmp_path, device="jetson-nano", precision="fp16")


def hostile(job: str, text_of_value: str, key: str = "latency_ms_p50") -> bytes:
    """A line with a valid checksum, as somebody who knows the format writes it."""
    content = json.dumps(measurement(job, **{key: 123454321})).replace("123454321", text_of_value)
    return f'{content[:-1]}, "crc": {record_crc(json.loads(content))}}}\n'.encode()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latency_ms_p50", "9" * 400),
        ("latency_ms_p50", "1e999"),
        ("latency_ms_p50", "1e308"),
        ("latency_ms_p50", "5e-324"),
        ("runs", "9" * 400),
        ("runs", str(2**63 - 1)),
        ("repeats", "9" * 400),
        ("repeats", '"' + "9" * 400 + '"'),
        ("energy_mj_gross", "1e308"),
        ("drift_rel", "-1e300"),
        ("started_at", '"\\ud800"'),
    ],
)
def test_a_line_with_impossible_numbers_or_text_is_refused_alone(tmp_path: Path, key: str, value: str) -> None:
    results = read(text(BOARD) + hostile("a", value, key) + text(measurement("b")))
    assert [item.subject for item in results.measurements] == ["net-b"]
    assert results.damaged + len(results.refused) == 1 and all(len(said) < 300 for said in results.refused)
    with MeasurementStore(tmp_path / "measurements.sqlite") as store:
        for item in results.measurements:
            store.add(item)


def test_results_that_would_fill_the_memory_are_refused_before_they_are_read(tmp_path: Path) -> None:
    session = BoardSession(tmp_path / "session", device="jetson-nano", precision="fp16")
    sparse, pipe = tmp_path / "results.jsonl", tmp_path / "pipe.jsonl"
    with sparse.open("wb") as file:
        file.truncate(10**12)
    os.mkfifo(pipe)
    for path in (sparse, pipe):
        with pytest.raises(UserError, match=path.name):
            session.import_results([path])
