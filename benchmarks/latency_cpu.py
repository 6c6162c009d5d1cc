"""Latency model on this machine's CPU, on held-out encoder families, against baselines.

    python -m benchmarks.latency_cpu --json OUT [--per-family 18] [--measure-again] [--repeat 40]

Measures segmentation networks of every family of the space by the calibration's protocol and keeps them in runs/latency_cpu: a
second run refits without measuring. Each family is held out in turn; ours also with ten measured networks of that family. Errors
are at the machine's calibrated speed (each latency over the reference around it), coverage is of raw latencies.
`--repeat N` measures N of the networks again, for the repeatability: preferably an hour later.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks._baselines import Method, methods
from benchmarks._isolated_kernels import sample, time_kernel
from exports import ExportError
from hw_latency_model import KernelSpec, LatencyModel, LocalCpuDevice, Measurement, MeasurementStore
from hw_latency_model.file_names import STORE_FILE
from hw_latency_model.local.calibration import measure_candidate, subject_of
from hw_latency_model.local.sampling import covering_order
from hw_latency_model.model.conformal import conformal_quantile
from hw_latency_model.model.observations import speed_factor
from hw_latency_model.model.state import LEVEL
from search_spaces import Candidate, SearchSpace, get_space
from search_spaces._common.files import write_json
from search_spaces.networks.backbones import FAMILIES

Array = NDArray[np.float64]
NUM_CLASSES = 14
ISOLATED_PER_KIND = 60
NEW_NETWORKS = 10


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/latency_cpu"), help="where measurements are kept")
    parser.add_argument("--per-family", type=int, default=18, help="networks of each family")
    parser.add_argument("--families", default="", help="comma-separated; all of the space by default")
    parser.add_argument("--minutes", type=float, default=30.0, help="device time, at most")
    parser.add_argument("--isolated", type=int, default=ISOLATED_PER_KIND, help="kernels of each kind to time alone")
    parser.add_argument("--measure-again", action="store_true", help="measure all networks again, beside the old ones")
    parser.add_argument("--repeat", type=int, default=0, metavar="N", help="measure N of the networks once more")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(1)
    families = [name for name in options.families.split(",") if name] or [
        name for name, spec in FAMILIES.items() if spec.by_default
    ]
    bench = _Bench(options.runs_dir, options.minutes)
    wanted = [(name, *item) for name in families for item in plan(name, options.per_family, options.seed)]
    bench.measure(_interleaved(wanted), again=options.measure_again)
    if options.repeat:
        known = [item for item in wanted if item[3] in bench.measured()]
        step = max(1, len(known) // options.repeat)
        bench.measure(known[::step][: options.repeat], again=True)
    measurements = [item for item in bench.all() if item.family in families]
    print(f"{len({m.subject for m in measurements})} networks of {len({m.family for m in measurements})} families")
    isolated = bench.isolated(measurements, options.isolated, options.seed)
    rows, per_family = leave_families_out(measurements, bench, isolated)
    again = repeatability(measurements)
    _print(rows, per_family, again, bench.device_s)
    facts = {"device_s": bench.device_s, "repeatability": again, "fingerprint": bench.fingerprint}
    write_json(options.json, {"rows": rows, "families": per_family, **facts})


def plan(family: str, count: int, seed: int) -> list[tuple[SearchSpace, Candidate, str]]:
    """Networks of one family: every other covers the space's corners, the rest are drawn at random."""
    space = get_space("encoder_decoder", {"families": [family]})
    rng = np.random.default_rng(seed)
    covering = covering_order(space, count, seed=seed)
    drawn = [space.sample(rng) for _ in range(4 * count)]
    mixed = [item for pair in zip(covering, drawn, strict=False) for item in pair] + drawn
    found: dict[str, tuple[SearchSpace, Candidate, str]] = {}
    for item in mixed:
        subject = subject_of(space, item, NUM_CLASSES)
        if len(found) < count:
            found.setdefault(subject, (space, item, subject))
    return list(found.values())


Planned = tuple[str, SearchSpace, Candidate, str]


def _interleaved(wanted: Sequence[Planned]) -> list[Planned]:
    """One of each family in turn, so that a slow quarter of an hour is no family's fault."""
    groups: dict[str, list[Planned]] = defaultdict(list)
    for item in wanted:
        groups[item[0]].append(item)
    most = max((len(group) for group in groups.values()), default=0)
    return [group[turn] for turn in range(most) for group in groups.values() if turn < len(group)]


