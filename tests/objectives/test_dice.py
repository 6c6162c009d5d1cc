"""The referee's maths, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from objectives.dice import MeanImageDice, lpcvc_score


def dice(pred: list[list[int]], label: list[list[int]], classes: int = 3) -> float:
    metric = MeanImageDice(classes)
    metric.update(np.array(pred, dtype=np.uint8), np.array(label, dtype=np.uint8))
    return metric.value


def test_a_perfect_image_has_dice_one_whatever_classes_it_lacks():
    assert dice([[0, 0], [1, 1]], [[0, 0], [1, 1]]) == 1.0


def test_values_worked_by_hand():
    # class 0: TP 2, labelled 2, predicted 3 -> 4/5; class 1: TP 1, labelled 2, predicted 1 -> 2/3; class 2 absent.
    assert dice([[0, 0], [0, 1]], [[0, 0], [1, 1]]) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_one_stray_pixel_of_an_absent_class_counts_as_zero():
    label = [[0] * 50, [1] * 50]
    pred = [row[:] for row in label]
    pred[0][0] = 2
    expected = (2 * 49 / 99 + 1.0 + 0.0) / 3
    assert dice(pred, label) == pytest.approx(expected)
    assert dice(pred, label) < 0.67


def test_ignored_pixels_count_for_nothing_and_an_image_of_them_alone_is_left_out():
    assert dice([[0, 1], [2, 2]], [[0, 1], [255, 255]]) == 1.0
    metric = MeanImageDice(3)
    metric.update(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    assert metric.images == 0 and np.isnan(metric.value)


def test_it_is_a_mean_over_images_not_over_pixels():
    metric = MeanImageDice(2)
    metric.update(np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8))
    metric.update(np.zeros((1, 1), np.uint8), np.ones((1, 1), np.uint8))
    assert metric.images == 2 and metric.value == pytest.approx(0.5)


def test_the_score_does_not_depend_on_the_number_of_images():
    # 600 images in 6 s are the referee's 0.5 / (6 / 600); half of both is the same network.
    assert lpcvc_score(0.5, 6.0, 600) == pytest.approx(50.0) == lpcvc_score(0.5, 3.0, 300)
    with pytest.raises(ValueError, match="images and seconds"):
        lpcvc_score(0.5, 0.0, 600)
