"""Makes a simulated Jetson Nano below a folder: /sys, /proc, and the board's commands. SIMULATED, for tests of the agent."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from board_clock import FULL_HZ, GPU, POWER, put  # noqa: E402

RAILS = ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")
STEPS = [76800000 * step for step in range(1, 13)]
TRTEXEC_80 = [
    *("--help", "--onnx", "--saveEngine", "--loadEngine", "--workspace", "--fp16", "--buildOnly", "--timingCacheFile"),
    *(
        "--warmUp",
        "--duration",
        "--iterations",
        "--noDataTransfers",
        "--useSpinWait",
        "--exportTimes",
        "--exportProfile",
    ),
]
TRTEXEC_71 = [
    *(name for name in TRTEXEC_80 if name not in ("--timingCacheFile", "--noDataTransfers")),
    "--explicitBatch",
]
TRTEXEC_10 = [
    *(name for name in TRTEXEC_80 if name not in ("--workspace", "--buildOnly")),
    "--memPoolSize",
    "--skipInference",
]


def trans_stat(transitions: int, at_lock_ms: int = 100000, elsewhere_ms: int = 50) -> str:
    """The kernel's table as devfreq prints it, for two of the frequencies."""
    header = "     From  :   To\n           :  76800000 921600000   time(ms)\n"
    rows = f"   76800000:         0         1    {elsewhere_ms}\n*  921600000:         1         0    {at_lock_ms}\n"
    return f"{header}{rows}Total transition : {transitions}\n"


@dataclass
class FakeBoard:
    """A simulated board and the commands to start the agent on it."""

    root: Path
    python: str

    @property
    def gpu(self) -> Path:
        return self.root / GPU

    def frequency(self, which: str) -> int:
        return int((self.gpu / f"{which}_freq").read_text())

    def calls(self) -> list[str]:
        path = self.root / "calls.log"
        return path.read_text().splitlines() if path.exists() else []

    def builds(self) -> list[str]:
        path = self.root / "builds.log"
        return path.read_text().splitlines() if path.exists() else []

    def script(self, events: Sequence[Mapping[str, object]]) -> None:
        """Schedule changes by launch number: ``{"at": 40, "write": {path: text}, "append": {path: text}}``."""
        put(self.root / "scenario.json", json.dumps(list(events)))

    def environment(self, tensorrt: str | None = None) -> dict[str, str]:
        """The agent's environment; with ``tensorrt``, that version's stand-in can be imported."""
        value = {**os.environ, "FAKE_BOARD_ROOT": str(self.root)}
        value.pop("PYTHONPATH", None)
        if tensorrt:
            value.update(FAKE_TRT_VERSION=tensorrt, PYTHONPATH=str(HERE / "site"))
        return value


def unlocked(board: FakeBoard) -> bool:
    """True in the state after ``make_board``: mode 5W, GPU clock free, no saved state to restore."""
    return (
        (board.root / "var/lib/nvpmodel/status").read_text() == "1\n"
        and board.frequency("min") == 76800000
        and not list((board.root / "var/tmp/paretoseg-clocks").glob("*"))
    )


def make_board(
    root: Path,
    python: str,
    *,
    rails: Sequence[str] = RAILS,
    busy_mw: Sequence[int] = (6000, 2500, 1500),
    idle_mw: Sequence[int] = (2000, 200, 400),
    mode: str = "1",
) -> FakeBoard:
    """A Nano with unlocked clocks in mode ``mode``. ``rails=()`` is the 2 GB kit, which has no INA3221."""
    highest = FULL_HZ if mode == "0" else 614400000
    texts = {
        "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
        "proc/meminfo": "MemTotal:        4059276 kB\nMemAvailable:    2900000 kB\nSwapTotal:       2029632 kB\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
        "proc/sys/kernel/osrelease": "4.9.253-tegra\n",
        "proc/sys/kernel/random/boot_id": "00000000-0000-4000-8000-000000000001\n",
        "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, DATE: Sat Feb 19\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=5W >\n",
        "usr/local/cuda/version.txt": "CUDA Version 10.2.300\n",
        "var/lib/dpkg/status": "Package: libnvinfer8\nStatus: install ok installed\nVersion: 8.2.1-1+cuda10.2\n\n",
        "var/lib/nvpmodel/status": mode + "\n",
        "sys/devices/system/cpu/online": "0-3\n" if mode == "0" else "0-1\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1479000\n",
        "sys/kernel/debug/clk/emc/clk_rate": "1600000000\n",
        "sys/kernel/debug/clk/override.emc/clk_state": "0\n",
        f"{GPU}/cur_freq": "76800000\n",
        f"{GPU}/min_freq": "76800000\n",
        f"{GPU}/max_freq": f"{highest}\n",
        f"{GPU}/available_frequencies": " ".join(map(str, STEPS)) + "\n",
        f"{GPU}/trans_stat": trans_stat(10),
        "kernel.log": "[    0.000000] Booting Linux on physical CPU 0x0\n",
    }
    for index, (name, milli) in enumerate((("AO-therm", 41500), ("GPU-therm", 31000), ("PMIC-Die", 100000))):
        texts[f"sys/class/thermal/thermal_zone{index}/type"] = name + "\n"
        texts[f"sys/class/thermal/thermal_zone{index}/temp"] = f"{milli}\n"
    for index, rail in enumerate(rails):
        texts[POWER.format(index)] = f"{idle_mw[index]}\n"
        texts[POWER.format(index).replace(f"in_power{index}_input", f"rail_name_{index}")] = rail + "\n"
    if rails:
        texts["power.json"] = json.dumps({"busy": list(busy_mw), "idle": list(idle_mw)})
    for path, text in texts.items():
        put(root / path, text)
    for name, folder in (
        ("nvpmodel", "usr/sbin"),
        ("jetson_clocks", "usr/bin"),
        ("dmesg", "bin"),
        ("tegrastats", "usr/bin"),
    ):
        _install(root, name, folder, python)
    return FakeBoard(root, python)


def install_trtexec(
    board: FakeBoard, logs: Mapping[str, str], *, version: str, options: Sequence[str], garbage: Sequence[str] = ()
) -> None:
    """Put a trtexec there that replays ``logs`` (file name -> text): ``run.log`` and ``failed.log``."""
    for name, text in logs.items():
        put(board.root / "trtexec_logs" / name, text)
    put(
        board.root / "trtexec.json",
        json.dumps({"version": version, "options": list(options), "garbage": list(garbage)}),
    )
    _install(board.root, "trtexec", "usr/src/tensorrt/bin", board.python)


def _install(root: Path, name: str, folder: str, python: str) -> None:
    text = (HERE / "commands" / name).read_text().replace("@ROOT@", str(root)).replace("@FAKE_BOARD@", str(HERE))
    path = root / folder / name
    put(path, f"#!{python}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
