"""A search space, data set, metric and latency function of the user's own in one study, searched by two workers of Ray."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exports import read_bundle
from hw_latency_model.agent.cores import available_cores
from paretoseg import Study

PARTS = (
    "custom_network/plain_space.py",
    "custom_data/bubbles.py",
    "custom_metric/boundary.py",
    "custom_latency/roofline.py",
)

STUDY = """
study: {name: all-custom, storage: "sqlite:///study.db", output_dir: out, seed: 1}
data: {kind: "bubbles:open_bubbles", options: {images: 12}}
space: {name: "plain_space:PlainSpace", resolutions_px: [[64, 96]]}
device: {latency_model: "roofline:predict", latency_budget_ms: 5}
objectives: [{name: "boundary:boundary_f1", direction: maximize}, latency_ms]
training: {epochs: 2, batch_size: 4}
search: {trials: 4, startup_trials: 4, early_stopping: {rungs_epochs: []}}
compute: {backend: ray, cpus_per_trial: CPUS}
export: {parity_images: 2}
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_of_custom_parts_is_searched_by_two_workers(
    tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "path", list(sys.path))
    for part in PARTS:
        shutil.copy(repo_root / "examples" / part, tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("CPUS", str(available_cores() / 2)))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()  # neither the driver's folder nor PYTHONPATH has the modules: the YAML's folder alone does
    command = [sys.executable, "-m", "trial_runner.cli.main", "launch", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(repo_root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr

    study = Study(path)
    finished = {row["trial"] for row in study.trials() if row["outcome"] == "finished"}
    assert len(finished) == 4
    trials = [trial for trial in study.optuna_study.trials if trial.number in finished]
    spans = sorted((trial.datetime_start, trial.datetime_complete) for trial in trials)
    assert spans[1][0] < spans[0][1], "the first two trials ran one after the other"

    front = study.front()
    assert front and [item.name for item in study.objectives] == ["boundary:boundary_f1", "latency_ms"]
    for row in front:
        assert 0 <= row["boundary:boundary_f1"] <= 1 and row["channels"] in (16, 32, 48, 64)
        assert row["latency_low_ms"] == pytest.approx(0.6 * row["latency_ms"]) and row["measured_ms"] > 0
        bundle = read_bundle(Path(row["bundle"]))
        assert bundle.class_names == ("background", "bubble") and (bundle.dir / "model.onnx").is_file()
    report = study.report().read_text()
    assert "boundary f1" in report and "channels" in report
