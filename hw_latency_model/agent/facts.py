"""Board description: model, software versions, clocks, memory, power rails."""

import platform
import re
from typing import Optional

from .cores import available_cores
from .files import Json, json_or_none
from .parsers import parse_l4t, parse_oc_alarms
from .power import PowerMeter, rail_problem
from .sensors import Gpu, power_mode, read_clocks, read_meminfo, read_temperatures
from .tree import Tree

JETPACK_OF_L4T = {
    "32.4.3": "4.4", "32.4.4": "4.4.1", "32.5": "4.5", "32.5.0": "4.5", "32.5.1": "4.5.1", "32.5.2": "4.5.1", "32.6.1": "4.6",
    "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4", "32.7.5": "4.6.5", "32.7.6": "4.6.6",
    "34.1": "5.0", "34.1.1": "5.0.1", "35.1": "5.0.2", "35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1", "35.4.1": "5.1.2",
    "35.5.0": "5.1.3", "35.6.0": "5.1.4", "36.2": "6.0", "36.2.0": "6.0", "36.3": "6.0", "36.3.0": "6.0", "36.4": "6.1", "36.4.0": "6.1",
    "36.4.3": "6.2",
}  # fmt: skip


def board_facts(tree: Tree) -> Json:
    """Describe the board without changing any setting; keys are those of a ``board`` record."""
    l4t = parse_l4t(tree.read("/etc/nv_tegra_release"))
    memory, mode, meter = read_meminfo(tree), power_mode(tree), PowerMeter(tree)
    rails = meter.snapshot()
    note = meter.note or rail_problem(rails)
    may_change = tree.may_change()
    return {
        "board_model": board_model(tree),
        "cpu": cpu_model(tree),
        "cores": available_cores(tree),
        "machine": platform.machine(),
        "kernel": tree.read("/proc/sys/kernel/osrelease").strip() or platform.release(),
        "boot_id": tree.read("/proc/sys/kernel/random/boot_id").strip() or None,
        "l4t": l4t,
        "jetpack": JETPACK_OF_L4T.get(l4t or ""),
        "cuda": cuda_version(tree),
        "tensorrt": installed_tensorrt(tree),
        "python": platform.python_version(),
        "power_mode": mode.name if mode else None,
        "power_mode_id": mode.mode_id if mode else None,
        "clocks_now": read_clocks(tree),
        "gpu_frequencies_hz": Gpu(tree).frequencies(),
        "memory_total_mb": memory["MemTotal"] // 1024 if "MemTotal" in memory else None,
        "memory_free_mb": memory["MemAvailable"] // 1024 if "MemAvailable" in memory else None,
        "swap_mb": memory["SwapTotal"] // 1024 if "SwapTotal" in memory else None,
        "rails": [rail.name for rail in meter.rails],
        "rails_mw": rails,
        "power_rail": meter.total if not note else None,
        "power_note": note,
        "temps_c": read_temperatures(tree),
        "oc_alarms": len(parse_oc_alarms(tree.run("dmesg").text)),
        "may_lock_clocks": may_change and tree.command("jetson_clocks") is not None,
    }


def board_model(tree: Tree) -> str:
    """Read the model name from the device tree or DMI; ``unknown`` where neither has one."""
    for path in ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model", "/sys/class/dmi/id/product_name"):
        text = tree.read(path).strip()
        if text:
            return text
    return "unknown"


def cpu_model(tree: Tree) -> str:
    """Read the CPU model from ``/proc/cpuinfo``, otherwise from Python's ``platform``."""
    for line in tree.read("/proc/cpuinfo").splitlines():
        if line.lower().startswith(("model name", "hardware")) and ":" in line:
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or "unknown"


def cuda_version(tree: Tree) -> Optional[str]:
    """Read the version of the installed CUDA toolkit; None without one."""
    found = json_or_none(tree.read("/usr/local/cuda/version.json"))
    version = found.get("cuda", {}) if isinstance(found, dict) else {}
    if isinstance(version, dict) and isinstance(version.get("version"), str):
        return str(version["version"])
    text = re.search(r"CUDA Version (\d+\.\d+(?:\.\d+)?)", tree.read("/usr/local/cuda/version.txt"))
    return text.group(1) if text else None


def installed_tensorrt(tree: Tree) -> Optional[str]:
    """Read the TensorRT version from the package list or the C++ header; works without the Python module."""
    packages = tree.read("/var/lib/dpkg/status")
    found = re.search(r"^Package: libnvinfer\d+\n(?:[^\n]+\n)*?Version: (\d+\.\d+\.\d+)", packages, re.MULTILINE)
    if found:
        return found.group(1)
    for path in tree.glob("/usr/include/*/NvInferVersion.h") + tree.glob("/usr/include/NvInferVersion.h"):
        parts = re.findall(r"#define NV_TENSORRT_(?:MAJOR|MINOR|PATCH) (\d+)", tree.read(path))
        if len(parts) == 3:
            return ".".join(parts)
    return None
