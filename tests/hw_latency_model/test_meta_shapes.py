"""The quick shapes are those that torch gives for real tensors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hw_latency_model.kernels.meta_shapes import MetaShapes

CALLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda image, weight: image + image,
    "broadcast": lambda image, weight: image * image.mean((2, 3), keepdim=True),
    "number": lambda image, weight: (image + 1e-5).sqrt() / 2,
    "whole_number": lambda image, weight: image.to(torch.int64) + 1.5,
    "mean": lambda image, weight: image.mean(-1),
    "mean_of_all": lambda image, weight: image.mean(),
    "convolution": lambda image, weight: functional.conv2d(image, weight, stride=2, padding=1),
    "dilated": lambda image, weight: functional.conv2d(image, weight, padding=2, dilation=2),
    "grouped": lambda image, weight: functional.conv2d(image, weight[:, :1], groups=4),
    "transposed": lambda image, weight: functional.conv_transpose2d(image, weight.transpose(0, 1), stride=2),
    "normalised": lambda image, weight: functional.batch_norm(image, image.mean((0, 2, 3)), image.mean((0, 2, 3))),
    "in_place": lambda image, weight: functional.relu(image + 0, inplace=True),
    "bilinear": lambda image, weight: functional.interpolate(image, size=(5, 11), mode="bilinear"),
    "bilinear_factor": lambda image, weight: functional.interpolate(image, scale_factor=2, mode="bilinear"),
    "bicubic": lambda image, weight: functional.interpolate(image, size=(20, 3), mode="bicubic"),
}


@pytest.mark.parametrize("name", CALLS)
def test_shape_and_type_are_torchs_own(name: str) -> None:
    image, weight = torch.rand(1, 4, 9, 7), torch.rand(8, 4, 3, 3)
    expected = CALLS[name](image, weight)
    with MetaShapes():
        found = CALLS[name](image.to("meta"), weight.to("meta"))
    assert found.is_meta and (found.shape, found.dtype) == (expected.shape, expected.dtype)
