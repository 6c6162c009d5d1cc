"""Recordings of boards and of trtexec, with the parser of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hw_latency_model.agent.parsers import (
    parse_frequencies,
    parse_jetson_clocks_show,
    parse_jetson_clocks_store,
    parse_l4t,
    parse_nvpmodel,
    parse_nvpmodel_conf,
    parse_oc_alarms,
    parse_tegrastats,
    parse_thermal_zones,
    parse_trans_stat,
)
from hw_latency_model.agent.trtexec import parse_export_layers, parse_export_profile, parse_export_times, parse_trtexec

PARSERS: dict[str, Callable[[str], Any]] = {
    "tegrastats": parse_tegrastats,
    "nvpmodel": parse_nvpmodel,
    "nvpmodel_conf": parse_nvpmodel_conf,
    "clocks_show": parse_jetson_clocks_show,
    "clocks_store": parse_jetson_clocks_store,
    "thermal": parse_thermal_zones,
    "frequencies": parse_frequencies,
    "trans_stat": parse_trans_stat,
    "oc_alarms": parse_oc_alarms,
    "l4t": parse_l4t,
    "trtexec": parse_trtexec,
    "times": parse_export_times,
    "profile": parse_export_profile,
    "layers": parse_export_layers,
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


def read(folder: Path, name: str) -> str:
    """Text of a recording below ``fixtures``."""
    return (folder / "fixtures" / name).read_text(encoding="utf-8")


def numbers_in(value: Any) -> Iterator[float]:
    """All numbers in a parsed value, keys of dictionaries included."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from numbers_in(key)
            yield from numbers_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers_in(item)
