"""What a training minimises: a weighted sum of cross-entropy (all pixels or the hardest), Dice and Lovász-softmax."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trial_runner.study_config import LossSection


def segmentation_loss(
    logits: Tensor, labels: Tensor, config: LossSection, *, ignore_index: int, class_weights: Tensor | None = None
) -> Tensor:
    """The loss of a batch, a scalar; 0 (with a gradient of 0) where no pixel is labelled.

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
        kept = labels != ignore_index
        probabilities = logits.float().softmax(1).movedim(1, -1)[kept]
        true = labels[kept]
        if config.dice:
            total = total + config.dice * dice_loss(probabilities, true)
        if config.lovasz:
            total = total + config.lovasz * lovasz_softmax(probabilities, true)
    return total


def dice_loss(probabilities: Tensor, labels: Tensor) -> Tensor:
    """One minus the mean soft Dice of the classes that the batch holds (Milletari et al. 2016, with p + t below the line).

    Args:
        probabilities: (P, C), each row adds up to 1.
        labels: int64 (P,), class ids.
    """
    truth = functional.one_hot(labels, probabilities.shape[1]).to(probabilities)
    overlap = 2.0 * (probabilities * truth).sum(0)
    size = probabilities.sum(0) + truth.sum(0)
    present = truth.sum(0) > 0
    if not bool(present.any()):
        return probabilities.sum() * 0.0
    return 1.0 - (overlap[present] / size[present]).mean()


def lovasz_softmax(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The Lovász extension of the Jaccard loss, mean over the classes that the batch holds (Berman et al., CVPR 2018, eq. 9-11).

    Args:
        probabilities: (P, C), each row adds up to 1.
        labels: int64 (P,), class ids.
    """
    losses = []
    for index in range(probabilities.shape[1]):
        truth = (labels == index).to(probabilities)
        if not bool(truth.any()):
            continue
        errors, order = torch.sort((truth - probabilities[:, index]).abs(), descending=True)
        losses.append(errors @ _jaccard_gradient(truth[order]))
    return torch.stack(losses).mean() if losses else probabilities.sum() * 0.0


def _jaccard_gradient(truth: Tensor) -> Tensor:
    """Gradient of the Lovász extension of the Jaccard loss; ``truth`` is sorted by falling error (algorithm 1)."""
    total = truth.sum()
    intersection = total - truth.cumsum(0)
    union = total + (1.0 - truth).cumsum(0)
    jaccard = 1.0 - intersection / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def _cross_entropy(
    logits: Tensor, labels: Tensor, config: LossSection, ignore_index: int, class_weights: Tensor | None
) -> Tensor:
    if config.hardest_share >= 1.0:
        loss = functional.cross_entropy(
            logits, labels, weight=class_weights, ignore_index=ignore_index, label_smoothing=config.label_smoothing
        )
        return loss if bool((labels != ignore_index).any()) else logits.sum() * 0.0
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
    return each.topk(max(int(config.hardest_share * len(each)), 1)).values.mean()
