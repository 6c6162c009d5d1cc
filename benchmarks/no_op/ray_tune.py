"""Ray Tune alone on trials that train nothing: reused actors, and proposals by its own `OptunaSearch`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import optuna

from benchmarks.no_op.study import study_config
from search_spaces import open_space


def ray_tune_row(url: str, folder: Path, trials: int, epochs: int) -> dict[str, Any]:
    """Run ``trials`` trials on two slots; one row."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    space = open_space(study_config(url, folder, "random", trials, epochs).space)

    class NoOp(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            """Start a trial."""

        def step(self) -> dict[str, Any]:
            return {"miou": 0.1 * self.iteration, "latency_ms": 1.0, "done": self.iteration + 1 >= epochs}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

    def define(trial: optuna.Trial) -> None:
        space.suggest(trial)

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        search = OptunaSearch(
            define,
            metric=["miou", "latency_ms"],
            mode=["max", "min"],
            sampler=optuna.samplers.RandomSampler(seed=1),
            storage=optuna.storages.RDBStorage(url),
            study_name="ray",
        )
        began = time.perf_counter()
        tune.Tuner(
            NoOp,
            tune_config=tune.TuneConfig(search_alg=search, num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
        ).fit()
        return {"system": "ray_tune", "trials": trials, "trials_per_s": trials / (time.perf_counter() - began)}
    finally:
        ray.shutdown()
