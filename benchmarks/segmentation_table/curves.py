"""Answers of the table for any candidate of its space: learning curve, seconds of each epoch, and a final training's gain.

A Gaussian process interpolates the table. Where it errs, a simulated landscape must err too, or a model-based sampler would have an
easy time: each seed adds a random function, as large as the process's cross-validated error and smooth, since networks that hardly differ
are hardly apart, and each training noise as large as between two seeds of the table.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from benchmarks.segmentation_table.table import Row
from benchmarks.segmentation_table.train import EPOCHS

Array = NDArray[np.float64]
Work = Mapping[str, float]
"""MACs and parameters of a candidate's pruned network, by ``macs`` and ``parameters``."""

_FOLDS = 10
_FEATURES = 300
_CEILING = 1.5
"""mIoU that further training approaches, as a multiple of the table's best."""
_DOUBLING = (0.15, 0.1)
"""Mean and deviation of the share of the way to it that a doubling of the epochs takes, where the table does not say."""


@dataclass(frozen=True)
class Answer:
    """One simulated training.

    Attributes:
        miou: (epochs,) at the end of each epoch.
        seconds: (epochs,) of each epoch.
    """

    miou: Array
    seconds: Array


@dataclass(frozen=True)
class Errors:
    """Errors of the interpolation, by ten-fold cross-validation over candidates.

    Attributes:
        final_rmse: of the final mIoU.
        final_r2: share of its variance that is explained.
        final_rank: Spearman's rank correlation of it.
        noise: standard deviation of the final mIoU between seeds.
        seconds_percent: median error of an epoch's seconds, in percent.
    """

    final_rmse: float
    final_r2: float
    final_rank: float
    noise: float
    seconds_percent: float


class TableCurves:
    """Learning curves of a space, from the rows of its table.

    Args:
        rows: of the table; failed trainings are left out.
        families: of the space, in a fixed order; likewise decoders.
    """

    def __init__(self, rows: Sequence[Row], families: Sequence[str], decoders: Sequence[str]) -> None:
        self._families, self._decoders = list(families), list(decoders)
        good = [row for row in rows if row["failure"] is None]
        inputs = np.array([self._inputs(row["params"], row) for row in good])
        miou = np.array([row["miou"] for row in good])
        groups = np.array([row["candidate"] for row in good])
        self._noise = _between_seeds(good)
        self._final = _process(inputs, miou[:, -1], self._noise)
        # The rest of the curve: each epoch's mIoU as a share of the final one.
        self._shares = RidgeCV(np.logspace(-2, 3, 11)).fit(inputs, miou[:, :-1] / miou[:, -1:])
        rest = miou[:, :-1] - self._shares.predict(inputs) * miou[:, -1:]
        self._rest = np.cov(rest.T)
        seconds = np.log(np.array([np.mean(np.diff([0.0, *row["seconds"]])) for row in good]))
        self._seconds = _process(inputs, seconds, 0.05)
        self._ceiling = _CEILING * float(miou[:, -1].max())
        shares = [
            (row["continued"]["miou"][-1] - row["miou"][-1]) / (self._ceiling - row["miou"][-1])
            for row in good
            if "continued" in row
        ]
        self.doubling = (float(np.mean(shares)), float(np.std(shares))) if len(shares) > 2 else _DOUBLING
        self.errors = self._cross_validate(inputs, miou[:, -1], seconds, groups)
        self._spread = max(self.errors.final_rmse**2 - self._noise**2, 0.0) ** 0.5

    def _inputs(self, params: Mapping[str, Any], work: Work) -> list[float]:
        height, width = map(int, params["resolution"].split("x"))
        return [
            *(1.0 * (params["family"] == name) for name in self._families),
            *(1.0 * (params["decoder"] == name) for name in self._decoders),
            params["width"] * 2,
            np.log2(height * width / 6144),
            params["prune_ratio"] * 3,
            np.log10(params["learning_rate"]) * 1.5,
            np.log10(params["weight_decay"]) / 2,
            np.log10(work["macs"]) * 1.5,
            np.log10(work["parameters"]) * 1.5,
        ]

    def train(self, params: Mapping[str, Any], work: Work, seed: int) -> Answer:
        """Simulate a training; the same for the same candidate and seed, of the landscape and of the training."""
        inputs = np.array([self._inputs(params, work)])
        drawn = _draws([params, seed])
        final = self._final.predict(inputs)[0] + self._spread * _smooth(inputs[0], seed) + self._noise * drawn.normal()
        final = float(np.clip(final, 0.01, 0.95))
        shares = self._shares.predict(inputs)[0] * final + drawn.multivariate_normal(np.zeros(EPOCHS - 1), self._rest)
        curve = np.clip([*shares, final], 0.005, 0.95)
        return Answer(curve, np.full(EPOCHS, float(np.exp(self._seconds.predict(inputs)[0]))))

    def continue_training(self, final: float, before: int, seconds: float, epochs: int, key: Any) -> Answer:
        """Simulate a final training of a network that had reached ``final`` after ``before`` epochs.

        Each doubling of its epochs takes it a share of the way to a ceiling, as the table's continued trainings were; the share is the
        network's own.
        """
        share = float(np.clip(_draws(["continued", key]).normal(*self.doubling), 0.0, 0.9))
        left = (1.0 - share) ** np.log2(1.0 + np.arange(1, epochs + 1) / before)
        return Answer(np.clip(self._ceiling - (self._ceiling - final) * left, 0.01, 0.95), np.full(epochs, seconds))

    def _cross_validate(self, inputs: Array, final: Array, seconds: Array, groups: Array) -> Errors:
        guessed, timed = np.zeros(len(final)), np.zeros(len(final))
        candidates = np.unique(groups)
        for _, held in KFold(_FOLDS, shuffle=True, random_state=0).split(candidates):
            test = np.isin(groups, candidates[held])
            guessed[test] = _process(inputs[~test], final[~test], self._noise, self._final).predict(inputs[test])
            timed[test] = _process(inputs[~test], seconds[~test], 0.05, self._seconds).predict(inputs[test])
        error = guessed - final
        ranks = [np.argsort(np.argsort(values)) for values in (guessed, final)]
        return Errors(
            final_rmse=float(np.sqrt(np.mean(error**2))),
            final_r2=float(1 - np.mean(error**2) / np.var(final)),
            final_rank=float(np.corrcoef(*ranks)[0, 1]),
            noise=self._noise,
            seconds_percent=float(100 * np.median(np.abs(np.expm1(timed - seconds)))),
        )


