"""Parsers of trtexec on its recorded logs and exports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from agent_recordings import read
from trtexec_logs import COMMAND, COMPUTE, END_TO_END, HOST, STATISTICS, log_7, log_8

from hw_latency_model.agent.statistics import percentile
from hw_latency_model.agent.trtexec import (
    after_warm_up,
    parse_export_layers,
    parse_export_profile,
    parse_export_times,
    parse_trtexec,
    trt_version_text,
)


def test_every_trtexec_log(shared_dir: Path) -> None:
    """Version, whether it passed, build time and the median of GPU compute time, as a person reads them in the files."""
    expected = {
        "efficientdet-lite0_320_fp16": [("8.0.1", True, 645.854, 40.0618)],
        "fast_scnn_384x384_fp16": [("8.0.1", True, 207.897, 16.8038)],
        "fast_scnn_384x384_fp32": [("8.0.1", True, 134.219, 17.2108)],
        "fast_scnn_576x576_fp16": [("8.0.1", True, 337.625, 34.1415)],
        "fast_scnn_576x576_fp32": [("8.0.1", True, 211.131, 34.4341)],
        "fast_scnn_argmax_python_fp16": [],
        "trt8001_same_engine_with_exportProfile.tail": [("8.0.1", True, None, 39.9982)],
        "trt8001_same_engine_without_profiler.tail": [("8.0.1", True, None, 39.875)],
        "trt8201_nano4gb_ufld_culane18_fp32": [("8.2.1", True, 184.708, 90.0183)],
        "ufld_r18_288x800_fp16": [("8.0.1", True, 264.981, 50.0959)],
        "ufld_r18_288x800_fp32": [("8.0.1", True, 118.919, 89.353)],
        "trt71_xavier_summary_and_profile_header": [(None, None, None, 3.66748)],
        "trt8502_orin_nano_fp16.summary": [("8.5.2", True, None, 10.1851)],
        "trt86_profile_table_header": [(None, None, None, None)],
        "trt8_hardswish_import_error": [(None, None, None, None)],
    }
    seen = set()
    for path in sorted((shared_dir / "fixtures").glob("trtexec_*/*.log")):
        runs = parse_trtexec(path.read_text())
        found = [
            (run["version"], run["passed"], run.get("build_s"), run["metrics"].get("gpu_compute_ms", {}).get("median"))
            for run in runs
        ]
        if path.stem in expected:
            assert found == expected[path.stem], path.name
            seen.add(path.stem)
        else:
            assert len(found) == 2, path.name
            assert [item[1] for item in found] == [True, True]
    assert seen == set(expected)


def test_trtexec_details(shared_dir: Path) -> None:
    two = parse_trtexec(read(shared_dir, "trtexec_nano/multi_run_efficientdet_lite0_fp32_then_fp16.log"))
    assert ["--fp16" in run["command"] for run in two] == [False, True]
    assert two[0]["metrics"]["gpu_compute_ms"]["median"] == 46.2142
    whole = parse_trtexec(read(shared_dir, "trtexec_nano/trt8201_nano4gb_ufld_culane18_fp32.log"))[0]
    assert (whole["queries"], whole["trace_s"], whole["throughput_qps"]) == (35, 3.16419, 11.0613)
    assert whole["metrics"]["latency_ms"]["median"] > whole["metrics"]["gpu_compute_ms"]["median"]
    orin = parse_trtexec(read(shared_dir, "trtexec_other/trt8502_orin_nano_fp16.summary.log"))[0]
    assert orin["metrics"]["gpu_compute_ms"]["percentiles"] == {90.0: 10.3206, 95.0: 10.338, 99.0: 10.356}
    failed = parse_trtexec(read(shared_dir, "trtexec_other/trt8_hardswish_import_error.log"))[0]
    assert "HardSwish" in failed["errors"][0]
    assert failed["metrics"] == {}
    table = parse_trtexec(read(shared_dir, "trtexec_other/trt86_profile_table_header.log"))[0]["profile"]
    assert table[1] == {
        "name": "PPScatter_0",
        "time_ms": 130.88,
        "average_ms": 0.0913,
        "median_ms": 0.0911,
        "percentage": 5.7,
    }
    old = parse_trtexec(read(shared_dir, "trtexec_other/trt71_xavier_summary_and_profile_header.log"))[0]
    assert old["metrics"]["gpu_compute_ms"]["percentiles"] == {99.0: 3.87695}
    assert old["profile"] == [{"name": "data to nvm", "time_ms": 68.17, "average_ms": 0.05, "percentage": 1.2}]
    assert trt_version_text("100300") == "10.3.0"


def test_a_summary_that_contradicts_itself_is_no_summary() -> None:
    line = "[I] GPU Compute Time: min = 3 ms, max = 4 ms, mean = 3.5 ms, median = {} ms, percentile(99%) = 4 ms\n"
    assert parse_trtexec(line.format("3.5"))[0]["metrics"]["gpu_compute_ms"]["median"] == 3.5
    for median in ("35", "0.35", "nan", "-3.5", "1e999"):
        assert all(run["metrics"] == {} for run in parse_trtexec(line.format(median))), median


def test_exported_json(shared_dir: Path) -> None:
    for stem, per_query in (("resnet18_a100_fp16", 0.86), ("mobilenet_qat_trex_v0.1.0", 0.444)):
        records = parse_export_times(read(shared_dir, f"trt_json/{stem}.timing.first200.json"))
        assert len(records) == 200
        assert percentile([record.compute_ms for record in records], 0.5) == pytest.approx(per_query, rel=0.03)
        later = after_warm_up(records, 20)
        assert 0 < len(later) < 200
        assert later[0].start_ms - records[0].start_ms >= 20
        count, layers = parse_export_profile(read(shared_dir, f"trt_json/{stem}.profile.json"))
        assert count == (1 if "resnet" in stem else 4216)
        assert layers and ("median_ms" in layers[0]) == ("resnet" in stem)
        graph = parse_export_layers(read(shared_dir, f"trt_json/{stem}.graph.json"))
        assert {layer["name"] for layer in layers} <= {layer["name"] for layer in graph}
        assert graph[1]["type"] == "CaskConvolution"
        assert len(graph[1]["inputs"][0]["shape"]) == 4
    names = parse_export_layers('{"Layers": ["Conv_0 + Relu_1", "MaxPool_2"], "Bindings": []}')
    assert names == [{"name": "Conv_0 + Relu_1"}, {"name": "MaxPool_2"}]


def test_exported_json_of_other_things(shared_dir: Path) -> None:
    """Metadata files are JSON too; none of them has times, layers or a profile."""
    for path in sorted((shared_dir / "fixtures/trt_json").glob("*metadata.json")):
        text = path.read_text()
        assert parse_export_times(text) == []
        assert parse_export_profile(text) == (None, [])
        assert parse_export_layers(text) == []


def test_times_of_8_0_and_contradicting_records() -> None:
    """SYNTHETIC records in the shape of 8.0-8.2, which have ``endToEndMs``; a record whose parts do not add up is dropped."""
    good = {"startComputeMs": 10.0, "endComputeMs": 15.0, "computeMs": 5.0, "latencyMs": 5.2, "endToEndMs": 5.3}
    bad = [{**good, "computeMs": 50.0}, {**good, "latencyMs": 1.0}, {**good, "computeMs": None}, {"computeMs": 5.0}, 7]
    assert parse_export_times(json.dumps([good, *bad])) == [(10.0, 5.0, 5.2, 0.0, 0.0)]


@pytest.mark.parametrize("title", ["Host Latency", "Host latency"], ids=["7.1", "7.0"])
def test_a_run_of_tensorrt_7_has_no_version_and_its_host_latency_has_an_end_to_end_time(title: str) -> None:
    (run,) = parse_trtexec(log_7(title=title))
    assert (run["version"], run["command"], run["passed"], run["errors"]) == (None, COMMAND, True, [])
    assert run["metrics"]["gpu_compute_ms"] == {
        **dict(zip(STATISTICS, COMPUTE, strict=True)),
        "percentiles": {99.0: 4.25},
    }
    assert run["metrics"]["latency_ms"] == {**dict(zip(STATISTICS, HOST, strict=True)), "percentiles": {99.0: 4.5}}
    assert run["metrics"]["end_to_end_ms"] == {
        **dict(zip(STATISTICS, END_TO_END, strict=True)),
        "percentiles": {99.0: 8.25},
    }
    assert run["metrics"]["enqueue_ms"] == {"min": 0.5, "max": 1.5, "median": 0.625, "percentiles": {}}
    assert (run["host_walltime_s"], run["total_compute_s"], run["trace_s"]) == (3.01, 2.9, 3.01)
    assert "queries" not in run and "throughput_qps" not in run, "7.1 and 7.2 print 0 for both"
    (counted,) = parse_trtexec(log_7(queries=56, end_to_end=False))
    assert (counted["queries"], counted["throughput_qps"]) == (56, 18.6047)
    assert "end_to_end_ms" not in counted["metrics"]


def test_runs_of_tensorrt_7_in_one_log_are_told_apart() -> None:
    first, second = COMMAND, COMMAND.replace(" --fp16", "")
    runs = parse_trtexec(log_7(command=first) + log_7(command=second, outcome="FAILED") + log_7(command=first))
    assert [(run["command"], run["passed"]) for run in runs] == [(first, True), (second, False), (first, True)]
    cut = log_7(command=first).rsplit("&&&&", 1)[0]
    runs = parse_trtexec(cut + log_7(command=second))
    assert [(run["command"], run["passed"]) for run in runs] == [(first, None), (second, True)], (
        "the first one was killed"
    )
    assert all(run["metrics"]["gpu_compute_ms"]["median"] == 3.625 for run in runs)


@pytest.mark.parametrize(
    ("digits", "build", "version"),
    [
        ("8401", "", "8.4.1"),
        ("8502", "", "8.5.2"),
        ("8601", "", "8.6.1"),
        ("100300", " [b17]", "10.3.0"),
        ("101303", " [b9]", "10.13.3"),
    ],
)
def test_marks_with_a_version(digits: str, build: str, version: str) -> None:
    runs = parse_trtexec(log_8(digits, build=build) + log_7() + log_8(digits, build=build))
    assert [run["version"] for run in runs] == [version, None, version]
    assert [run["metrics"]["gpu_compute_ms"]["median"] for run in runs] == [3.625] * 3
    assert (runs[0]["passed"], runs[0]["queries"], runs[0]["build_s"]) == (True, 800, 12.5)


def test_times_of_tensorrt_7() -> None:
    record = {
        "startInMs": 9.9,
        "endInMs": 10,
        "startComputeMs": 10.0,
        "endComputeMs": 15.0,
        "startOutMs": 15,
        "endOutMs": 15.2,
    }
    record.update({"inMs": 0.1, "computeMs": 5.0, "outMs": 0.2, "latencyMs": 5.3, "endToEndMs": 5.4})
    assert parse_export_times(json.dumps([record])) == [(10.0, 5.0, 5.3, 0.1, 0.2)]