class _Bench:
    """The device, its store, and how much of its time was taken."""

    def __init__(self, folder: Path, minutes: float) -> None:
        self.device = LocalCpuDevice()
        self.fingerprint = self.device.fingerprint()
        self._folder, self._limit_s = folder, 60 * minutes
        self._clock = folder / "device_seconds.json"
        self._store = MeasurementStore(folder / STORE_FILE)
        self.device_s = float(json.loads(self._clock.read_text())["seconds"]) if self._clock.is_file() else 0.0

    def all(self) -> list[Measurement]:
        return self._store.all(self.device.name, self.fingerprint)

    def measured(self) -> set[str]:
        return {item.subject for item in self.all()}

    def measure(self, wanted: Sequence[Planned], *, again: bool) -> None:
        known = set() if again else self.measured()
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            for number, (family, space, candidate, subject) in enumerate(wanted, 1):
                if subject in known:
                    continue
                if time.perf_counter() - begun > self._limit_s:
                    print(f"stopped after {self._limit_s / 60:.0f} minutes; run again to go on")
                    break
                started = time.perf_counter()
                try:
                    value = measure_candidate(self.device, space, candidate, NUM_CLASSES, Path(folder))
                except ExportError as error:
                    print(f"left out: {error}")
                    continue
                self._store.add(value)
                self._took(time.perf_counter() - started)
                mark = ", noisy" if value.noisy else ""
                print(f"[{number}/{len(wanted)}] {family} {value.latency_ms_p50:.2f} ms{mark}", flush=True)

    def isolated(
        self, measurements: Sequence[Measurement], per_kind: int, seed: int
    ) -> list[tuple[KernelSpec, tuple[str, ...], float]]:
        """Kernels timed alone, with the families that have them; timed once and kept."""
        path = self._folder / "isolated_kernels.json"
        if path.is_file():
            value = json.loads(path.read_text())
            if value["fingerprint"] == self.fingerprint:
                return [(KernelSpec.from_dict(k), tuple(names), ms) for k, names, ms in value["kernels"]]
        found = sample([(item.family, item.kernels) for item in measurements], per_kind, seed)
        started = time.perf_counter()
        timed = [(kernel, families, time_kernel(kernel)) for kernel, families in found]
        self._took(time.perf_counter() - started)
        print(f"{len(timed)} kernels timed alone")
        rows = [(kernel.to_dict(), list(families), ms) for kernel, families, ms in timed]
        write_json(path, {"fingerprint": self.fingerprint, "kernels": rows})
        return timed

    def _took(self, seconds: float) -> None:
        self.device_s += seconds
        write_json(self._clock, {"seconds": self.device_s})


