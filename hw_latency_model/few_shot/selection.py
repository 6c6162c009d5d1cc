"""Active selection of the networks to measure by minimum posterior variance of all others, before any measurement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hw_latency_model.few_shot.kernels import BIAS_VAR, Block, Rows, covariance, prior_variance

Array = NDArray[np.float64]

_CANDIDATES = 1500
_TARGETS = 800
_ACTIVE = 200


def select(
    blocks: Sequence[Block], theta: Array, rows: Rows, count: int, rng: np.random.Generator, predicted: Rows
) -> Rows:
    """Greedily select the candidate that reduces the summed variance of a random sample of all networks most.

    This is the criterion of Cohn (1996) for a Gaussian process; the candidates are a random sample, too. From the 201st
    on, networks are drawn at random: typical networks are then more informative than further rare ones.

    Args:
        rows: (n,) networks that may be measured.
        count: number of networks, at most n.
        predicted: (m,) networks whose summed variance counts.
    """
    order = rng.permutation(rows)
    candidates, active = order[: max(_CANDIDATES, count)], min(count, _ACTIVE)
    targets = rng.permutation(predicted)[:_TARGETS]
    cross = covariance(blocks, [block.gram(candidates, targets) for block in blocks], theta)[0] + BIAS_VAR
    inner_grams = [block.gram(candidates, candidates) for block in blocks]
    inner = covariance(blocks, inner_grams, theta)[0] + BIAS_VAR
    del inner_grams
    variance = prior_variance(blocks, theta, candidates)
    noise = np.exp(theta[-1])
    chosen: list[int] = []
    found = np.zeros((active, len(candidates)))
    for step in range(active):
        gain = (cross**2).sum(axis=1) / (variance + noise)
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        scale = np.sqrt(variance[best] + noise)
        column = (inner[:, best] - found[:step].T @ found[:step, best]) / scale
        found[step] = column
        cross -= np.outer(column, cross[best] / scale)
        variance = np.maximum(variance - column**2, 0.0)
        chosen.append(best)
    others = np.setdiff1d(np.arange(len(candidates)), chosen, assume_unique=True)[: count - active]
    return np.asarray(candidates[[*chosen, *others]], dtype=np.intp)
