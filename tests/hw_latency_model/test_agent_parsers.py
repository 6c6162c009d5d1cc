"""Parsers of Jetson tools and kernel files on recordings of boards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_recordings import read

from hw_latency_model.agent.parsers import (
    parse_frequencies,
    parse_jetson_clocks_show,
    parse_jetson_clocks_store,
    parse_nvpmodel,
    parse_nvpmodel_conf,
    parse_oc_alarms,
    parse_tegrastats,
    parse_thermal_zones,
    parse_trans_stat,
)
from hw_latency_model.agent.power import rail_problem

TRANS_STAT = (
    "     From  :   To\n           :  76800000 921600000   time(ms)\n   76800000:         0         1      1240\n"
    "*  921600000:         1         0    883310\nTotal transition : 2\n"
)  # SYNTHETIC: the format of devfreq's trans_stat in the 4.9 kernel


def lines_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return parse_tegrastats(read(folder, name))


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
    assert "mislabelled" in (rail_problem(totals) or "")
    assert rail_problem({name: now for name, (now, _) in samples[0]["rails_mw"].items()}) is None


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
    found = {name: parse_nvpmodel(read(shared_dir, f"jetson/nvpmodel_q_{name}.txt")) for name in ("5w", "maxn")}
    assert found == {"5w": ("5W", 1), "maxn": ("MAXN", 0)}
    warned = parse_nvpmodel(read(shared_dir, "jetson/nvpmodel_q_maxn_with_warning.txt"))
    assert warned == ("MAXN", None)
    assert parse_nvpmodel_conf("< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=5W >\n") == {
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
    shown = parse_jetson_clocks_show(read(shared_dir, f"jetson/jetson_clocks_show_nano_{name}.txt"))
    assert shown["power_mode"] == mode
    assert tuple(shown["gpu"][key] for key in ("min", "max", "cur")) == gpu
    assert shown["emc"] == {"min": 204000000, "max": 1600000000, "cur": 1600000000, "override": override}
    assert sum(core["online"] for core in shown["cpus"].values()) == cores
    assert shown["machine"] == "NVIDIA Jetson Nano Developer Kit"


def test_stored_clocks_zones_frequencies_and_alarms(shared_dir: Path) -> None:
    stored = parse_jetson_clocks_store(read(shared_dir, "jetson/jetson_clocks_store_nano_locked.conf.txt"))
    assert len(stored) == 13
    assert stored["/sys/devices/57000000.gpu/devfreq/57000000.gpu/min_freq"] == 921600000
    zones = parse_thermal_zones(read(shared_dir, "jetson/thermal_zones_nano.txt"))
    assert (zones["GPU-therm"], zones["PMIC-Die"], len(zones)) == (31.0, 100.0, 7)
    steps = parse_frequencies(read(shared_dir, "jetson/nano_gpu_available_frequencies.txt"))
    assert steps == [76800000 * step for step in range(1, 13)]
    assert len(parse_oc_alarms(read(shared_dir, "jetson/dmesg_oc_alarm.txt"))) == 1
    assert parse_oc_alarms("[ 1.0] soctherm: OC ALARM disabled\n") == []


def test_trans_stat() -> None:
    assert parse_trans_stat(TRANS_STAT) == ({76800000: 1240, 921600000: 883310}, 2)
    assert parse_trans_stat("Not Supported.\n") == ({}, None)
