"""How well the calibrated model predicts architectures it has never seen, on this machine's CPU.

    python -m benchmarks.latency_local_cpu --json OUT [--networks 40 --fresh 20]

Calibrates as `paretoseg calibrate` does, then measures fresh random architectures of the space by the same protocol. The
fresh ones are compared at the machine's calibrated speed (each latency over the reference that ran around it) and, for the
interval, as they were measured. The interval of the simpler methods is conformal too: the quantile of their leave-one-out
errors.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from hw_latency_model import LatencyModel, LocalCpuDevice, Measurement, MeasurementStore, calibrate
from hw_latency_model.calibration import measure_candidate
from hw_latency_model.fitting import Fitter, Observation, observe
from hw_latency_model.model import LEVEL, conformal_quantile
from search_spaces import SearchSpace, get_space
from search_spaces.files import write_json

Array = NDArray[np.float64]
NUM_CLASSES = 14


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument("--networks", type=int, default=40, help="networks to calibrate on")
    parser.add_argument("--fresh", type=int, default=20, help="random architectures to predict")
    parser.add_argument("--budget-s", type=float, default=110.0, help="seconds for the calibration")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    space = get_space("encoder_decoder")
    device = LocalCpuDevice()
    with tempfile.TemporaryDirectory() as folder:
        report = calibrate(
            device,
            space,
            NUM_CLASSES,
            Path(folder),
            budget_s=options.budget_s,
            max_networks=options.networks,
            seed=options.seed,
            progress=print,
        )
        print(report.summary)
        store = MeasurementStore(report.store_path)
        calibrated = store.all(device.name, device.fingerprint())
        store.close()
        model = LatencyModel.load(report.model_path)
        begun = time.perf_counter()
        fresh = _measure_fresh(device, space, calibrated, options.fresh, options.seed, Path(folder))
        fresh_s = time.perf_counter() - begun
    rows = compare(model, calibrated, fresh)
    print(f"\n{len(calibrated)} networks calibrated in {report.seconds:.0f} s, {len(fresh)} fresh in {fresh_s:.0f} s")
    print(f"{'method':<18}{'median error':>14}{'within 10 %':>13}{'Spearman':>10}{'90 % held':>11}{'half width':>12}")
    for row in rows:
        print(
            f"{row['method']:<18}{row['median_error']:>13.1%} {row['within10']:>12.0%} {row['spearman']:>9.3f} "
            f"{row['coverage90']:>10.0%} {row['half_width']:>11.0%}"
        )
    facts = {"networks": len(calibrated), "fresh": len(fresh), "calibrate_s": report.seconds, "fresh_s": fresh_s}
    write_json(options.json, {"rows": rows, **facts, "calibration": report.to_dict()})


def _measure_fresh(
    device: LocalCpuDevice, space: SearchSpace, calibrated: list[Measurement], count: int, seed: int, folder: Path
) -> list[Measurement]:
    """Random architectures that were not calibrated on, each once."""
    rng = np.random.default_rng(10_000 + seed)
    seen = {item.subject for item in calibrated}
    fresh: list[Measurement] = []
    while len(fresh) < count:
        candidate = space.sample(rng)
        subject = f"{space.architecture_id(candidate)}-{NUM_CLASSES}"
        if subject not in seen:
            seen.add(subject)
            fresh.append(measure_candidate(device, space, candidate, NUM_CLASSES, folder))
    return fresh


def compare(model: LatencyModel, calibrated: list[Measurement], fresh: list[Measurement]) -> list[dict[str, Any]]:
    """One row per method: MACs in a straight line, the roofline prior alone, the full model."""
    exponent = model.quality.speed_exponent
    observations, base_ms = observe(calibrated, exponent)
    raw = np.array([item.latency_ms_p50 for item in fresh])
    level = raw * (base_ms / np.array([item.reference_ms for item in fresh])) ** exponent
    estimates = [model.predict(item.kernels) for item in fresh]
    return [
        _row("MACs, linear", *_with_margin(_macs_line, observations, fresh), raw, level),
        _row("roofline prior", *_with_margin(_prior, observations, fresh), raw, level),
        _row(
            "full model",
            np.array([item.latency_ms for item in estimates]),
            np.array([item.high_ms / item.latency_ms for item in estimates]),
            raw,
            level,
        ),
    ]


Method = Callable[[list[Observation], list[Any]], Array]


def _with_margin(method: Method, observations: list[Observation], fresh: list[Measurement]) -> tuple[Array, Array]:
    """Predictions for the fresh networks, and the factor of the conformal interval from leave-one-out errors."""
    scores = []
    for index, item in enumerate(observations):
        others = observations[:index] + observations[index + 1 :]
        predicted = float(method(others, [item])[0])
        scores += [abs(float(np.log(ms / predicted))) for ms in item.raw_ms]
    margin = conformal_quantile(np.array(scores), LEVEL)
    return method(observations, fresh), np.full(len(fresh), np.exp(margin))


def _macs_line(observations: list[Observation], wanted: list[Any]) -> Array:
    """Least squares of relative errors; where the line goes below the fastest network measured, that one's latency."""
    latency = np.array([item.latency_ms for item in observations])
    design = np.stack([_macs(observations), np.ones(len(observations))], axis=1) / latency[:, None]
    slope, start = np.linalg.lstsq(design, np.ones(len(observations)), rcond=None)[0]
    return np.asarray(np.maximum(slope * _macs(wanted) + start, latency.min()), dtype=np.float64)


def _macs(networks: Sequence[Any]) -> Array:
    return np.array([sum(kernel.macs for kernel in item.kernels) for item in networks], dtype=np.float64)


def _prior(observations: list[Observation], wanted: list[Any]) -> Array:
    fitter = Fitter(observations)
    prior = fitter.fit(np.arange(len(observations)), *fitter.choose()).prior
    return np.array([float(prior.kernel_ms(item.kernels).sum()) for item in wanted])


def _row(method: str, predicted: Array, factor: Array, raw: Array, level: Array) -> dict[str, Any]:
    errors = np.abs(predicted / level - 1)
    return {
        "method": method,
        "networks": len(raw),
        "median_error": float(np.median(errors)),
        "within10": float(np.mean(errors <= 0.1)),
        "spearman": float(spearmanr(predicted, raw)[0]),
        "coverage90": float(np.mean((raw >= predicted / factor) & (raw <= predicted * factor))),
        "half_width": float(np.median(factor) - 1),
    }


if __name__ == "__main__":
    main()
