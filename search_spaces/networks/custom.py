"""Wrapper that gives custom networks the interface of `SegmentationNet`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from search_spaces._common.errors import UserError
from search_spaces.networks.segmentation_net import SegmentationNet


class CustomNet(SegmentationNet):
    """Custom module as encoder; the decoder only selects the logits from its output."""

    @property
    def classifiers(self) -> tuple[nn.Conv2d, ...]:
        """The module's attribute ``classifiers``, else every convolution with one output per class."""
        given = getattr(self.encoder, "classifiers", None)
        if given is not None:
            return tuple(given)
        layers = (module for module in self.encoder.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d))
        found = tuple(cast("nn.Conv2d", layer) for layer in layers if layer.out_channels == self.num_classes)
        if not found:
            raise UserError(
                f"the network has no convolution with {self.num_classes} outputs, so pruning cannot tell its last layer. "
                "Give it an attribute classifiers, a list of the layers that give the logits."
            )
        return found


class _Logits(nn.Module):
    """Select the logits: the tensor itself, or entry ``out`` of a dict."""

    def forward(self, output: Tensor | Mapping[str, Tensor]) -> Tensor:
        return output["out"] if isinstance(output, Mapping) else output


def segmentation_net_of(net: object, num_classes: int, input_hw: tuple[int, int], what: str) -> SegmentationNet:
    """Wrap a custom module.

    Args:
        net: maps images (N, 3, H, W) to logits (N, num_classes, H / s, W / s), or to a dict with them under ``out``.
        num_classes: channels of the logits.
        input_hw: height and width in pixels.
        what: the function that built it, for errors.

    Raises:
        UserError: it is not a module, fails on such an image, or returns something else.
    """
    if not isinstance(net, nn.Module):
        raise UserError(f"{what} must return a torch.nn.Module, but returned a {type(net).__name__}.")
    height, width = input_hw
    shape = _output_shape(net, input_hw, what)
    fits = len(shape) == 4 and shape[:2] == (1, num_classes) and height % shape[2] == 0
    if not fits or height // shape[2] * shape[3] != width:
        raise UserError(
            f"{what} returned a network that gives {shape} for an image (1, 3, {height}, {width}): it must give logits "
            f"(1, {num_classes}, {height} / s, {width} / s), s a whole number."
        )
    stride = height // shape[2]
    return CustomNet(net, _Logits(), num_classes=num_classes, output_stride=stride, input_hw=input_hw)


def _output_shape(net: nn.Module, input_hw: tuple[int, int], what: str) -> tuple[int, ...]:
    """Shape of the output, computed without weights."""
    shapes = copy.deepcopy(net).to("meta").eval()
    try:
        with torch.no_grad():
            output = _Logits()(shapes(torch.zeros(1, 3, *input_hw, device="meta")))
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise UserError(
            f"{what} returned a network that fails on an image (1, 3, {input_hw[0]}, {input_hw[1]}): "
            f"{type(error).__name__}: {error}."
        ) from error
    if not isinstance(output, Tensor):
        raise UserError(
            f"{what} returned a network that gives a {type(output).__name__}: it must give a tensor of logits."
        )
    return tuple(output.shape)
