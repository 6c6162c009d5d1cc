"""Copies of trials in other tools: TensorBoard, MLflow, Weights & Biases."""

from __future__ import annotations

from trial_runner.tracking.sinks import TrialSinks, open_sinks

__all__ = ["TrialSinks", "open_sinks"]
