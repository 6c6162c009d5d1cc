"""The agent's other backends: trtexec (replayed logs), ONNX Runtime (measured for real), torch without CUDA."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fake_board.harness import Kit, fake_onnx
from fake_board.tree import HERE, TRTEXEC_10, TRTEXEC_71, TRTEXEC_80, FakeBoard, install_trtexec
from trtexec_logs import log_7

from hw_latency_model.agent.trtexec import trt_version_text
from hw_latency_model.local.reference_network import write_reference


@pytest.fixture
def logs(shared_dir: Path) -> dict[str, str]:
    folder = shared_dir / "fixtures"
    return {
        "run.log": (folder / "trtexec_nano/fast_scnn_384x384_fp16.log").read_text(),
        "failed.log": (folder / "trtexec_other/trt8_hardswish_import_error.log").read_text(),
    }


@pytest.mark.parametrize(("version", "options"), [("8001", TRTEXEC_80), ("100300", TRTEXEC_10)], ids=["8.0.1", "10.3"])
def test_trtexec_is_driven_with_the_options_it_has(
    board: FakeBoard, kit: Kit, logs: dict[str, str], version: str, options: list[str]
) -> None:
    install_trtexec(board, logs, version=version, options=options)
    networks = {"good": fake_onnx(), "bad": fake_onnx(fate="failed")}
    kit.write(networks, backend="trtexec", power_profile="maxn", protocol={"energy_s": 1.0 if version == "8001" else 0})
    done = kit.run(board.environment())
    assert done.returncode == 0, done.stderr
    measured = kit.measured()["good"]
    assert measured["latency_ms_p50"] == pytest.approx(16.8038, rel=0.005), "the median in the recorded log"
    assert measured["build_s"] == 207.897
    assert measured["end_to_end_ms_p50"] == pytest.approx(measured["latency_ms_p50"] + 0.24, abs=0.1)
    if version == "8001":
        assert measured["energy_mj_gross"] > measured["energy_mj_net"] > 0
        assert measured["power_mw"] == pytest.approx(6000, rel=0.2)
    failure = kit.records("failure")[0]
    assert "HardSwish" in failure["reason"]
    assert "No importer registered for op: HardSwish" in failure["log_tail"]
    calls = (board.root / "trtexec.calls").read_text()
    assert ("--memPoolSize=workspace:512" in calls) == (version == "100300")
    assert kit.records("board")[0]["tensorrt"] == trt_version_text(version)


def test_trtexec_of_tensorrt_7_is_driven_without_the_options_of_8(
    board: FakeBoard, kit: Kit, logs: dict[str, str]
) -> None:
    """JetPack 4.4 and 4.5: no version in the log, no count of queries, other names in the exported times."""
    install_trtexec(board, {**logs, "run.log": log_7()}, version="7103", options=TRTEXEC_71)
    (board.root / "var/lib/dpkg/status").write_text("Package: libnvinfer7\nStatus: ok\nVersion: 7.1.3-1+cuda10.2\n\n")
    kit.write({"good": fake_onnx()}, backend="trtexec", power_profile="maxn", protocol={"energy_s": 1.0})
    done = kit.run(board.environment())
    assert done.returncode == 0, done.stderr
    measured = kit.measured()["good"]
    assert measured["latency_ms_p50"] == pytest.approx(3.625, rel=0.01)
    assert measured["end_to_end_ms_p50"] == pytest.approx(measured["latency_ms_p50"] + 0.24, abs=0.1)
    assert measured["energy_mj_gross"] > 0
    assert "--explicitBatch" in (board.root / "trtexec.calls").read_text()
    assert kit.records("board")[0]["tensorrt"] == "7.1.3"


@pytest.mark.parametrize("garbage", ["log", "times"])
def test_trtexec_output_that_cannot_be_read_is_no_measurement(
    board: FakeBoard, kit: Kit, logs: dict[str, str], garbage: str
) -> None:
    install_trtexec(board, logs, version="8001", options=TRTEXEC_80, garbage=[garbage])
    kit.write({"net": fake_onnx()}, backend="trtexec")
    assert kit.run(board.environment()).returncode == 0
    assert not kit.measured()
    assert "can be read" in kit.records("failure")[0]["reason"]


def test_trtexec_is_the_second_choice_where_python_has_no_tensorrt(
    board: FakeBoard, kit: Kit, logs: dict[str, str]
) -> None:
    install_trtexec(board, logs, version="8001", options=TRTEXEC_80)
    kit.write({"net": fake_onnx()})
    assert kit.run(board.environment()).returncode == 0
    assert kit.measured()["net"]["backend"] == "trtexec"


def test_no_backend_at_all_is_told_one_by_one(board: FakeBoard, kit: Kit) -> None:
    kit.write({"net": fake_onnx()})
    done = kit.run(board.environment())
    assert done.returncode == 2
    for words in ("No module named 'tensorrt'", "trtexec was not found", "No module named 'onnxruntime'"):
        assert words in done.stderr
    assert not kit.results.exists() or not kit.measured()


def test_onnx_runtime_measures_a_real_network(tmp_path: Path) -> None:
    """This machine, this Python, a real ONNX: no board, so no clocks to lock and no power rail, and the result says so."""
    reference = write_reference(tmp_path / "reference.onnx").read_bytes()
    kit = Kit(tmp_path / "kit", sys.executable)
    kit.write(
        {"net": reference, "broken": reference[:2000]},
        reference,
        backend="onnxruntime",
        precision="fp32",
        protocol={"max_repeats": 0, "max_drift_rel": 0.5, "energy_s": 0.1},
    )
    done = kit.run({"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    measured = kit.measured()["net"]
    assert measured["latency_ms_p50"] == pytest.approx(measured["reference_ms"], rel=0.5)
    assert len(measured["samples_ms"]) == measured["runs"] >= 20
    assert measured["memory_peak_mb"] > 0
    assert (measured["power_rail"], measured["power_note"]) == (None, "no power rail")
    assert measured["provider"] == "CPUExecutionProvider"
    assert "cannot load" in kit.records("failure")[0]["reason"]
    facts = kit.records("board")[0]
    assert not facts["clocks_locked"]
    assert facts["fingerprint"]["threads"] == 1


def test_onnx_runtime_does_not_call_fp32_fp16_and_times_each_kernel(tmp_path: Path) -> None:
    reference = write_reference(tmp_path / "reference.onnx").read_bytes()
    kit = Kit(tmp_path / "kit", sys.executable)
    kit.write({"net": reference}, reference, backend="onnxruntime", precision="fp16")
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    assert kit.run(environment).returncode == 0
    assert "own precision, which is fp32" in kit.records("failure")[0]["reason"]
    jobs = json.loads((kit.folder / "jobs.json").read_text())["jobs"]
    kit.edit(precision="fp32", jobs=[{**jobs[0], "kind": "kernels"}])
    assert kit.run(environment).returncode == 0
    layers = kit.measured()["net"]["layers"]
    assert len(layers) > 20
    assert sum(ms for _, ms in layers) == pytest.approx(kit.measured()["net"]["latency_ms_p50"], rel=1.0)
    assert not list(kit.work.glob("ort-profile*"))


def test_torch_replays_a_cuda_graph(tmp_path: Path) -> None:
    """Against a stand-in that enforces the order of calls; a job without TorchScript says what it needs."""
    kit = Kit(tmp_path / "kit", sys.executable)
    kit.write({"net": b"x", "bare": b"y"}, backend="torch", precision="fp16", protocol={"warmup_s": 0.01})
    for name in ("net", "reference"):
        (kit.folder / f"{name}.pt").write_text('{"ms": 2.0}')
    value = json.loads((kit.folder / "jobs.json").read_text())
    traced = [{"torchscript": f"{name}.pt", "input_shape": [1, 3, 32, 32]} for name in ("net", "reference")]
    jobs = [{**value["jobs"][0], **traced[0]}, value["jobs"][1]]
    kit.edit(jobs=jobs, reference={**value["reference"], **traced[1]})
    done = kit.run({"PATH": "/usr/bin:/bin", "PYTHONPATH": str(HERE / "site_torch")})
    assert done.returncode == 0, done.stderr
    measured = kit.measured()["net"]
    assert measured["latency_ms_p50"] == pytest.approx(1.2, rel=1e-3)
    assert (measured["memory_peak_mb"], measured["provider"]) == (64.0, "stand-in")
    assert "needs torchscript" in kit.records("failure")[0]["reason"]


def test_torch_without_cuda_is_told(tmp_path: Path) -> None:
    kit = Kit(tmp_path / "kit", sys.executable)
    kit.write({"net": b"x"}, backend="torch")
    done = kit.run({"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert "torch sees no CUDA device" in done.stderr


def test_a_power_profile_on_a_machine_without_modes_is_refused(tmp_path: Path) -> None:
    kit = Kit(tmp_path / "kit", sys.executable, tmp_path / "empty")
    kit.write({"net": b"x"}, backend="onnxruntime", power_profile="maxn")
    done = kit.run({"PATH": "/usr/bin:/bin"})
    assert done.returncode == 2
    assert "leave power_profile out" in done.stderr