def _process(
    inputs: Array, values: Array, noise: float, like: GaussianProcessRegressor | None = None
) -> GaussianProcessRegressor:
    """Fit a process; with the hyperparameters of ``like`` if given."""
    if like is not None:
        made = GaussianProcessRegressor(like.kernel_, normalize_y=True, optimizer=None)
        return made.fit(inputs, values)
    floor = (noise / float(np.std(values))) ** 2
    kernel = (
        ConstantKernel(1.0) * RBF(3.0)
        + ConstantKernel(1.0) * RBF(30.0, (5.0, 1e3))
        + WhiteKernel(floor, (floor / 3, 1.0))
    )
    made = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=1, random_state=0)
    return made.fit(inputs, values)


def _smooth(inputs: Array, seed: int) -> float:
    """Value of a seed's random function: one of a Gaussian process with variance 1 and length 1, by random Fourier features (Rahimi and
    Recht, 2007)."""
    frequencies, phases, weights = _features(len(inputs), seed)
    return float(np.sqrt(2.0 / _FEATURES) * (weights @ np.cos(frequencies @ inputs + phases)))


@lru_cache(maxsize=64)
def _features(dimensions: int, seed: int) -> tuple[Array, Array, Array]:
    rng = _draws(["landscape", seed])
    return rng.normal(size=(_FEATURES, dimensions)), rng.uniform(0, 2 * np.pi, _FEATURES), rng.normal(size=_FEATURES)


def _between_seeds(rows: Sequence[Row]) -> float:
    """Standard deviation of the final mIoU between seeds, from the candidates that were trained on two."""
    finals: dict[int, list[float]] = {}
    for row in rows:
        finals.setdefault(row["candidate"], []).append(row["miou"][-1])
    pairs = [values for values in finals.values() if len(values) > 1]
    return float(np.sqrt(np.mean([np.var(values, ddof=1) for values in pairs]))) if pairs else 0.01


def _draws(key: Any) -> np.random.Generator:
    """Return random draws that depend on the key only."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
