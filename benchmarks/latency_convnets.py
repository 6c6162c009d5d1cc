"""Prediction of a campaign of real Jetson Nano measurements from the other campaigns (iCAS convolutional networks).

    python -m benchmarks.latency_convnets --data FILE.csv.gz --holdout-campaign NAME --json OUT

Every row is decoded into TensorRT's kernels; reruns that disagree by more than 10 % are excluded; a physical prior and boosted
trees on single kernels are fitted on the other campaigns only. The 90 % interval is conformal on the hardest held-out campaign among
those, and widens with the predictive standard deviation of the kernels. NAME may be ``all``: every campaign in turn. A file
that contains only the campaign is predicted by the bundled prior, as stated in ``fitted_on``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.nano_prior.boosting import PRIOR_NETWORKS, BoostedKernels, NetworkTable
from benchmarks.nano_prior.convnets import MAX_RERUN_DISAGREEMENT, ConvNet, ConvNets, read_convnets
from benchmarks.nano_prior.intervals import ConformalInterval, Evidence
from benchmarks.nano_prior.regression import Source
from hw_latency_model.bundled.load import load_bundled
from hw_latency_model.model.nano_prior import nano_classes
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_json

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

MIN_TRAINING = 60
"""Minimum number of networks in the other campaigns for a fit."""
EVIDENCE_NETWORKS = 900
"""Networks of the other campaigns, equally many of each, that determine the predictive standard deviation."""
INSIDE_SHARE = 0.9
"""Share of a campaign's networks that must be inside the others' range."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CSV file, gzipped or not")
    parser.add_argument("--holdout-campaign", required=True, help="campaign to predict, or all")
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument(
        "--per-campaign", type=int, default=1500, help="networks of each other campaign to fit on at most"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        data = read_convnets(options.data)
        rows = run(data, options.holdout_campaign, per_campaign=options.per_campaign, seed=options.seed)
        write_json(options.json, rows)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{len(data.networks)} networks; left out: {data.disagreeing} whose two measurements differ by more than "
        f"{MAX_RERUN_DISAGREEMENT:.0%}, {data.undecodable} that cannot be decoded"
    )
    print(
        f"{'campaign':26}{'nets':>6}{'MAPE %':>8}{'median':>8}{'±5 %':>7}{'±10 %':>7}{'±25 %':>7}{'ρ':>8}{'90 %':>7}{'width':>7}  inside  s"
    )
    for row in rows:
        shares = "".join(f"{row[name]:7.1%}" for name in ("within5", "within10", "within25"))
        print(
            f"{row['campaign']:26}{row['networks']:6}{row['mape']:8.2f}{row['median']:8.2f}{shares}{row['spearman']:8.4f}"
            f"{row['coverage90']:7.1%}{row['interval_rel']:7.1%}  {'yes' if row['inside_range'] else 'no':6} {row['seconds']:.0f}"
        )
    return 0


def run(data: ConvNets, wanted: str, *, per_campaign: int = 1500, seed: int = 0) -> list[dict[str, Any]]:
    """One row per held-out campaign.

    Raises:
        UserError: there is no such campaign.
    """
    names = sorted({network.campaign for network in data.networks})
    if wanted != "all" and wanted not in names:
        raise UserError(
            f"the file must hold the campaign {wanted!r}, it has {', '.join(names)}; name one of them, or all."
        )
    bench = _Bench(data.networks, per_campaign, seed)
    return [bench.row(name) for name in (names if wanted == "all" else [wanted])]


@dataclass(frozen=True)
class _Prediction:
    latency_ms: Array
    half_width: Array
    fitted_on: str


