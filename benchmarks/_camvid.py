"""Studies and orders for benchmarks that train on CamVid without a search."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from exports import export_onnx
from hw_latency_model import measure_bundle
from hw_latency_model.agent.cores import available_cores
from search_spaces import open_space
from search_spaces.candidate import Candidate
from trial_runner.config.study import StudyConfig
from trial_runner.front.export_job import trained_net
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import Progress, TrialSpec


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
    """Return the configuration of a study for such trials; nothing is stored, and no latency is predicted."""
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


def default_candidate(config: StudyConfig, *, learning_rate: float, weight_decay: float) -> Candidate:
    """The default network of the study's space, trained at these rates."""
    space = open_space(config.space)
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


def train_for(
    config: StudyConfig, candidate: Candidate, minutes: float, folder: Path
) -> tuple[TrialSpec, list[Progress]]:
    """Train one network for about the given minutes on all cores; a timed epoch determines their number.

    Returns:
        The order that was carried out, and its readings, one an epoch.
    """
    threads = available_cores()
    compute = config.compute.model_copy(update={"threads_per_trial": threads})

    def spec(epochs: int, name: str) -> TrialSpec:
        training = config.training.model_copy(update={"epochs": epochs})
        changed = config.model_copy(update={"training": training, "compute": compute})
        return TrialSpec(0, candidate, changed, folder / name, folder / "cache")

    for name in ("timed", "whole"):
        shutil.rmtree(folder / name, ignore_errors=True)  # an earlier run's checkpoints would be gone on with
    times: list[float] = []
    run_trial(spec(3, "timed"), lambda progress: bool(times.append(time.monotonic())))
    order = spec(max(int(60 * minutes / (times[2] - times[1])), 1), "whole")
    readings: list[Progress] = []

    def report(progress: Progress) -> bool:
        readings.append(progress)
        print(f"epoch {progress.epoch} of {order.epochs}: mIoU {progress.val_miou:.3f}", flush=True)
        return False

    run_trial(order, report)
    return order, readings


def exported(order: TrialSpec, num_classes: int, path: Path) -> Path:
    """The network that an order has trained, as ``path``."""
    space = open_space(order.config.space)
    export_onnx(trained_net(order, num_classes), space.input_hw(order.candidate), path)
    return path


def measured_ms(paths: Sequence[Path]) -> list[float]:
    """Return the median latency of each on one core, in a separate process: after training this one is a third slower."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return [fresh.submit(measure_bundle, path, "local-cpu").result().latency_ms_p50 for path in paths]