def leave_families_out(
    measurements: Sequence[Measurement], bench: _Bench, isolated: Sequence[tuple[KernelSpec, tuple[str, ...], float]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(one row per method, one row per family of ours)."""
    base_ms = float(np.median([item.reference_ms for item in measurements]))
    found: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    per_family: list[dict[str, Any]] = []
    for family in sorted({item.family for item in measurements}):
        known = [item for item in measurements if item.family != family]
        held = _one_each([item for item in measurements if item.family == family])
        started = time.perf_counter()
        model = LatencyModel.fit(known, device=bench.device.name, fingerprint=bench.fingerprint)
        raw = np.array([item.latency_ms_p50 for item in held])
        level = raw * np.array([speed_factor(item, base_ms, model.quality.speed_exponent) for item in held])
        estimates = model.predict_many([item.kernels for item in held])
        ours = np.array([item.latency_ms for item in estimates])
        factor = np.array([item.high_ms / item.latency_ms for item in estimates])
        found["ours"] += _quadruples(ours, factor, raw, level)
        alone = [(kernel, ms) for kernel, families, ms in isolated if set(families) - {family}]
        for name, method in methods(alone).items():
            found[name] += _quadruples(*_with_margin(method, known, held, base_ms), raw, level)
        row = {"family": family, **_figures(_quadruples(ours, factor, raw, level))}
        new = model.suggest_measurements([item.kernels for item in held], NEW_NETWORKS)
        rest = [index for index in range(len(held)) if index not in new]
        if rest:
            more = [*known, *(held[index] for index in new)]
            refit = LatencyModel.fit(more, device=bench.device.name, fingerprint=bench.fingerprint)
            updated = model.update([held[index] for index in new])
            for name, after in (("ours, 10 measured, refit", refit), ("ours, 10 measured, updated", updated)):
                later = after.predict_many([held[index].kernels for index in rest])
                ms = np.array([item.latency_ms for item in later])
                wide = np.array([item.high_ms / item.latency_ms for item in later])
                found[name] += _quadruples(ms, wide, raw[rest], level[rest])
        row["seconds"] = time.perf_counter() - started
        per_family.append(row)
        print(f"{family}: median error {row['median']:.1%}", flush=True)
    return [{"method": name, **_figures(values)} for name, values in found.items()], per_family


def _one_each(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The first measurement of each network."""
    first: dict[str, Measurement] = {}
    for item in measurements:
        first.setdefault(item.subject, item)
    return list(first.values())


def _with_margin(
    method: Method, known: Sequence[Measurement], held: Sequence[Measurement], base_ms: float
) -> tuple[Array, Array]:
    """Predictions for the held ones, and the factor of a conformal interval from five-fold errors on the known ones."""
    single = _one_each(known)
    networks = [item.kernels for item in single]
    raw = np.array([item.latency_ms_p50 for item in single])
    level = raw * np.array([speed_factor(item, base_ms) for item in single])
    scores = np.zeros(len(single))
    for fold in np.array_split(np.random.default_rng(0).permutation(len(single)), 5):
        rest = np.setdiff1d(np.arange(len(single)), fold)
        predicted = method([networks[i] for i in rest], level[rest], [networks[i] for i in fold])
        scores[fold] = np.abs(np.log(raw[fold] / predicted))
    margin = conformal_quantile(scores, LEVEL)
    return method(networks, level, [item.kernels for item in held]), np.full(len(held), np.exp(margin))


def _quadruples(ms: Array, factor: Array, raw: Array, level: Array) -> list[tuple[float, float, float, float]]:
    return list(zip(ms.tolist(), factor.tolist(), raw.tolist(), level.tolist(), strict=True))


def _figures(values: Sequence[tuple[float, float, float, float]]) -> dict[str, Any]:
    predicted, factor, raw, level = np.array(values).T
    errors = np.abs(predicted / level - 1)
    return {
        "networks": len(values),
        "median": float(np.median(errors)),
        "mape": float(np.mean(errors)),
        "within10": float(np.mean(errors <= 0.1)),
        "spearman": float(spearmanr(predicted, raw)[0]),
        "coverage90": float(np.mean((raw >= predicted / factor) & (raw <= predicted * factor))),
        "half_width": float(np.median(factor) - 1),
    }


def repeatability(measurements: Sequence[Measurement]) -> dict[str, Any] | None:
    """Return the difference between the first and the last measurement of networks measured more than once."""
    groups: dict[str, list[Measurement]] = defaultdict(list)
    for item in measurements:
        groups[item.subject].append(item)
    pairs = [(items[0], items[-1]) for items in groups.values() if len(items) > 1]
    if not pairs:
        return None
    raw = [abs(last.latency_ms_p50 / first.latency_ms_p50 - 1) for first, last in pairs]
    speed = [
        abs((last.latency_ms_p50 / last.reference_ms) / (first.latency_ms_p50 / first.reference_ms) - 1)
        for first, last in pairs
    ]
    hours = [
        (datetime.fromisoformat(last.started_at) - datetime.fromisoformat(first.started_at)).total_seconds() / 3600
        for first, last in pairs
    ]
    return {
        "networks": len(pairs),
        "median_delta_raw": float(np.median(raw)),
        "median_delta": float(np.median(speed)),
        "hours_between": float(np.median(hours)),
    }


def _print(
    rows: Sequence[dict[str, Any]],
    families: Sequence[dict[str, Any]],
    again: dict[str, Any] | None,
    device_s: float,
) -> None:
    head = f"{'networks':>9}{'median error':>14}{'within 10 %':>13}{'Spearman':>10}{'90 % held':>11}{'half width':>12}"
    for title, key, table in (("method", "method", rows), ("family", "family", families)):
        print(f"\n{title:<28}{head}")
        for row in table:
            print(
                f"{row[key]:<28}{row['networks']:>9}{row['median']:>13.1%} {row['within10']:>12.0%} "
                f"{row['spearman']:>9.4f} {row['coverage90']:>10.0%} {row['half_width']:>11.0%}"
            )
    print(f"\ndevice time {device_s / 60:.1f} minutes")
    if again is not None:
        print(
            f"{again['networks']} networks measured again {again['hours_between']:.1f} h later: median |Δ| "
            f"{again['median_delta_raw']:.1%} as measured, {again['median_delta']:.1%} at the reference's speed"
        )


if __name__ == "__main__":
    main()
