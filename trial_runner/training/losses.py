"""Segmentation loss: a weighted sum of cross-entropy (optionally OHEM), Dice and Lovász-softmax."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trial_runner.config.study import LossSection

_IMAGES_AT_ONCE = 64


def segmentation_loss(
    logits: Tensor, labels: Tensor, config: LossSection, *, ignore_index: int, class_weights: Tensor | None = None
) -> Tensor:
    """Compute the loss of a batch, a scalar; 0 (with a gradient of 0) where no pixel is labelled.

    Args:
        logits: (N, C, H, W).
        labels: int64 (N, H, W), class ids or ``ignore_index``.
        config: the weight of each term.
        class_weights: (C,), of the cross-entropy.
    """
    total = logits.new_zeros(())
    if config.cross_entropy:
        total = total + config.cross_entropy * _cross_entropy(logits, labels, config, ignore_index, class_weights)
    if config.dice or config.lovasz:
        probabilities = logits.float().softmax(1).movedim(1, 0).flatten(1)
        true, counted = labels.flatten(), (labels != ignore_index).flatten()
        if config.dice:
            total = total + config.dice * dice_loss(probabilities, true, counted)
        if config.lovasz:
            total = total + config.lovasz * lovasz_softmax(probabilities, true, counted)
    return total


def dice_loss(probabilities: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """One minus the mean soft Dice of the classes that the batch holds (Milletari et al. 2016, with p + t below the line); 0 where it
    holds none.

    Args:
        probabilities: (C, P), each column adds up to 1.
        labels: int64 (P,), class ids where ``counted``.
        counted: bool (P,), the pixels that count.
    """
    truth = _truth(probabilities, labels, counted)
    overlap = 2.0 * (probabilities * truth).sum(1)
    size = (probabilities * counted).sum(1) + truth.sum(1)
    present = truth.any(1)
    return _mean_where(1.0 - overlap / size.clamp_min(1e-12), present)


def lovasz_softmax(probabilities: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """The Lovász extension of the Jaccard loss, mean over the classes that the batch holds (Berman et al., CVPR 2018, eq. 9-11); 0 where
    it holds none. Arguments as of `dice_loss`. A pixel that does not count has an error of 0, which adds nothing."""
    truth = _truth(probabilities, labels, counted)
    errors, order = torch.sort((truth - probabilities).abs() * counted, dim=1, descending=True)
    losses = (errors * _jaccard_gradient(truth.gather(1, order))).sum(1)
    return _mean_where(losses, truth.any(1))


def _truth(probabilities: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    classes = torch.arange(len(probabilities), device=labels.device)
    return ((labels == classes[:, None]) & counted).to(probabilities.dtype)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    return (values * chosen).sum() / chosen.sum().clamp_min(1)


def _jaccard_gradient(truth: Tensor) -> Tensor:
    """Gradient of the Lovász extension of the Jaccard loss by class; each row of ``truth`` (C, P) is sorted by falling error
    (algorithm 1)."""
    total = truth.sum(1, keepdim=True)
    intersection = total - truth.cumsum(1)
    union = total + (1.0 - truth).cumsum(1)
    jaccard = 1.0 - intersection / union.clamp_min(1.0)
    return torch.cat([jaccard[:, :1], jaccard.diff(dim=1)], dim=1)


def _cross_entropy(
    logits: Tensor, labels: Tensor, config: LossSection, ignore_index: int, class_weights: Tensor | None
) -> Tensor:
    if config.ohem_ratio >= 1.0:
        loss = functional.cross_entropy(
            logits, labels, weight=class_weights, ignore_index=ignore_index, label_smoothing=config.label_smoothing
        )
        return torch.where((labels != ignore_index).any(), loss, logits.sum() * 0.0)
    # Online hard example mining (Shrivastava et al. 2016): the pixels with the largest loss, a fixed share of the labelled.
    each = functional.cross_entropy(
        logits,
        labels,
        weight=class_weights,
        ignore_index=ignore_index,
        label_smoothing=config.label_smoothing,
        reduction="none",
    )
    each = each[labels != ignore_index]
    if not len(each):
        return logits.sum() * 0.0
    return each.topk(max(int(config.ohem_ratio * len(each)), 1)).values.mean()


def class_weights(labels: NDArray[np.uint8], num_classes: int, ignore_index: int) -> Tensor:
    """Weights of 1 / sqrt(frequency), mean 1 over the classes that occur; 0 for a class that does not. Shape ``(classes,)``."""
    counts = np.zeros(num_classes)
    for start in range(0, len(labels), _IMAGES_AT_ONCE):  # a mapped file need not fit into memory
        part = labels[start : start + _IMAGES_AT_ONCE]
        counts += np.bincount(part[part != ignore_index].ravel(), minlength=num_classes)[:num_classes]
    weights = np.divide(1.0, np.sqrt(counts), out=np.zeros(num_classes), where=counts > 0)
    return torch.from_numpy((weights / weights[weights > 0].mean()).astype(np.float32))