class _Bench:
    """Fits with campaigns left out; a fit without two of them serves both."""

    def __init__(self, networks: Sequence[ConvNet], per_campaign: int, seed: int) -> None:
        self.networks = networks
        self.latency_ms = np.array([network.latency_ms for network in networks])
        self.campaign = np.array([network.campaign for network in networks])
        self.per_campaign, self.seed = per_campaign, seed
        self._fits: dict[tuple[frozenset[str], int], tuple[BoostedKernels, Evidence]] = {}

    def row(self, name: str) -> dict[str, Any]:
        started = time.perf_counter()
        held = np.flatnonzero(self.campaign == name)
        predicted = self.predict(name, held)
        measured = self.latency_ms[held]
        error = predicted.latency_ms / measured - 1.0
        inside = self.inside(held)
        covered = np.abs(np.log(predicted.latency_ms / measured)) <= predicted.half_width
        return {
            "campaign": name,
            "networks": len(held),
            "mape": 100 * float(np.mean(np.abs(error))),
            "median": 100 * float(np.median(np.abs(error))),
            **{f"within{share}": float(np.mean(np.abs(error) <= share / 100)) for share in (5, 10, 25)},
            "spearman": float(spearmanr(predicted.latency_ms, measured).statistic) if len(held) > 2 else 1.0,
            "coverage90": float(np.mean(covered)),
            "interval_rel": float(np.median(np.expm1(predicted.half_width))),
            "inside_range": bool(inside.mean() >= INSIDE_SHARE),
            "inside_share": float(inside.mean()),
            "fitted_on": predicted.fitted_on,
            "seconds": time.perf_counter() - started,
        }

    def predict(self, name: str, held: Indices) -> _Prediction:
        others = sorted(set(self.campaign) - {name})
        if np.sum(self.campaign != name) < MIN_TRAINING:
            return self._bundled(held)
        model, evidence = self._fit(frozenset({name}), self.per_campaign)
        table = self._table(held)
        errors, predictive_stds = [], []
        for other in others:
            rest = self.campaign[(self.campaign != name) & (self.campaign != other)]
            if len(rest) < MIN_TRAINING:
                continue
            inner, known = self._fit(frozenset({name, other}), self.per_campaign // 2)
            asked = self._some(other, 400)
            inner_table = self._table(asked)
            errors.append(np.log(inner.predict_ms(inner_table) / self.latency_ms[asked]))
            predictive_stds.append(known.predictive_std(inner_table))
        if not errors:
            return self._bundled(held)
        half = ConformalInterval.fit(errors, predictive_stds).half_width(evidence.predictive_std(table))
        return _Prediction(model.predict_ms(table), half, ", ".join(others))

    def inside(self, held: Indices) -> NDArray[np.bool_]:
        """(held,) whether all of a network's kernels lie in the ranges of the other campaigns' kernels of their class."""
        rest = np.setdiff1d(np.arange(len(self.networks)), held)
        if not len(rest):
            return np.zeros(len(held), dtype=np.bool_)
        asked, known = self._table(held), self._table(rest)
        outside = np.zeros(len(asked.columns), dtype=np.bool_)
        for klass in np.unique(nano_classes(asked.columns)):
            of_asked, of_known = nano_classes(asked.columns) == klass, nano_classes(known.columns) == klass
            for feature in ("pixels", "inner", "outer", "side"):
                if not of_known.any():
                    outside[of_asked] = True
                    break
                reference = getattr(known.columns, feature)[of_known]
                value = getattr(asked.columns, feature)
                outside |= of_asked & ((value < reference.min()) | (value > reference.max()))
        deepest = known.total(np.ones(len(known.columns))).max()
        return np.asarray(
            (asked.total(outside.astype(np.float64)) == 0) & (asked.total(np.ones(len(outside))) <= deepest),
            dtype=np.bool_,
        )

    def _fit(self, without: frozenset[str], per_campaign: int) -> tuple[BoostedKernels, Evidence]:
        if (without, per_campaign) not in self._fits:
            names = sorted(set(self.campaign) - without)
            chosen = np.concatenate([self._some(name, per_campaign) for name in names])
            share = max(1, PRIOR_NETWORKS // len(names))
            few = np.concatenate([self._some(name, share) for name in names])
            kernels = [self.networks[index].kernels for index in few]
            source = Source("campaigns", kernels, self.latency_ms[few], "fp32", count_as=400, overhead_ms=1.0)
            model = BoostedKernels.fit(self._table(chosen), [source], self.latency_ms[chosen], self.seed)
            telling = np.concatenate([self._some(name, EVIDENCE_NETWORKS // len(names)) for name in names])
            self._fits[without, per_campaign] = model, Evidence.of(self._table(telling), model.values)
        return self._fits[without, per_campaign]

    def _some(self, name: str, count: int) -> Indices:
        members = np.flatnonzero(self.campaign == name)
        return np.sort(np.random.default_rng(self.seed).permutation(members)[:count])

    def _table(self, chosen: Indices) -> NetworkTable:
        return NetworkTable.of([self.networks[index].kernels for index in chosen], "fp32")

    def _bundled(self, held: Indices) -> _Prediction:
        model = load_bundled("jetson-nano", "fp32")
        estimates = [model.predict(self.networks[index].kernels) for index in held]
        latency_ms = np.array([item.latency_ms for item in estimates])
        high_ms = np.array([item.high_ms for item in estimates])
        return _Prediction(latency_ms, np.log(high_ms / latency_ms), "the bundled prior")


if __name__ == "__main__":
    raise SystemExit(main())
