"""DEVICE.yaml: a device, its transport and the budget for measuring it. Units are in the keys."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from exports import PROFILES
from hw_latency_model.file_names import MODEL_FILE, STORE_FILE
from search_spaces._common.references import add_import_folder
from search_spaces._common.urls import home_path
from search_spaces._common.yaml_config import ConfigError, check_values, override, read_yaml
from search_spaces.spaces.config import Section, SpaceSection

Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
INT8 = "int8"
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_NOT_AN_ID = "; the number of a mode differs from board to board"


class TargetSection(Section):
    """The measured device. ``profile`` names the export profile if its name differs from the device's; ``power_profile`` and
    ``lock_clocks`` are the board's settings during measurements; the original ones are restored afterwards."""

    name: str = Field(pattern=_NAME, max_length=100)
    profile: str | None = None
    precision: Literal["fp32", "fp16"] = "fp32"
    power_profile: str | None = None
    lock_clocks: bool = True
    backend: Literal["auto", "tensorrt", "trtexec", "onnxruntime", "torch"] = "auto"

    @field_validator("power_profile", mode="before")
    @classmethod
    def _power_profile_is_a_mode(cls, value: object) -> object:
        """Return the mode in lower case, which is how ``nvpmodel``'s names are compared."""
        if value is None or (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", value.strip())):
            return value.strip().lower() if isinstance(value, str) else None
        raise ValueError(f"give the name of a power mode, such as maxn or 5w, as `nvpmodel -q` prints it{_NOT_AN_ID}")

    @model_validator(mode="after")
    def _mode_exists_on_a_nano(self) -> TargetSection:
        modes = PROFILES[self.name].power_modes if self.name in PROFILES else ()
        if modes and self.power_profile not in (None, *modes):
            board = "a Jetson Nano" if self.name == "jetson-nano" else self.name
            raise ValueError(
                f"{board} has no power mode {self.power_profile!r}: set device.power_profile to {' or '.join(modes)}"
            )
        return self

    @model_validator(mode="after")
    def _profile_is_known(self) -> TargetSection:
        if self.profile_name not in PROFILES:
            raise ValueError(
                f"there are no export rules named {self.profile_name!r}: set device.profile to one of {', '.join(PROFILES)}"
            )
        if self.precision not in PROFILES[self.profile_name].precisions and self.precision != "fp32":
            raise ValueError(f"{self.profile_name} does not run {self.precision}: set device.precision to fp32")
        return self

    @property
    def profile_name(self) -> str:
        """Key of ``exports.PROFILES``."""
        return self.profile or self.name

    @property
    def runtime(self) -> str:
        """Runtime whose fusion rules apply, a key of ``fusion.RULES``."""
        if self.backend == "auto":
            return PROFILES[self.profile_name].runtime
        return "tensorrt" if self.backend in ("tensorrt", "trtexec") else "onnxruntime"


class SshSection(Section):
    """SSH connection, with key authentication only. Missing keys are taken from OpenSSH's own configuration."""

    host: str = Field(min_length=1)
    user: str | None = Field(default=None, pattern=r"^[^-\s@][^\s@]*$")
    port: int | None = Field(default=None, ge=1, le=65535)
    identity_file: Path | None = None
    known_hosts: Path | None = None

    @field_validator("host")
    @classmethod
    def _host_is_a_host_alone(cls, host: str) -> str:
        """Reject an address with a scheme, user, port or path, which ssh would look up as a host's name."""
        if advice := host_advice(host.strip()):
            raise ValueError(f"it must be the board's name or address alone: {advice}")
        return host.strip()


def host_advice(host: str) -> str | None:
    """Return what to write instead of ``host``; None if it is a name or an address alone. A password in it is not repeated."""
    address = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*:/*/", "", host) if "://" in host else host
    address = address.removeprefix("ssh ").strip()
    user, _, rest = address.rpartition("@")
    rest = rest.partition("/")[0]
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", rest)
    name, port = bracketed.groups() if bracketed else (rest, None)
    if not _is_ipv6(name):
        name, _, port = name.partition(":")
    if name == host and re.fullmatch(r"[^\s\[\]@/:-][^\s\[\]@/:]*", name):
        return None
    if name == host and _is_ipv6(name):
        return None
    if not re.fullmatch(r"[^\s\[\]@/-][^\s\[\]@/]*", name):
        return "write such as `host: 192.168.0.7` or `host: nano.local`"
    parts = [f"host: {name}"]
    user, colon, _ = user.partition(":")
    if re.fullmatch(r"[^-\s@][^\s@]*", user):
        parts.append(f"user: {user}")
    if port and port.isdecimal():
        parts.append(f"port: {port}")
    advice = "write " + ", ".join(f"`{part}`" for part in parts)
    return advice + " (no password: the board is reached with a key, see `ssh-copy-id`)" if colon else advice


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


class BoardSection(Section):
    """Folder on the board (relative to the login folder; for ``local`` to output_dir) and command of Python 3.6 or newer."""

    dir: str = Field(default="paretoseg", min_length=1)
    python: str | None = Field(default=None, min_length=1)


class ProtocolSection(Section):
    """Timing protocol on the board; missing keys have the agent's default."""

    warmup_s: Seconds | None = None
    min_runs: Count | None = None
    max_runs: Count | None = None
    max_s: Seconds | None = None
    rounds: Count | None = None
    confidence_rel: Share | None = None
    max_drift_rel: Share | None = None
    max_repeats: int | None = Field(default=None, ge=0)
    energy_s: Seconds | None = None
    reference_runs: Count | None = None
    cool_down_s: Seconds | None = None
    build_timeout_s: Seconds | None = None


class CalibrationSection(Section):
    """Budget, search space and stop criteria. Calibration ends when the hours are spent, ``max_networks`` are measured, or both
    accuracies are reached: ``stop_error_rel`` by the leave-one-out median error, ``stop_interval_rel`` by the median
    half width of the interval over the search space."""

    hours: float = Field(default=2.0, gt=0)
    num_classes: Count = 14
    output_dir: Path
    store: str | None = None
    max_networks: Count = 200
    stop_error_rel: Share = 0.04
    stop_interval_rel: Share = 0.12
    chains: bool = True
    seed: int = 0


class DeviceConfig(Section):
    """A whole DEVICE.yaml."""

    schema_version: Literal[1] = 1
    device: TargetSection
    transport: Literal["ssh", "local", "offline"]
    ssh: SshSection | None = None
    board: BoardSection = BoardSection()
    calibration: CalibrationSection
    space: SpaceSection = SpaceSection()
    protocol: ProtocolSection = ProtocolSection()

    @model_validator(mode="after")
    def _ssh_belongs_to_ssh(self) -> DeviceConfig:
        if self.transport == "ssh" and self.ssh is None:
            raise ValueError("transport ssh needs the section ssh: set ssh.host to the board's name or address")
        if self.transport != "ssh" and self.ssh is not None:
            raise ValueError(f"the section ssh is for transport ssh, not for {self.transport}: leave it out")
        return self

    def in_int8(self) -> DeviceConfig:
        """Return the configuration for engines of INT8 variants, which a DEVICE.yaml does not name as its precision."""
        return self.model_copy(update={"device": self.device.model_copy(update={"precision": INT8})})

    @property
    def model_path(self) -> Path:
        """Path of the latency model."""
        return self.calibration.output_dir / MODEL_FILE

    @property
    def store_location(self) -> str:
        """File or database URL of the measurement store."""
        return self.calibration.store or str(self.calibration.output_dir / STORE_FILE)

    def protocol_settings(self) -> dict[str, float | int]:
        """Explicitly set keys of the section protocol."""
        return self.protocol.model_dump(exclude_none=True)


def is_device_file(path: Path) -> bool:
    """Return True if a YAML file describes a device, not a study: it has a key ``transport``, or ``device`` without ``study``.

    Raises:
        ConfigError: the file is missing or not YAML.
    """
    values, _ = read_yaml(path, what="file", sections="device, transport, calibration, … (or study, data, …)")
    return "transport" in values or ("device" in values and "study" not in values)


def load_device(path: Path, overrides: Iterable[str] = ()) -> DeviceConfig:
    """Read a DEVICE.yaml; ``overrides`` are ``section.key=value`` with a YAML value.

    Relative paths are resolved against the YAML's folder, ``~`` against the home folder.

    Raises:
        ConfigError: the file is missing, not YAML, or has an unknown key or a value out of range.
    """
    values, tree = read_yaml(path, what="device file", sections="device, transport, calibration, …")
    for text in overrides:
        override(values, text)
    config = check_values(DeviceConfig, values, path, tree)
    folder = path.resolve().parent
    if config.space.custom:
        add_import_folder(folder)
    calibration = config.calibration
    changes: dict[str, Any] = {
        "output_dir": (folder / home_path(calibration.output_dir, "calibration.output_dir")).resolve()
    }
    if calibration.store is not None and "://" not in calibration.store:
        changes["store"] = str((folder / home_path(calibration.store, "calibration.store")).resolve())
    updates: dict[str, Any] = {"calibration": calibration.model_copy(update=changes)}
    if config.ssh is not None:
        paths = {key: getattr(config.ssh, key) for key in ("identity_file", "known_hosts")}
        found = {
            key: (folder / home_path(value, f"ssh.{key}")).resolve()
            for key, value in paths.items()
            if value is not None
        }
        for key, value in found.items():
            if not value.is_file():
                raise ConfigError(f"{path}: ssh.{key} names {value}, which is not there. {_ADVICE[key]}")
        updates["ssh"] = config.ssh.model_copy(update=found)
    return config.model_copy(update=updates)


_ADVICE = {
    "identity_file": "Make a key with `ssh-keygen -t ed25519 -f FILE` and add its public half to the board's "
    "~/.ssh/authorized_keys, or leave the key out.",
    "known_hosts": "Add the board's host key to it with `ssh-keyscan HOST >> FILE`, once you have compared it with "
    "the board's own, or leave the key out to use ~/.ssh/known_hosts.",
}
