from __future__ import annotations

import numpy as np
import pytest

from objectives.dice import MeanImageDice
from objectives.metrics import ConfusionMatrix
from objectives.split_scores import SplitScores


def test_one_pass_gives_what_two_give():
    rng = np.random.default_rng(0)
    both, matrix, dice = SplitScores(5, 255), ConfusionMatrix(5, 255), MeanImageDice(5, 255)
    for _ in range(6):
        hw = tuple(rng.integers(1, 30, 2))
        pred, label = rng.integers(0, 4, hw).astype(np.uint8), rng.integers(0, 4, hw).astype(np.uint8)
        label[rng.random(hw) < 0.2] = 255
        for scores in (both, matrix, dice):
            scores.update(pred, label)
    assert np.array_equal(both.matrix.counts, matrix.counts)
    assert both.dice.value == dice.value and both.dice.images == dice.images


def test_parts_that_processes_counted_apart_add_up_to_the_whole():
    rng = np.random.default_rng(1)
    whole, parts = SplitScores(4), (SplitScores(4), SplitScores(4))
    for index in range(7):
        pred, label = (rng.integers(0, 3, (9, 11)).astype(np.uint8) for _ in range(2))
        whole.update(pred, label)
        parts[index % 2].update(pred, label)
    sums = iter([sum(part.matrix.counts for part in parts), sum(part.dice.totals for part in parts)])
    together = parts[0].all_reduced(lambda mine: next(sums))
    assert np.array_equal(together.matrix.counts, whole.matrix.counts)
    assert together.dice.images == 7 and together.dice.value == pytest.approx(whole.dice.value)


def test_a_mistake_adds_nothing():
    scores = SplitScores(3)
    with pytest.raises(ValueError, match="class id 7"):
        scores.update(np.full((2, 2), 7, np.uint8), np.zeros((2, 2), np.uint8))
    assert scores.matrix.counts.sum() == 0 and scores.dice.images == 0
