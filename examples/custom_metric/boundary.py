"""A metric: the boundary F1 score of Csurka et al. (BMVC 2013), over the boundaries of all classes together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation

from paretoseg import SplitPredictions

TOLERANCE_PX = 2


def boundary_f1(split: SplitPredictions) -> float:
    """Harmonic mean of precision and recall of boundary pixels, matched within ``TOLERANCE_PX``; NaN without boundaries."""
    predicted = expected = found = correct = 0
    for prediction, label in split:
        valid = label != split.ignore_index
        ours, theirs = boundary(prediction) & valid, boundary(label) & valid
        predicted, expected = predicted + ours.sum(), expected + theirs.sum()
        correct += (ours & binary_dilation(theirs, iterations=TOLERANCE_PX)).sum()
        found += (theirs & binary_dilation(ours, iterations=TOLERANCE_PX)).sum()
    if not expected:
        return float("nan")
    precision, recall = correct / max(predicted, 1), found / expected
    return float(2 * precision * recall / max(precision + recall, 1e-12))


def boundary(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels whose right or lower neighbour has another class id, (H, W)."""
    edge = np.zeros(ids.shape, bool)
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    edge[:-1] |= ids[:-1] != ids[1:]
    return edge
