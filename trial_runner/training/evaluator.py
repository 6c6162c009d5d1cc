"""Evaluation of a network on a split, at the labels' own resolution: mIoU, Dice, robustness, custom metrics and cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from objectives.cost import deployed_cost
from objectives.custom_metric import Pairs, SplitPredictions
from objectives.data import ArraySplit
from objectives.data.base import IMAGENET, Normalisation
from objectives.split_scores import SplitScores
from objectives.trial_score import TrialScore
from search_spaces import SearchSpace
from search_spaces.networks.segmentation_net import upsample_logits
from trial_runner.training.batches import normalise
from trial_runner.training.custom_metrics import compute_metrics, load_metrics
from trial_runner.training.distributed import DistributedContext
from trial_runner.training.quantization import PrecisionStage
from trial_runner.training.robustness import CorruptionSample, needs_robustness
from trial_runner.training.trial_spec import TrialFailed, TrialSpec


class Evaluator:
    """Evaluates the networks of one trial. Of several processes each runs a part of the images."""

    def __init__(
        self,
        spec: TrialSpec,
        space: SearchSpace,
        val: ArraySplit,
        *,
        num_classes: int,
        ignore_index: int,
        device: torch.device,
        context: DistributedContext,
        normalisation: Normalisation = IMAGENET,
    ) -> None:
        self._normalisation = normalisation
        self._config, self._input_hw, self._val = spec.config, space.input_hw(spec.candidate), val
        self._num_classes, self._ignore_index, self._device, self._context = num_classes, ignore_index, device, context
        self._metrics = load_metrics(spec.config)

    def evaluate(
        self,
        net: nn.Module,
        stage: PrecisionStage,
        *,
        epoch: int,
        epochs_total: int,
        train_s: float,
        initial_weights: str,
        cached_epochs: int = 0,
    ) -> TrialScore:
        """Score ``net`` after ``epoch`` of its epochs; after the last one in the precision of its device.

        Raises:
            TrialFailed: no label holds a class, or the network does not take the precision.
        """
        last = epoch >= epochs_total
        scored = stage.delivered(net, last=last)
        scores = self._scores(scored, self._val)
        miou = scores.matrix.miou()
        if not math.isfinite(miou):
            raise TrialFailed("no validation label holds a class to score; check data.root and the ignore index")
        cost = deployed_cost(stage.float_net or net, self._input_hw)  # type: ignore[arg-type]
        return TrialScore(
            val_miou=miou,
            epoch=epoch,
            epochs_total=epochs_total,
            macs=cost.macs,
            params=cost.parameters,
            train_s=train_s,
            initial_weights=initial_weights,
            cached_epochs=cached_epochs,
            class_iou=tuple(None if math.isnan(value) else float(value) for value in scores.matrix.iou()),
            precision=stage.precision if scored is not net or stage.training_rounded else "fp32",
            float_miou=self._scores(net, self._val).matrix.miou() if scored is not net else None,
            val_dice=scores.dice.value,
            corruption_miou=self._corrupted(scored) if last and needs_robustness(self._config) else None,
            metrics=self._custom(scored, scores) if last and self._metrics and self._context.first else None,
        )

    def _custom(self, net: nn.Module, scores: SplitScores) -> dict[str, float]:
        """Compute the custom metrics over the whole split, in the first process only."""
        images, labels = self._val.images, self._val.labels

        def pairs() -> Pairs:
            for prediction, label in predictions(
                net, images, labels, device=self._device, normalisation=self._normalisation
            ):
                yield prediction.astype(np.uint8), label

        was_training = net.training
        net.eval()
        split = SplitPredictions(pairs, len(images), scores.matrix.counts, self._ignore_index)
        values = compute_metrics(self._metrics, split)
        net.train(was_training)
        return values

    def _corrupted(self, net: nn.Module) -> dict[str, float]:
        sample = CorruptionSample(len(self._val.images), self._config.robustness)
        sample.take(self._val.images, self._val.labels)
        return sample.miou(lambda part: self._scores(net, part).matrix)

    def _scores(self, net: nn.Module, split: ArraySplit) -> SplitScores:
        """Return the scores summed over all processes."""
        rank, size = self._context.rank, self._context.size
        images, labels = split.images[rank::size], split.labels[rank::size]
        part = split_scores(
            net,
            images,
            labels,
            self._num_classes,
            self._ignore_index,
            device=self._device,
            normalisation=self._normalisation,
        )
        return part if size == 1 else part.all_reduced(lambda counts: self._context.all_reduce(counts, self._device))


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
    normalisation: Normalisation = IMAGENET,
) -> SplitScores:
    """Compute the confusion matrix of a split, and the Dice of each image.

    Args:
        net: gives low-resolution logits for normalised float32 ``(N, 3, H, W)``.
        images: uint8 ``(N, H, W, 3)`` at the network's input resolution.
        labels: N maps of class ids, each at its own resolution; logits are upsampled to it (bilinear), then argmax.
    """
    scores = SplitScores(num_classes, ignore_index)
    was_training = net.training
    net.eval()
    found = predictions(net, images, labels, device=device, batch_size=batch_size, normalisation=normalisation)
    for prediction, label in found:
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
    normalisation: Normalisation = IMAGENET,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Yield the predicted class ids (H, W) and the label (H, W) of each image; arguments as of `split_scores`."""
    for start in range(0, len(images), batch_size):
        logits = net(normalise(images[start : start + batch_size], device, normalisation))
        for offset, logit in enumerate(logits):
            label = np.asarray(labels[start + offset])
            upsampled = upsample_logits(logit[None], (label.shape[0], label.shape[1]))
            # Not argmax: six times slower here, on a CPU.
            yield upsampled.max(1).indices[0].cpu().numpy(), label
