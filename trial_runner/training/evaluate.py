"""mIoU and Dice of a network on a split, at the labels' own resolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from objectives.split_scores import SplitScores
from search_spaces.networks.segmentation_net import upsample_logits
from trial_runner.training.batches import normalise


@torch.inference_mode()
def split_scores(
    net: nn.Module,
    images: NDArray[np.uint8],
    labels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    num_classes: int,
    ignore_index: int,
    *,
    device: torch.device,
    batch_size: int = 16,
) -> SplitScores:
    """One confusion matrix over a whole split, and each image's Dice.

    Args:
        net: gives low-resolution logits for normalised float32 ``(N, 3, H, W)``.
        images: uint8 ``(N, H, W, 3)`` at the network's input resolution.
        labels: N maps of class ids, each at its own resolution; logits are upsampled to it (bilinear), then argmax.
    """
    scores = SplitScores(num_classes, ignore_index)
    was_training = net.training
    net.eval()
    for prediction, label in predictions(net, images, labels, device=device, batch_size=batch_size):
        scores.update(prediction, label)
    net.train(was_training)
    return scores


@torch.inference_mode()
def predictions(
    net: nn.Module,
    images: NDArray[np.uint8],
    labels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    *,
    device: torch.device,
    batch_size: int = 16,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield class ids (H, W) as ``net`` predicts them, and the label, of each image; arguments as of `split_scores`."""
    for start in range(0, len(images), batch_size):
        logits = net(normalise(images[start : start + batch_size], device))
        for offset, logit in enumerate(logits):
            label = np.asarray(labels[start + offset])
            upsampled = upsample_logits(logit[None], (label.shape[0], label.shape[1]))
            # Not argmax: six times slower here, on a CPU.
            yield upsampled.max(1).indices[0].cpu().numpy(), label
