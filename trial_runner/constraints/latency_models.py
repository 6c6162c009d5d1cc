"""The latency models of a study: one for each precision that its networks may run in, checked against device and set-up."""

from __future__ import annotations

from pathlib import Path

from exports import get_profile
from hw_latency_model import LatencyModel, LocalCpuDevice
from hw_latency_model.bundled.load import calibrated_or_bundled
from hw_latency_model.file_names import MODEL_FILE
from hw_latency_model.model.custom import CustomLatencyModel
from search_spaces._common.errors import UserError
from search_spaces._common.references import is_reference
from search_spaces.candidate import Precision
from trial_runner.config.study import StudyConfig


def load_latency_models(config: StudyConfig) -> dict[Precision, LatencyModel | CustomLatencyModel]:
    """Load the study's latency models by precision, ``device.precision`` first; uncalibrated boards use the bundled model.

    Raises:
        UserError: as `load_latency_model`, for any of them.
    """
    default = config.device.precision
    others = [precision for precision in config.precisions if precision != default]
    return {precision: load_latency_model(config, precision) for precision in (default, *others)}


def load_latency_model(config: StudyConfig, precision: Precision | None = None) -> LatencyModel | CustomLatencyModel:
    """Load the study's latency model of a precision (``device.precision`` by default); an uncalibrated board uses the bundled
    model.

    Raises:
        UserError: there is none, it is damaged, or it belongs to another machine or precision.
    """
    device = config.device
    precision = precision or device.precision
    path = device.model_path(precision)
    if is_reference(str(path)):
        return CustomLatencyModel.load(str(path), precision, get_profile(device.name).runtime)
    try:
        model = _load(path, device.name, precision)
    except UserError as error:
        if precision == device.precision:
            raise
        raise UserError(f"space.precisions offers {precision}, whose latency model is missing: {error}") from error
    if model.device != device.name:
        raise UserError(
            f"{path} is a latency model of {model.device}, but device.name is {device.name}. "
            "Set device.latency_model to a model of that device."
        )
    if model.precision != precision:
        asked = "device.precision is" if precision == device.precision else "space.precisions offers"
        raise UserError(
            f"{asked} {precision}, but the latency model {path} was calibrated for {model.precision}. "
            "Calibrate that precision, or take another one."
        )
    return model


def default_model_path(device: str, precision: str) -> Path:
    """Return ``runs/DEVICE-PRECISION/latency_model.json`` if there is such a file, else ``runs/DEVICE/latency_model.json``."""
    folder = Path("runs") / device
    beside = folder.with_name(f"{folder.name}-{precision}") / MODEL_FILE
    return beside if beside.is_file() else folder / MODEL_FILE


def _load(path: Path, device: str, precision: str) -> LatencyModel:
    if device == LocalCpuDevice.name:
        if not path.is_file():
            raise UserError(
                f"there is no latency model at {path}; run `paretoseg calibrate` with this study's YAML to measure this machine."
            )
        return LatencyModel.load(path, fingerprint=LocalCpuDevice(precision=precision).fingerprint())
    return calibrated_or_bundled(path, device, precision)
