"""How long a job will take on the board, learnt from those that were done."""

from __future__ import annotations

from collections.abc import Mapping

from hw_latency_model.board.device_config import DeviceConfig
from hw_latency_model.board.plan import BuildCost
from hw_latency_model.board.results import BoardResults, KnownJob

ENGINE_RUNTIMES = frozenset({"tensorrt"})
BESIDES_S = 3.0
"""Loading and copying, before anything is known of the board."""


def builds_engines(config: DeviceConfig) -> bool:
    """Whether the device builds an engine of each network, which is most of the time there."""
    return config.device.runtime in ENGINE_RUNTIMES


def job_cost(config: DeviceConfig, jobs: Mapping[str, KnownJob], results: BoardResults) -> tuple[BuildCost, float]:
    """What building costs, and the seconds that all else takes for one job.

    Args:
        config: of the device.
        jobs: by id, all that were ever ordered.
        results: of them; without any, published build times and the protocol's own limits stand in.
    """
    cost = BuildCost(
        ((jobs[job_id].kernels, build_s) for job_id, (_, build_s) in results.seconds.items()),
        builds_engines=builds_engines(config),
    )
    rest = sorted(wall_s - build_s for wall_s, build_s in results.seconds.values())
    if rest:
        return cost, rest[len(rest) // 2]
    settings = {"warmup_s": 1.0, "max_s": 5.0, "energy_s": 5.0, **config.protocol_settings()}
    return cost, sum(float(settings[key]) for key in ("warmup_s", "max_s", "energy_s")) + BESIDES_S
