"""The parts of a fitted model and what they say of networks: a prior's sum, its correction, and how sure both are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.kernels.table import KernelTable
from hw_latency_model.model.gaussian_process import GaussianProcess
from hw_latency_model.model.network_features import network_features
from hw_latency_model.model.prior import KernelPrior

Array = NDArray[np.float64]

EXTRAPOLATION_LOG_STD = 0.25
"""Added to the log standard deviation per e-fold outside the measured sizes."""
UNKNOWN_LOG_STD = 1.0
"""Log standard deviation of the time of kernels whose kind was never measured: a factor of e either way."""
NOT_MEASURED = frozenset({"view", ""})
"""Names of kinds in a table that cost nothing and so need no data."""


@dataclass(frozen=True)
class Fit:
    """What a model computes with.

    Attributes:
        prior: milliseconds of each kernel.
        correction: of the logarithm of the sum, by what kind of network it is.
        size_range: (2, sizes) the measured range of the first features, low and high.
        offset: logarithm by which all networks of this device differ from the prior.
    """

    prior: KernelPrior
    correction: GaussianProcess
    size_range: Array
    offset: float = 0.0

    def predict_log(self, table: KernelTable, costs: Array) -> Predictions:
        """Of every network of the table, given the prior's cost of its kernels.

        Raises:
            ValueError: a network has no kernel that costs anything.
        """
        totals = table.sums(costs)
        if not totals.min() > 0.0:
            raise ValueError("a latency can only be predicted for a network with at least one kernel that takes time")
        features = network_features(table, costs)
        mean, std, distance = self.correction.predict(features)
        limit = 3.0 * math.sqrt(self.correction.signal_var)
        strange = set(table.names).difference(self.prior.kinds, NOT_MEASURED)
        unknown = (
            table.sums(table.by_name(strange.__contains__, table.kind) * costs) / totals if strange else 0.0 * totals
        )
        sizes = features[:, : self.size_range.shape[1]]
        outside = np.maximum(self.size_range[0] - sizes, sizes - self.size_range[1]).max(axis=1, initial=0.0)
        spread = np.sqrt(std**2 + (EXTRAPOLATION_LOG_STD * outside) ** 2 + (UNKNOWN_LOG_STD * unknown) ** 2)
        logs = np.log(totals) + self.offset + np.minimum(np.maximum(mean, -limit), limit)
        return Predictions(features, logs, spread, unknown, outside, distance)


@dataclass(frozen=True)
class Predictions:
    """Of m networks, all (m,) but ``features`` (m, 10).

    Attributes:
        features: what the correction sees of them.
        log_value, log_std: of the target.
        unknown: share of the prior's cost in kernels of kinds never measured.
        outside: e-folds outside the measured sizes.
        distance: to the nearest measured network.
    """

    features: Array
    log_value: Array
    log_std: Array
    unknown: Array
    outside: Array
    distance: Array
