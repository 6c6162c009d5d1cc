"""The agent's parsers on every recorded file, on what a cut or a broken line leaves of it, and on noise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_latency_model.agent import paretoseg_agent as agent

PARSERS: dict[str, Callable[[str], Any]] = {
    "tegrastats": agent.parse_tegrastats,
    "nvpmodel": agent.parse_nvpmodel,
    "nvpmodel_conf": agent.parse_nvpmodel_conf,
    "clocks_show": agent.parse_jetson_clocks_show,
    "clocks_store": agent.parse_jetson_clocks_store,
    "thermal": agent.parse_thermal_zones,
    "frequencies": agent.parse_frequencies,
    "trans_stat": agent.parse_trans_stat,
    "oc_alarms": agent.parse_oc_alarms,
    "l4t": agent.parse_l4t,
    "trtexec": agent.parse_trtexec,
    "times": agent.parse_export_times,
    "profile": agent.parse_export_profile,
    "layers": agent.parse_export_layers,
}
FILES = [
    ("jetson/tegrastats_nano.txt", "tegrastats"),
    ("jetson/tegrastats_nano_concatenated_blob.txt", "tegrastats"),
    ("jetson/tegrastats_orin.txt", "tegrastats"),
    ("jetson/nvpmodel_q_5w.txt", "nvpmodel"),
    ("jetson/nvpmodel_q_maxn.txt", "nvpmodel"),
    ("jetson/nvpmodel_q_maxn_with_warning.txt", "nvpmodel"),
    ("jetson/jetson_clocks_show_nano_5W_locked.txt", "clocks_show"),
    ("jetson/jetson_clocks_show_nano_5W_unlocked.txt", "clocks_show"),
    ("jetson/jetson_clocks_show_nano_MAXN_unlocked.txt", "clocks_show"),
    ("jetson/jetson_clocks_store_nano_locked.conf.txt", "clocks_store"),
    ("jetson/thermal_zones_nano.txt", "thermal"),
    ("jetson/nano_gpu_available_frequencies.txt", "frequencies"),
    ("jetson/dmesg_oc_alarm.txt", "oc_alarms"),
    ("trtexec_nano/trt8001_same_engine_without_profiler.tail.log", "trtexec"),
    ("trtexec_nano/trt8201_nano4gb_ufld_culane18_fp32.log", "trtexec"),
    ("trtexec_other/trt71_xavier_summary_and_profile_header.log", "trtexec"),
    ("trtexec_other/trt8502_orin_nano_fp16.summary.log", "trtexec"),
    ("trtexec_other/trt86_profile_table_header.log", "trtexec"),
    ("trtexec_other/trt8_hardswish_import_error.log", "trtexec"),
]
TRANS_STAT = (
    "     From  :   To\n           :  76800000 921600000   time(ms)\n   76800000:         0         1      1240\n"
    "*  921600000:         1         0    883310\nTotal transition : 2\n"
)  # SYNTHETIC: the format of devfreq's trans_stat in the 4.9 kernel


def read(folder: Path, name: str) -> str:
    return (folder / "fixtures" / name).read_text(encoding="utf-8")


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from numbers_in(key)
            yield from numbers_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers_in(item)


def lines_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return agent.parse_tegrastats(read(folder, name))


def test_tegrastats_of_every_nano(shared_dir: Path) -> None:
    samples = lines_of(shared_dir, "jetson/tegrastats_nano.txt")
    assert len(samples) == 9
    assert samples[0]["ram_used_mb"] == 2927
    assert samples[0]["ram_total_mb"] == 3963
    assert samples[0]["gpu_load"] == 99
    assert "gpu_mhz" not in samples[0], "without root no clocks are printed"
    assert samples[0]["rails_mw"] == {"POM_5V_IN": (8055, 7870), "POM_5V_GPU": (2424, 2206), "POM_5V_CPU": (3084, 3110)}
    assert samples[0]["temps_c"]["GPU"] == 56.5
    assert (samples[1]["emc_mhz"], samples[1]["gpu_mhz"], samples[1]["gpu_load"]) == (1600, 768, 7)
    assert samples[4]["cpu"] == [{"load": 22, "mhz": 518}, {"load": 67, "mhz": 518}, None, None]
    assert [sample["rails_mw"] for sample in samples[5:7]] == [{}, {}], "the 2 GB board has no rails"
    totals = {name: now for name, (now, _) in samples[7]["rails_mw"].items()}
    assert "mislabelled" in (agent.rail_problem(totals) or "")
    assert agent.rail_problem({name: now for name, (now, _) in samples[0]["rails_mw"].items()}) is None


def test_tegrastats_without_newlines_and_of_orin(shared_dir: Path) -> None:
    blob = lines_of(shared_dir, "jetson/tegrastats_nano_concatenated_blob.txt")
    assert [(sample["ram_used_mb"], sample["gpu_load"]) for sample in blob] == [(2629, 99), (2610, 3), (2610, 99)]
    assert all(sample["temps_c"]["PLL"] in (27.0, 27.5) for sample in blob), "the torn first sample is left out"
    orin = lines_of(shared_dir, "jetson/tegrastats_orin.txt")
    assert len(orin) == 2
    assert (orin[0]["gpu_load"], orin[0]["gpu_mhz"], orin[0]["rails_mw"]["VDD_IN"]) == (84, 713, (17946, 15710))
    assert orin[1]["rails_mw"]["VIN_SYS_5V0"] == (4025, 4025)
    assert "NC" not in orin[1]["rails_mw"]
    assert "GPU" not in orin[1]["temps_c"], "a sensor that is off reads -256"
    assert orin[1]["temps_c"]["CPU"] == 44.562


def test_power_modes(shared_dir: Path) -> None:
    found = {name: agent.parse_nvpmodel(read(shared_dir, f"jetson/nvpmodel_q_{name}.txt")) for name in ("5w", "maxn")}
    assert found == {"5w": ("5W", 1), "maxn": ("MAXN", 0)}
    warned = agent.parse_nvpmodel(read(shared_dir, "jetson/nvpmodel_q_maxn_with_warning.txt"))
    assert warned == ("MAXN", None)
    assert agent.parse_nvpmodel_conf("< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=5W >\n") == {
        "maxn": 0,
        "5w": 1,
    }


@pytest.mark.parametrize(
    ("name", "mode", "gpu", "override", "cores"),
    [
        ("5W_locked", "5W", (614400000, 614400000, 614400000), 1, 2),
        ("5W_unlocked", "5W", (76800000, 614400000, 460800000), 0, 2),
        ("MAXN_unlocked", "MAXN", (76800000, 921600000, 921600000), 0, 4),
    ],
)
def test_jetson_clocks_show(
    shared_dir: Path, name: str, mode: str, gpu: tuple[int, int, int], override: int, cores: int
) -> None:
    shown = agent.parse_jetson_clocks_show(read(shared_dir, f"jetson/jetson_clocks_show_nano_{name}.txt"))
    assert shown["power_mode"] == mode
    assert tuple(shown["gpu"][key] for key in ("min", "max", "cur")) == gpu
    assert shown["emc"] == {"min": 204000000, "max": 1600000000, "cur": 1600000000, "override": override}
    assert sum(core["online"] for core in shown["cpus"].values()) == cores
    assert shown["machine"] == "NVIDIA Jetson Nano Developer Kit"


def test_stored_clocks_zones_frequencies_and_alarms(shared_dir: Path) -> None:
    stored = agent.parse_jetson_clocks_store(read(shared_dir, "jetson/jetson_clocks_store_nano_locked.conf.txt"))
    assert len(stored) == 13
    assert stored["/sys/devices/57000000.gpu/devfreq/57000000.gpu/min_freq"] == 921600000
    zones = agent.parse_thermal_zones(read(shared_dir, "jetson/thermal_zones_nano.txt"))
    assert (zones["GPU-therm"], zones["PMIC-Die"], len(zones)) == (31.0, 100.0, 7)
    steps = agent.parse_frequencies(read(shared_dir, "jetson/nano_gpu_available_frequencies.txt"))
    assert steps == [76800000 * step for step in range(1, 13)]
    assert len(agent.parse_oc_alarms(read(shared_dir, "jetson/dmesg_oc_alarm.txt"))) == 1
    assert agent.parse_oc_alarms("[ 1.0] soctherm: OC ALARM disabled\n") == []


def test_trans_stat() -> None:
    assert agent.parse_trans_stat(TRANS_STAT) == ({76800000: 1240, 921600000: 883310}, 2)
    assert agent.parse_trans_stat("Not Supported.\n") == ({}, None)


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
        runs = agent.parse_trtexec(path.read_text())
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
    two = agent.parse_trtexec(read(shared_dir, "trtexec_nano/multi_run_efficientdet_lite0_fp32_then_fp16.log"))
    assert ["--fp16" in run["command"] for run in two] == [False, True]
    assert two[0]["metrics"]["gpu_compute_ms"]["median"] == 46.2142
    whole = agent.parse_trtexec(read(shared_dir, "trtexec_nano/trt8201_nano4gb_ufld_culane18_fp32.log"))[0]
    assert (whole["queries"], whole["trace_s"], whole["throughput_qps"]) == (35, 3.16419, 11.0613)
    assert whole["metrics"]["latency_ms"]["median"] > whole["metrics"]["gpu_compute_ms"]["median"]
    orin = agent.parse_trtexec(read(shared_dir, "trtexec_other/trt8502_orin_nano_fp16.summary.log"))[0]
    assert orin["metrics"]["gpu_compute_ms"]["percentiles"] == {90.0: 10.3206, 95.0: 10.338, 99.0: 10.356}
    failed = agent.parse_trtexec(read(shared_dir, "trtexec_other/trt8_hardswish_import_error.log"))[0]
    assert "HardSwish" in failed["errors"][0]
    assert failed["metrics"] == {}
    table = agent.parse_trtexec(read(shared_dir, "trtexec_other/trt86_profile_table_header.log"))[0]["profile"]
    assert table[1] == {
        "name": "PPScatter_0",
        "time_ms": 130.88,
        "average_ms": 0.0913,
        "median_ms": 0.0911,
        "percentage": 5.7,
    }
    old = agent.parse_trtexec(read(shared_dir, "trtexec_other/trt71_xavier_summary_and_profile_header.log"))[0]
    assert old["metrics"]["gpu_compute_ms"]["percentiles"] == {99.0: 3.87695}
    assert old["profile"] == [{"name": "data to nvm", "time_ms": 68.17, "average_ms": 0.05, "percentage": 1.2}]
    assert agent.trt_version_text("100300") == "10.3.0"


def test_a_summary_that_contradicts_itself_is_no_summary() -> None:
    line = "[I] GPU Compute Time: min = 3 ms, max = 4 ms, mean = 3.5 ms, median = {} ms, percentile(99%) = 4 ms\n"
    assert agent.parse_trtexec(line.format("3.5"))[0]["metrics"]["gpu_compute_ms"]["median"] == 3.5
    for median in ("35", "0.35", "nan", "-3.5", "1e999"):
        assert all(run["metrics"] == {} for run in agent.parse_trtexec(line.format(median))), median


def test_exported_json(shared_dir: Path) -> None:
    for stem, per_query in (("resnet18_a100_fp16", 0.86), ("mobilenet_qat_trex_v0.1.0", 0.444)):
        records = agent.parse_export_times(read(shared_dir, f"trt_json/{stem}.timing.first200.json"))
        assert len(records) == 200
        assert agent.percentile([record.compute_ms for record in records], 0.5) == pytest.approx(per_query, rel=0.03)
        later = agent.after_warm_up(records, 20)
        assert 0 < len(later) < 200
        assert later[0].start_ms - records[0].start_ms >= 20
        count, layers = agent.parse_export_profile(read(shared_dir, f"trt_json/{stem}.profile.json"))
        assert count == (1 if "resnet" in stem else 4216)
        assert layers and ("median_ms" in layers[0]) == ("resnet" in stem)
        graph = agent.parse_export_layers(read(shared_dir, f"trt_json/{stem}.graph.json"))
        assert {layer["name"] for layer in layers} <= {layer["name"] for layer in graph}
        assert graph[1]["type"] == "CaskConvolution"
        assert len(graph[1]["inputs"][0]["shape"]) == 4
    names = agent.parse_export_layers('{"Layers": ["Conv_0 + Relu_1", "MaxPool_2"], "Bindings": []}')
    assert names == [{"name": "Conv_0 + Relu_1"}, {"name": "MaxPool_2"}]


def test_exported_json_of_other_things(shared_dir: Path) -> None:
    """Metadata files are JSON too; none of them has times, layers or a profile."""
    for path in sorted((shared_dir / "fixtures/trt_json").glob("*metadata.json")):
        text = path.read_text()
        assert agent.parse_export_times(text) == []
        assert agent.parse_export_profile(text) == (None, [])
        assert agent.parse_export_layers(text) == []


def test_times_of_8_0_and_contradicting_records() -> None:
    """SYNTHETIC records in the shape of 8.0-8.2, which have ``endToEndMs``; a record whose parts do not add up is dropped."""
    good = {"startComputeMs": 10.0, "endComputeMs": 15.0, "computeMs": 5.0, "latencyMs": 5.2, "endToEndMs": 5.3}
    bad = [{**good, "computeMs": 50.0}, {**good, "latencyMs": 1.0}, {**good, "computeMs": None}, {"computeMs": 5.0}, 7]
    assert agent.parse_export_times(json.dumps([good, *bad])) == [(10.0, 5.0, 5.2, 0.0, 0.0)]


@pytest.mark.parametrize(("name", "parser"), FILES)
def test_a_cut_file_gives_no_number_that_the_whole_one_does_not_have(shared_dir: Path, name: str, parser: str) -> None:
    text = read(shared_dir, name)
    parse = PARSERS[parser]
    whole = set(numbers_in(parse(text)))
    step = max(1, len(text) // 700)
    for end in [*range(0, len(text), step), *range(max(0, len(text) - 80), len(text))]:
        found = set(numbers_in(parse(text[:end])))
        assert found <= whole, f"cut at {end}: {sorted(found - whole)}"


@pytest.mark.parametrize("parser", sorted(PARSERS))
@settings(max_examples=60, deadline=None)
@given(noise=st.text(max_size=300))
def test_noise_gives_nothing_and_raises_nothing(parser: str, noise: str) -> None:
    result = PARSERS[parser](noise + "\n")
    assert all(number == number and abs(number) != float("inf") for number in numbers_in(result))


@pytest.mark.parametrize(("name", "parser"), FILES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_garbage_inside_a_file_raises_nothing(shared_dir: Path, name: str, parser: str, data: st.DataObject) -> None:
    """A line is replaced by noise: what the other lines say stays what it was, and nothing of the noise is believed."""
    lines = read(shared_dir, name).split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    # Digits of other scripts stay in: they are digits to Python, and none that a tool prints.
    noise = data.draw(st.text(st.characters(exclude_characters="0123456789\n", exclude_categories=["Cs"]), max_size=80))
    whole = set(numbers_in(PARSERS[parser]("\n".join(lines))))
    spoilt = set(numbers_in(PARSERS[parser]("\n".join([*lines[:at], noise, *lines[at + 1 :]]))))
    assert spoilt <= whole


def test_numbers_too_long_to_be_any() -> None:
    long = "9" * 5000
    texts = [f"RAM {long}/{long}MB X {long}/{long} ", f"NV Power Mode: MAXN\n{long}\n", f"[I] Throughput: {long} qps\n",
             f"[I] Timing trace has {long} queries over 3 s\n", f"[I] Engine built in 1e{long} sec.\n", f"{long} \n",
             f"   {long}:  1 2\n", f"GPU MinFreq={long}\n", f"/sys/x:{long}\n", f"A {long}C\n"]  # fmt: skip
    for text in texts:
        assert not [number for parse in PARSERS.values() for number in numbers_in(parse(text)) if number > 1e300]


@settings(max_examples=60, deadline=None)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["computeMs", "latencyMs", "startComputeMs", "endComputeMs", "count", "name", "timeMs",
                                           "averageMs", "Layers", "Name", "Inputs", "Dimensions"]), inner, max_size=5),
        max_leaves=20,
    )
)  # fmt: skip
def test_any_json_is_survived(value: Any) -> None:
    text = json.dumps(value)
    for parser in ("times", "profile", "layers"):
        assert all(abs(number) != float("inf") for number in numbers_in(PARSERS[parser](text)))
    assert agent.decode_line(text) is None
