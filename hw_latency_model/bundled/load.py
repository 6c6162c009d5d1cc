"""Bundled latency models: fitted on public measurements, uncalibrated, for users without measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hw_latency_model.file_names import MODEL_FILE
from hw_latency_model.local.device import DEVICES
from hw_latency_model.model.conformal import Margins
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.model.nano_prior import NanoPrior
from search_spaces._common.errors import UserError

FOLDER = Path(__file__).parent
HELD_OUT_SUFFIX = "heldout"
AUTO = "auto"
"""Name that stands for every model that a calibration may start from."""

_ALIASES = {"nano": "jetson-nano"}
_EQUALLY_FAST = {
    "jetson-nano-4gb": "jetson-nano",
    "jetson-orin-nano-jp60": "jetson-orin-nano",
    "jetson-agx-orin-jp60": "jetson-agx-orin",
}
_SLOWED = {"jetson-nano-5w": ("jetson-nano", "5W", 614.4 / 921.6)}
"""Devices that are another one at a lower clock of its GPU: that device, the power mode, and the share of the clock."""
_SLOWED_WIDTH = 1.25
"""Factor on the interval of a slowed device, which nobody measured."""


def bundled_names() -> list[tuple[str, str]]:
    """Return (device, precision) of every bundled model, sorted."""
    stems = [path.stem.rpartition("-") for path in sorted(FOLDER.glob("*.json"))]
    return [(device, precision) for device, _, precision in stems if precision != HELD_OUT_SUFFIX]


def load_bundled(device: str, precision: str) -> LatencyModel:
    """Load the model of a device (``jetson-nano`` or ``nano``) in ``fp32`` or ``fp16``; its ``calibrated`` is False.

    Raises:
        UserError: no model of that device and precision is bundled.
    """
    if device in _EQUALLY_FAST:
        return replace(load_bundled(_EQUALLY_FAST[device], precision), device=device)
    if device in _SLOWED:
        return _slowed(device, precision)
    known = bundled_names()
    name = _ALIASES.get(device, device)
    if (name, precision) not in known:
        listed = ", ".join(f"{item} {kind}" for item, kind in known)
        raise UserError(
            f"there is no latency model of {device} in {precision}: none was calibrated here, and only those of {listed} come with "
            "paretoseg. Run `paretoseg calibrate` for your device, or correct the name."
        )
    return LatencyModel.load(FOLDER / f"{name}-{precision}.json")


def _slowed(device: str, precision: str) -> LatencyModel:
    name, mode, clock = _SLOWED[device]
    model = load_bundled(name, precision)
    prior = model.fit_result.prior
    assert isinstance(prior, NanoPrior)

    def wider(margins: Margins) -> Margins:
        return replace(margins, near=_SLOWED_WIDTH * margins.near, far=_SLOWED_WIDTH * margins.far)

    return replace(
        model,
        device=device,
        fingerprint={**model.fingerprint, "power_mode": mode},
        fit_result=replace(model.fit_result, prior=replace(prior, gpu_clock=clock)),
        margins=wider(model.margins),
        group_margins={group: wider(margins) for group, margins in model.group_margins.items()},
        provenance=f"The model of the {name} with its GPU at {clock:.0%} of the clock ({mode}); nobody measured it. {model.provenance}",
    )


def calibrated_or_bundled(path: Path, device: str, precision: str) -> LatencyModel:
    """Load the calibrated model at ``path``, or the bundled one if there is no such file.

    Raises:
        UserError: there is neither, or the file is damaged.
    """
    if path.is_file() or device in DEVICES:
        return LatencyModel.load(path)
    return load_bundled(device, precision)


def models_to_start_from(names: Sequence[str], precision: str, folder: Path) -> dict[str, LatencyModel]:
    """Load the models of other devices that a calibration in ``folder`` may start from, by name.

    Args:
        names: bundled devices, folders beside ``folder`` or paths of models; ``auto`` for all bundled ones and all beside it.
        precision: of the measured networks; models of another precision are refused, and left out by ``auto``.

    Raises:
        UserError: there is no model of a name, it is damaged, or it is of another precision or no model of latencies.
    """
    found: dict[str, LatencyModel] = {}
    for name in names:
        if name == AUTO:
            found |= {device: load_bundled(device, kind) for device, kind in bundled_names() if kind == precision}
            found |= _models_beside(folder, precision)
            continue
        paths = (Path(name), Path(name) / MODEL_FILE, folder.parent / f"{name}-{precision}" / MODEL_FILE)
        path = next((item for item in (*paths, folder.parent / name / MODEL_FILE) if item.is_file()), None)
        model = LatencyModel.load(path) if path is not None else load_bundled(name, precision)
        if model.precision != precision or model.target != "latency_ms":
            raise UserError(
                f"the model {name} is of {model.target} in {model.precision}; a calibration in {precision} starts from models of latency "
                f"in {precision} only. Name another one, or {AUTO}."
            )
        found[name] = model
    return found


def _models_beside(folder: Path, precision: str) -> dict[str, LatencyModel]:
    found = {}
    for path in sorted(folder.parent.glob(f"*/{MODEL_FILE}")):
        if path.parent.resolve() == folder.resolve():
            continue
        try:
            model = LatencyModel.load(path)
        except UserError:
            continue  # damaged or of another release: it is not needed
        if model.precision == precision and model.target == "latency_ms":
            found[path.parent.name] = model
    return found


def held_out_models(device: str, precision: str) -> Mapping[str, LatencyModel]:
    """Load the leave-one-network-out models of the bundled model by the key of the published network left out.

    Raises:
        UserError: no such model is bundled.
    """
    model = load_bundled(device, precision)
    text = (FOLDER / f"{_ALIASES.get(device, device)}-{HELD_OUT_SUFFIX}.json").read_text()
    parameters: dict[str, dict[str, float]] = json.loads(text)["parameters"]
    return {
        key: replace(
            model, fit_result=replace(model.fit_result, prior=NanoPrior(tuple(model.kinds), precision, values))
        )
        for key, values in parameters.items()
    }
