"""mIoU: worked by hand, against a brute force, and what is said of classes that do not occur."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from objectives.metrics import ConfusionMatrix


def brute_force_miou(pairs, num_classes, ignore_index):
    """Sets of pixels, class by class, with no shared code."""
    ious = []
    for c in range(num_classes):
        hit = either = 0
        for pred, label in pairs:
            for p, t in zip(pred.ravel().tolist(), label.ravel().tolist(), strict=True):
                if t == ignore_index:
                    continue
                hit += p == c and t == c
                either += p == c or t == c
        if either:
            ious.append(hit / either)
    return sum(ious) / len(ious) if ious else math.nan


def test_worked_by_hand_with_ignored_pixels_and_an_absent_class():
    label = np.array([[0, 0, 1], [1, 255, 255]], dtype=np.uint8)
    pred = np.array([[0, 1, 1], [1, 0, 3]], dtype=np.uint8)
    matrix = ConfusionMatrix(4)
    matrix.update(pred, label)
    # class 0: 1 hit, 2 labelled, 1 predicted -> 1/2; class 1: 2 hits, 2 labelled, 3 predicted -> 2/3; 2 and 3 absent
    np.testing.assert_allclose(matrix.iou(), [1 / 2, 2 / 3, np.nan, np.nan])
    assert matrix.miou() == pytest.approx((1 / 2 + 2 / 3) / 2)
    report = matrix.report(["road", "sky", "tunnel", "person"])
    assert report.absent == ("tunnel", "person")
    assert report.class_iou == (pytest.approx(1 / 2), pytest.approx(2 / 3), None, None)
    assert report.pixels == 4
    assert report.pixel_accuracy == pytest.approx(3 / 4)
    assert "2 of 4 classes" in report.summary()
    assert "tunnel, person" in report.summary()


def test_a_class_that_is_only_predicted_counts_with_zero():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 2]), np.array([0, 0]))
    np.testing.assert_allclose(matrix.iou(), [0.5, np.nan, 0.0])
    assert matrix.miou() == pytest.approx(0.25)


def test_it_is_one_matrix_over_the_split_not_a_mean_over_images():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([[0]]), np.array([[0]]))
    matrix.update(np.ones((3, 5), dtype=np.int64), np.zeros((3, 5), dtype=np.int64))
    # class 0: 1 of 16 labelled pixels is hit; class 1 is predicted 15 times and never labelled
    assert matrix.miou() == pytest.approx((1 / 16 + 0) / 2)


def test_narrow_types_do_not_overflow():
    matrix = ConfusionMatrix(200)
    matrix.update(np.array([199, 3], dtype=np.uint8), np.array([199, 198], dtype=np.uint8))
    assert matrix.counts[199, 199] == 1
    assert matrix.counts[198, 3] == 1
    assert matrix.counts.sum() == 2


def test_before_the_first_counted_pixel_there_is_no_miou():
    matrix = ConfusionMatrix(2)
    matrix.update(np.zeros((0, 4), dtype=np.uint8), np.zeros((0, 4), dtype=np.uint8))
    matrix.update(np.zeros((2, 2), dtype=np.uint8), np.full((2, 2), 255, dtype=np.uint8))
    assert math.isnan(matrix.miou())
    assert math.isnan(matrix.report(["a", "b"]).pixel_accuracy)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4))
def test_agrees_with_a_brute_force_on_images_of_odd_sizes(seed, num_classes, images):
    rng = np.random.default_rng(seed)
    matrix, parts, pairs = ConfusionMatrix(num_classes), ConfusionMatrix(num_classes), []
    for _ in range(images):
        shape = tuple(rng.integers(1, 8, 2))
        label = rng.integers(0, num_classes, shape).astype(np.uint8)
        label[rng.random(shape) < 0.3] = 255
        pred = rng.integers(0, num_classes, shape)
        pairs.append((pred, label))
        matrix.update(pred, label)
        part = ConfusionMatrix(num_classes)
        part.update(pred, label)
        parts.merge(part)
    expected = brute_force_miou(pairs, num_classes, 255)
    assert matrix.miou() == pytest.approx(expected, nan_ok=True)
    assert parts.miou() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("pred", "label", "error", "words"),
    [
        (np.array([4]), np.array([0]), ValueError, "pred holds class id 4; valid are 0 to 2"),
        (np.array([-1]), np.array([0]), ValueError, "pred holds class id -1"),
        (np.array([0]), np.array([7]), ValueError, "label holds class id 7"),
        (np.array([0, 1]), np.array([0]), ValueError, "shape"),
        (np.array([0.0]), np.array([0]), TypeError, "argmax"),
    ],
)
def test_wrong_arrays_are_refused_and_add_nothing(pred, label, error, words):
    matrix = ConfusionMatrix(3)
    with pytest.raises(error, match=words):
        matrix.update(pred, label)
    assert matrix.counts.sum() == 0


def test_wrong_construction_is_refused():
    with pytest.raises(ValueError, match="is one of the 4 classes"):
        ConfusionMatrix(4, ignore_index=3)
    with pytest.raises(ValueError, match="same classes"):
        ConfusionMatrix(4).merge(ConfusionMatrix(5))
    with pytest.raises(ValueError, match="1 class names for 4 classes"):
        ConfusionMatrix(4).report(["road"])
