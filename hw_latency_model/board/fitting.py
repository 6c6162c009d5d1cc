"""A board's latency model, from its store, on top of the one in the box where there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hw_latency_model.board.device_config import DeviceConfig
from hw_latency_model.bundled.load import load_boxed
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.store.measurement_store import MeasurementStore
from search_spaces._common.errors import UserError


def fit_board_model(config: DeviceConfig, store: MeasurementStore, fingerprint: Mapping[str, Any]) -> LatencyModel:
    """Fit everything that ``store`` holds of the device under one fingerprint, and write it to ``config.model_path``.

    Raises:
        UserError: the store holds too little, or the model cannot be written.
    """
    device = config.device
    boxed = boxed_model(config)
    prior = boxed.fit_result.prior if boxed is not None else None
    everything = store.all(device.name, fingerprint, precision=device.precision)
    model = LatencyModel.fit(everything, device=device.name, fingerprint=fingerprint, prior=prior)
    model.save(config.model_path)
    return model


def boxed_model(config: DeviceConfig) -> LatencyModel | None:
    """The model that comes in the box for such a device; None where there is none."""
    try:
        return load_boxed(config.device.profile_name, config.device.precision)
    except UserError:
        return None
