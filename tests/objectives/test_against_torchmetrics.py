"""mIoU and Dice against an independent implementation, on random maps with absent classes, ignored pixels and odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_jaccard_index

from objectives.dice import MeanImageDice
from objectives.metrics import ConfusionMatrix

CLASSES, IGNORE = 7, 255


def random_maps(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images of odd and different sizes; the last class never occurs, others only in some images."""
    rng = np.random.default_rng(seed)
    maps = []
    for _ in range(5):
        hw = tuple(rng.integers(1, 40, 2))
        some = rng.choice(CLASSES - 1, rng.integers(1, CLASSES - 1), replace=False)
        label = rng.choice(some, hw)
        pred = np.where(rng.random(hw) < 0.6, label, rng.choice(some, hw))
        label = np.where(rng.random(hw) < 0.2, IGNORE, label)
        label.flat[0] = some[0]
        maps.append((pred.astype(np.uint8), label.astype(np.uint8)))
    return maps


@pytest.mark.parametrize("seed", range(8))
def test_iou_is_that_of_torchmetrics_over_the_whole_split(seed: int):
    maps = random_maps(seed)
    matrix = ConfusionMatrix(CLASSES, IGNORE)
    for pred, label in maps:
        matrix.update(pred, label)
    pred, label = (torch.tensor(np.concatenate([m[i].ravel() for m in maps])).long() for i in (0, 1))
    theirs = multiclass_jaccard_index(pred, label, CLASSES, average="none", ignore_index=IGNORE).numpy()
    ours = matrix.iou()
    present = ~np.isnan(ours)
    assert not present[-1] and present.any()
    np.testing.assert_allclose(ours[present], theirs[present], atol=1e-6)
    assert matrix.miou() == pytest.approx(theirs[present].mean(), abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_dice_is_the_mean_over_images_of_torchmetrics_f1(seed: int):
    maps = random_maps(seed)
    ours = MeanImageDice(CLASSES, IGNORE)
    expected = []
    for pred, label in maps:
        ours.update(pred, label)
        kept = label != IGNORE
        occurring = np.union1d(pred[kept], label[kept])
        tensors = (torch.tensor(part.ravel()).long() for part in (pred, label))
        each = multiclass_f1_score(*tensors, CLASSES, average="none", ignore_index=IGNORE).numpy()
        expected.append(each[occurring].mean())
    assert ours.value == pytest.approx(float(np.mean(expected)), abs=1e-6)
