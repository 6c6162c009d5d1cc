"""Studies and orders for benchmarks that train on CamVid without a search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces import get_space
from search_spaces.candidate import Candidate
from trial_runner.study_config import StudyConfig
from trial_runner.trial_spec import TrialSpec


def camvid_study(
    data: Path,
    out: Path,
    training: Mapping[str, Any],
    *,
    sizes_px: list[tuple[int, int]],
    threads: int,
    seed: int,
    space: Mapping[str, Any] | None = None,
) -> StudyConfig:
    """The study that such trials would belong to; nothing is stored, and no latency is asked for."""
    return StudyConfig.model_validate(
        {
            "study": {"name": "benchmark", "storage": "sqlite://", "output_dir": out, "seed": seed},
            "data": {"kind": "camvid", "root": data.resolve()},
            "space": {"resolutions_px": sizes_px, **(space or {})},
            "device": {"latency_model": out / "unused.json", "latency_budget_ms": 1000},
            "training": dict(training),
            "compute": {"threads_per_trial": threads},
        }
    )


def usual_candidate(config: StudyConfig, *, learning_rate: float, weight_decay: float) -> Candidate:
    """The default network of the study's space, trained at these rates."""
    space = get_space(config.space.name, config.space.options())
    rates = {"learning_rate": learning_rate, "weight_decay": weight_decay}
    return space.candidate({**space.default().params, **rates})


def camvid_order(
    config: StudyConfig,
    candidate: Candidate,
    folder: Path,
    out: Path,
    *,
    number: int = 0,
    seed: int | None = None,
    channels: Mapping[str, int] | None = None,
) -> TrialSpec:
    """An order to train ``candidate`` in ``folder``; images are decoded once for all orders below ``out``."""
    return TrialSpec(number, candidate, config, folder, out / "cache", seed=seed, channels=channels)


def weights_source(given: str) -> str:
    """``none`` and ``hub`` as they are, a path made absolute."""
    return given if given in ("none", "hub") else str(Path(given).resolve())
