"""`solution.pyz` of a trial, and the choice of its option for small regions on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from exports import TrainedNetwork
from hw_latency_model.board.solution import write_solution
from hw_latency_model.onboard.regions import without_small_regions
from objectives.data import ArraySplit
from objectives.data.base import Normalisation
from objectives.dice import MeanImageDice
from search_spaces import open_space
from search_spaces._common.references import add_import_folder
from trial_runner.front.export_job import check_images
from trial_runner.training.evaluator import predictions
from trial_runner.training.trial import load_splits
from trial_runner.training.trial_spec import TrialSpec

REGION_PIXELS = (0, 16, 64, 256, 1024)
"""Values among which the smallest kept region is chosen, in pixels of a map of 512 x 512."""
_MAP_PIXELS = 512 * 512


@dataclass(frozen=True)
class Solution:
    """A written `solution.pyz`.

    Attributes:
        path: the file.
        least_region_pixels: smaller predicted regions are removed.
        dice: mean Dice of the validation images by least region; empty where the option was given.
    """

    path: Path
    least_region_pixels: int
    dice: dict[int, float]


def solution_of_trial(
    spec: TrialSpec, path: Path, *, batch: int = 1, least_region_pixels: int | None = None
) -> Solution:
    """Write the solution of a finished trial.

    Args:
        spec: the trial.
        path: file to write.
        batch: images per run.
        least_region_pixels: predicted regions with fewer pixels are removed; None: the value with the best Dice on the validation
            images.

    Raises:
        UserError: no usable checkpoint, another number of classes than 14, FP16 does not suit the network, or the file cannot be
            written.
    """
    add_import_folder(spec.config.study.python_path)
    hw = open_space(spec.config.space).input_hw(spec.candidate)
    info, _, val = load_splits(spec, hw)
    checked_on = check_images(spec, info, val, hw)
    network = checked_on.network
    dice: dict[int, float] = {}
    if least_region_pixels is None:
        dice = region_dice(network, val, REGION_PIXELS)
        least_region_pixels = max(dice, key=lambda pixels: (dice[pixels], -pixels))
    write_solution(path, network, batch=batch, least_region_pixels=least_region_pixels, checked_on=checked_on)
    return Solution(path, least_region_pixels, dice)


def region_dice(network: TrainedNetwork, val: ArraySplit, choices: Sequence[int]) -> dict[int, float]:
    """Mean Dice of the validation images for each least number of pixels of a predicted region.

    Args:
        choices: in pixels of a map of 512 x 512; scaled to the size of each label.
    """
    classes = len(network.class_names)
    scores = {pixels: MeanImageDice(classes, network.ignore_index) for pixels in choices}
    found = predictions(
        network.delivered(),
        val.images,
        val.labels,
        device=torch.device("cpu"),
        batch_size=8,
        normalisation=Normalisation(network.mean, network.std),
    )
    for prediction, label in found:
        for pixels, score in scores.items():
            least = round(pixels * label.size / _MAP_PIXELS)
            score.update(without_small_regions(np.asarray(prediction, np.uint8), least), label)
    return {pixels: score.value for pixels, score in scores.items()}
