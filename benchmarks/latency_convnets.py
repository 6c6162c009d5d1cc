"""Prediction of a campaign of real Jetson Nano measurements from the other campaigns (iCAS convolutional networks).

    python -m benchmarks.latency_convnets --data FILE.csv.gz --holdout-campaign NAME --json OUT

Every row is decoded into TensorRT's kernels; reruns that disagree by more than 10 % are excluded. The model is the bundled one
(``load_bundled``), whose prior, correction and interval are fitted again, by the same functions, to the other campaigns only. The 90 %
interval is conformal on each of those campaigns left out, and widens with the share of kernels unlike theirs. NAME may be ``all``:
every campaign in turn. A file that contains only the campaign is predicted by the bundled model, as stated in ``fitted_on``.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from benchmarks.nano_prior.boosting import NetworkTable
from benchmarks.nano_prior.campaigns import PER_CAMPAIGN, Campaigns
from benchmarks.nano_prior.convnets import MAX_RERUN_DISAGREEMENT, ConvNet, ConvNets, read_convnets
from benchmarks.nano_prior.fit import campaign_margins
from hw_latency_model.bundled.load import load_bundled
from hw_latency_model.few_shot.evaluation import accuracy
from hw_latency_model.model.latency_model import LatencyModel
from hw_latency_model.model.nano_prior import nano_classes
from hw_latency_model.types import LatencyEstimate
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_json

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

MIN_TRAINING = 60
"""Minimum number of networks in the other campaigns for a fit."""
INSIDE_SHARE = 0.9
"""Share of a campaign's networks that must be inside the others' range."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CSV file, gzipped or not")
    parser.add_argument("--holdout-campaign", required=True, help="campaign to predict, or all")
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument(
        "--per-campaign", type=int, default=PER_CAMPAIGN, help="networks of each other campaign to fit on at most"
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
        f"{'campaign':26}{'nets':>6}{'MAPE':>8}{'median':>8}{'±5 %':>7}{'±10 %':>7}{'±25 %':>7}{'ρ':>8}{'90 %':>7}{'width':>7}  inside  s"
    )
    for row in rows:
        shares = "".join(f"{row[name]:7.1%}" for name in ("within5", "within10", "within25"))
        print(
            f"{row['campaign']:26}{row['networks']:6}{row['mape']:8.2%}{row['median']:8.2%}{shares}{row['spearman']:8.4f}"
            f"{row['coverage90']:7.1%}{row['half_width']:7.1%}  {'yes' if row['inside_range'] else 'no':6} {row['seconds']:.0f}"
        )
    return 0


def run(data: ConvNets, wanted: str, *, per_campaign: int = PER_CAMPAIGN, seed: int = 0) -> list[dict[str, Any]]:
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
    estimates: Sequence[LatencyEstimate]
    fitted_on: str


class _Bench:
    """Models with a campaign left out, and their predictions of it."""

    def __init__(self, networks: Sequence[ConvNet], per_campaign: int, seed: int) -> None:
        self.networks = networks
        self.per_campaign = per_campaign
        # The shipped parameters saw no campaign's scale alone; every fit starts from the physical defaults.
        self.campaigns = Campaigns(networks, seed=seed)
        self.latency_ms, self.campaign = self.campaigns.latency_ms, self.campaigns.campaign

    def row(self, name: str) -> dict[str, Any]:
        started = time.perf_counter()
        held = np.flatnonzero(self.campaign == name)
        predicted = self.predict(name, held)
        measured = self.latency_ms[held]
        latency_ms, low_ms, high_ms = np.array([(e.latency_ms, e.low_ms, e.high_ms) for e in predicted.estimates]).T
        inside = self.inside(held)
        return {
            "campaign": name,
            "networks": len(held),
            **accuracy(latency_ms, low_ms, high_ms, measured),
            "inside_range": bool(inside.mean() >= INSIDE_SHARE),
            "inside_share": float(inside.mean()),
            "fitted_on": predicted.fitted_on,
            "seconds": time.perf_counter() - started,
        }

    def predict(self, name: str, held: Indices) -> _Prediction:
        """Predict the networks ``held`` by the bundled model, fitted again without the campaign ``name``."""
        kernels = [self.networks[index].kernels for index in held]
        others = sorted(set(self.campaign) - {name})
        bundled = load_bundled("jetson-nano", "fp32")
        if len(others) < 2 or np.sum(self.campaign != name) < MIN_TRAINING:
            return _Prediction(bundled.predict_many(kernels), "the bundled prior")
        without = frozenset({name})
        prior = replace(self.campaigns.fit(without, per_campaign=self.per_campaign), kinds=bundled.kinds)
        log_std = math.sqrt(bundled.fit_result.correction.noise_var)
        model = LatencyModel.from_prior(
            prior,
            device=bundled.device,
            precision=bundled.precision,
            fingerprint=bundled.fingerprint,
            log_std=log_std,
            quality=bundled.quality,
            provenance=bundled.provenance,
            networks=self.campaigns.kernels(without),
            margin=campaign_margins(self.campaigns.left_out(without), log_std, bundled.margins.far),
        )
        return _Prediction(model.predict_many(kernels), ", ".join(others))

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

    def _table(self, chosen: Indices) -> NetworkTable:
        return NetworkTable.of([self.networks[index].kernels for index in chosen], "fp32")


if __name__ == "__main__":
    raise SystemExit(main())
