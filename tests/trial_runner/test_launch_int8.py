"""A whole study in INT8: calibrated, searched, exported and measured as what runs on the device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hw_latency_model import calibrate, get_device
from hw_latency_model.local.protocol import ProtocolSettings
from objectives.trial_record import read_study
from search_spaces import get_space
from search_spaces._common.errors import UserError
from trial_runner.config.load import load_config
from trial_runner.constraints.latency_models import load_latency_model
from trial_runner.launch import launch
from trial_runner.study.storage import open_study

STUDY = """
study: {name: tiny, storage: "sqlite:///study.db", output_dir: out, seed: 3}
data: {kind: synthetic, train_images: 12, val_images: 6, image_height_px: 32, image_width_px: 64}
space: {families: [resnet10t], widths: [0.25], decoders: [lraspp], resolutions_px: [[32, 64]], prune_ratios: [0.0]}
device: {name: local-cpu, precision: int8, latency_model: int8/latency_model.json, latency_budget_ms: 1000}
training: {epochs: 2, batch_size: 4, quantization: {method: qat, start: 0.5, calibration_images: 6}}
search: {trials: 2, startup_trials: 2}
compute: {backend: inprocess}
export: {parity_images: 2}
"""


@pytest.mark.slow
def test_a_study_in_int8_ends_with_measured_int8_networks(tmp_path: Path):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    config = load_config(path)
    space = get_space(
        "encoder_decoder",
        {"families": ["resnet10t", "lcnet"], "widths": [0.25, 0.5], "resolutions_px": [(32, 64), (64, 64)]},
    )
    quick = ProtocolSettings(min_runs=4, max_runs=8, max_s=0.05)
    calibrate(get_device("local-cpu", "int8"), space, 14, tmp_path / "int8", budget_s=4, settings=quick)
    result = launch(config, lambda line: None)
    records = [
        record for record in read_study(open_study(config.study.storage, "tiny", create=False)) if record.complete
    ]
    assert len(records) == 2 and {record.score.precision for record in records if record.score} == {"int8"}
    best = result.front[0]
    assert best.bundle is not None and best.measured_ms is not None and best.measurement is not None
    assert best.measurement.precision == "int8"
    manifest = json.loads((Path(best.bundle) / "manifest.json").read_text())
    assert manifest["precision"]["name"] == "int8" and manifest["measurements"][0]["precision"] == "int8"
    float_study = path.read_text().replace("precision: int8", "precision: fp32")
    path.write_text(float_study)
    with pytest.raises(UserError, match="calibrate"):
        load_latency_model(load_config(path))
