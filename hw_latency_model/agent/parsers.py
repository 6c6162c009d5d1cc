"""Parsers for the output of Jetson tools and for kernel files.

They never raise, and drop every value that they cannot read completely: a number that may be cut off is not used.
"""

import math
import re
from typing import Any, Dict, List, NamedTuple, Optional

from .files import Json


def complete_lines(text: str) -> List[str]:
    """Return the lines that end in a newline; an unterminated last line may be truncated and is dropped."""
    return [line.rstrip("\r") for line in text.split("\n")[:-1]]


def finite(value: Any) -> Optional[float]:
    """Convert ``value`` to a finite float; None for booleans, text, NaN and infinities."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


_TEGRASTATS_START = re.compile(r"(?:[0-9]{2}-[0-9]{2}-[0-9]{4} [0-9:]{8} )?\bRAM [0-9]{1,15}/[0-9]{1,15}MB")
_TEGRASTATS_RAM = re.compile(r"\bRAM ([0-9]{1,15})/([0-9]{1,15})MB")
_TEGRASTATS_SWAP = re.compile(r"\bSWAP ([0-9]{1,15})/([0-9]{1,15})MB")
_TEGRASTATS_CPU = re.compile(r"\bCPU \[([^\[\]]*)\]")
_TEGRASTATS_CORE = re.compile(r"([0-9]{1,15})%(?:@([0-9]{1,15}))?")
_TEGRASTATS_LOAD = re.compile(r"\b(EMC|GR3D)_FREQ ([0-9]{1,15})%(?:@(?:\[([0-9,]{1,99})\]|([0-9]{1,15})(?=\s)))?")
_TEGRASTATS_TEMP = re.compile(r"(?<![\w.])([A-Za-z][\w-]*)@(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)C(?![\w.])")
_TEGRASTATS_RAIL = re.compile(r"(?<![\w.])([A-Z][A-Z0-9_]*) ([0-9]{1,15})(?:mW)?/([0-9]{1,15})(?:mW)?(?=\s)")


def parse_tegrastats(text: str) -> List[Json]:
    """Parse ``tegrastats`` samples of any board, user and JetPack version, also without newlines between them.

    Keys of a sample, where printed: ``ram_used_mb, ram_total_mb, swap_used_mb, swap_total_mb, cpu`` (per core
    ``{"load", "mhz"}`` or None when off), ``emc_load, emc_mhz, gpu_load, gpu_mhz``, ``temps_c`` (disabled
    sensors read -256 and are left out), ``rails_mw`` (name -> (now, average)).
    """
    starts = [match.start() for match in _TEGRASTATS_START.finditer(text)]
    return [_tegrastats_sample(text[start:end]) for start, end in zip(starts, [*starts[1:], len(text)])]


def _tegrastats_sample(text: str) -> Json:
    sample: Json = {}
    for name, pattern in (("ram", _TEGRASTATS_RAM), ("swap", _TEGRASTATS_SWAP)):
        found = pattern.search(text)
        if found:
            sample[name + "_used_mb"], sample[name + "_total_mb"] = int(found.group(1)), int(found.group(2))
    cores = _TEGRASTATS_CPU.search(text)
    if cores:
        sample["cpu"] = [_tegrastats_core(core) for core in cores.group(1).split(",")]
    for found in _TEGRASTATS_LOAD.finditer(text):
        name = "emc" if found.group(1) == "EMC" else "gpu"
        sample[name + "_load"] = int(found.group(2))
        clocks = (found.group(3) or "").split(",")[0] or found.group(4)
        if clocks:
            sample[name + "_mhz"] = int(clocks)
    sample["temps_c"] = {
        name: float(value) for name, value in _TEGRASTATS_TEMP.findall(text) if -50 <= float(value) <= 150
    }
    sample["rails_mw"] = {
        name: (int(now), int(mean)) for name, now, mean in _TEGRASTATS_RAIL.findall(text) if name != "NC"
    }
    return sample


def _tegrastats_core(text: str) -> Optional[Json]:
    found = _TEGRASTATS_CORE.fullmatch(text.strip())
    if not found:
        return None
    return {"load": int(found.group(1)), "mhz": int(found.group(2)) if found.group(2) else None}


class PowerMode(NamedTuple):
    """Power mode reported by ``nvpmodel -q``; ``mode_id`` is None where only the name is printed."""

    name: str
    mode_id: Optional[int]


def parse_nvpmodel(text: str) -> Optional[PowerMode]:
    """Parse ``nvpmodel -q``, ignoring leading warnings; None when no mode is named."""
    lines = complete_lines(text)
    for index, line in enumerate(lines):
        found = re.fullmatch(r"NV (?:Fan|Power) Mode: ?(\S+)", line.strip())
        if found and "Power" in line:
            number = lines[index + 1].strip() if index + 1 < len(lines) else ""
            return PowerMode(found.group(1), int(number) if re.fullmatch(r"[0-9]{1,3}", number) else None)
    return None


def parse_nvpmodel_conf(text: str) -> Dict[str, int]:
    """Parse ``/etc/nvpmodel.conf`` into mode ids by lower-case name."""
    found = re.findall(r"<\s*POWER_MODEL\s+ID=([0-9]{1,3})\s+NAME=(\S+)\s*>", text)
    return {name.lower(): int(number) for number, name in found}


_SHOWN_CLOCKS = (("min", "MinFreq"), ("max", "MaxFreq"), ("cur", "CurrentFreq"))
_SHOWN_TEXTS = (
    ("machine", r"SOC family:\S*\s+Machine:(.+)"),
    ("online_cpus", r"Online CPUs: ([0-9,\-]+)$"),
    ("fan", r"Fan: (\S+)$"),
    ("power_mode", r"NV Power Mode: (\S+)$"),
)


def parse_jetson_clocks_show(text: str) -> Json:
    """Parse ``jetson_clocks --show``; lines that are missing are left out.

    Keys: ``machine, online_cpus, cpus, gpu, emc, fan, power_mode``. Frequencies as printed: cores in kHz, GPU and EMC in Hz.
    """
    shown: Json = {}
    for raw in complete_lines(text):
        line = raw.strip()
        values = {key: int(value) for key, value in re.findall(r"\b(\w+)=([0-9]{1,15})(?=\s|$)", line)}
        clocks = {name: values[key] for name, key in _SHOWN_CLOCKS if key in values}
        found = re.match(r"cpu([0-9]{1,3}):", line)
        if found:
            core: Json = dict(clocks)
            core["online"] = values.get("Online") == 1
            governor = re.search(r"\bGovernor=(\S+)", line)
            if governor:
                core["governor"] = governor.group(1)
            shown.setdefault("cpus", {})[int(found.group(1))] = core
        elif line.startswith("GPU ") and clocks:
            shown["gpu"] = clocks
        elif line.startswith("EMC ") and clocks:
            if "FreqOverride" in values:
                clocks["override"] = values["FreqOverride"]
            shown["emc"] = clocks
        else:
            for key, pattern in _SHOWN_TEXTS:
                found = re.match(pattern, line)
                if found:
                    shown[key] = found.group(1).strip()
    return shown


def parse_jetson_clocks_store(text: str) -> Dict[str, int]:
    """Parse the file written by ``jetson_clocks --store`` into values by sysfs path."""
    found = [re.fullmatch(r"(/[^:]+):(-?[0-9]{1,15})", line.strip()) for line in complete_lines(text)]
    return {match.group(1): int(match.group(2)) for match in found if match}


def parse_thermal_zones(text: str) -> Dict[str, float]:
    """Parse lines of ``NAME  41.5°C`` (or ``41.5C``) into degrees Celsius; implausible values (-256: sensor off) are left out."""
    found = [
        re.fullmatch(r"(\S+)\s+(-?[0-9]{1,15}(?:\.[0-9]{1,15})?)\s*°?C", line.strip()) for line in complete_lines(text)
    ]
    return {match.group(1): float(match.group(2)) for match in found if match and -50 <= float(match.group(2)) <= 150}


def parse_frequencies(text: str) -> List[int]:
    """Parse ``available_frequencies`` into ascending frequencies in Hz; a number at the very end may be truncated and is dropped."""
    return sorted({int(value) for value in re.findall(r"(?<!\S)([0-9]{1,15})(?=\s)", text)})


class TransStat(NamedTuple):
    """The ``trans_stat`` table of devfreq: milliseconds per frequency (Hz) and the number of frequency changes."""

    times_ms: Dict[int, int]
    transitions: Optional[int]


def parse_trans_stat(text: str) -> TransStat:
    """Parse the ``trans_stat`` table; no times and None for text that is not one."""
    times: Dict[int, int] = {}
    transitions = None
    for line in complete_lines(text):
        row = re.fullmatch(r"\s*\*?\s*([0-9]{1,15}):((?:\s+[0-9]{1,18})+)\s*", line)
        if row:
            times[int(row.group(1))] = int(row.group(2).split()[-1])
        total = re.fullmatch(r"\s*Total transition\s*:\s*([0-9]{1,15})\s*", line)
        if total:
            transitions = int(total.group(1))
    return TransStat(times, transitions)


_OC_ALARM = re.compile(r"soctherm: OC ALARM 0x[0-9a-fA-F]{8}(?![0-9a-fA-F])")


def parse_oc_alarms(text: str) -> List[str]:
    """Return the over-current lines of the kernel log (undervoltage on a weak supply), unchanged."""
    return [line for line in complete_lines(text) if _OC_ALARM.search(line)]


def parse_l4t(text: str) -> Optional[str]:
    """Parse ``/etc/nv_tegra_release`` into the L4T version, e.g. ``32.7.1``."""
    found = re.search(r"# R([0-9]{1,15}) \(release\), REVISION: ([0-9]{1,15}(?:\.[0-9]{1,15})*)(?=,)", text)
    return f"{found.group(1)}.{found.group(2)}" if found else None
