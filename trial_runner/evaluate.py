"""Evaluation of a trained network outside its study, with the same images, resize and confusion matrix."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from exports import ExportBundle, TrainedNetwork, read_bundle, read_network
from objectives.data import ArraySplit, SegmentationData, decoded_parts, open_dataset
from objectives.data.base import Normalisation
from objectives.data.lpcvc import INFO as LPCVC_INFO
from objectives.dice import lpcvc_score
from objectives.split_scores import SplitScores
from search_spaces._common.errors import UserError
from search_spaces._common.references import add_import_folder, is_reference
from search_spaces._common.yaml_config import check_values, read_yaml
from trial_runner.config.study import DataSection, RobustnessSection
from trial_runner.training.evaluator import predictions
from trial_runner.training.robustness import CorruptionSample
from trial_runner.training.trial import open_split, torch_device


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a network on one split.

    Attributes:
        miou: class mean from one confusion matrix over the split, at the labels' own resolution.
        class_iou: by class name; None for a class that neither labels nor predictions hold, which the mean leaves out.
        pixel_accuracy: share of counted pixels.
        dice: mean over images of each image's class-mean Dice (LPCVC's definition).
        images: of the split.
        corruption_miou: mIoU by corruption of the images; None where not requested.
        lpcvc_score: Dice divided by the seconds per image (the bundle's latency); None without one, or for other data than the LPCVC's.
    """

    miou: float
    class_iou: dict[str, float | None]
    pixel_accuracy: float
    dice: float
    images: int
    split: str
    data: str
    corruption_miou: dict[str, float] | None = None
    lpcvc_score: float | None = None

    @property
    def robust_miou(self) -> float | None:
        """Mean over the corruptions."""
        return statistics.fmean(self.corruption_miou.values()) if self.corruption_miou else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "miou": self.miou,
            "per_class": self.class_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "dice": self.dice,
            "images": self.images,
            "split": self.split,
            "data": self.data,
            "lpcvc_score": self.lpcvc_score,
            "robust_miou": self.robust_miou,
            "corruption_miou": self.corruption_miou,
        }


def _study_yaml(bundle: ExportBundle) -> dict[str, Any]:
    values, _ = read_yaml(bundle.dir / "study.yaml", what="bundle's study", sections="study, data, device, …")
    return values


def open_network(source: Path, *, run_code: bool = False) -> tuple[TrainedNetwork, DataSection | None, int]:
    """Open the network of a bundle's folder or a network file; also return its study's data section and seed.

    Args:
        run_code: let the data section name code of its own, and look for it in the study's ``python_path``.

    Raises:
        UserError: it is neither.
    """
    if not source.is_dir():
        return read_network(source), None, 0
    bundle = read_bundle(source)
    config, file = _study_yaml(bundle), bundle.dir / "study.yaml"
    if "data" not in config:
        return read_network(bundle.checkpoint_path), None, 0
    section = check_values(DataSection, config["data"], file, None)
    study = config.get("study")
    study = study if isinstance(study, dict) else {}
    if section.custom and run_code and study.get("python_path"):
        add_import_folder(Path(str(study["python_path"])))
    seed = study.get("seed", 0)
    if not isinstance(seed, int):
        raise UserError(f"{file}: study.seed must be a whole number. Export the trial again.")
    return read_network(bundle.checkpoint_path), section, seed


def open_network_and_data(
    source: Path, *, split: str, root: Path | None = None, kind: str | None = None, run_code: bool = False
) -> tuple[TrainedNetwork, SegmentationData]:
    """Open a bundle or a network file, and a split of its data; arguments and errors as of `evaluate`."""
    trained, study_data, seed = open_network(source, run_code=run_code)
    if kind is None and study_data is not None and study_data.custom and not run_code:
        raise UserError(
            f"{source} reads its data by code of its own, {study_data.kind}, which is not run unasked: a bundle may come from anybody. "
            "Look at that module, then add --run-code, or give data of another kind with --kind and --data."
        )
    data = _open(trained, study_data, seed, split, root, kind)
    if tuple(data.info.class_names) != trained.class_names:
        raise UserError(
            f"the network tells {len(trained.class_names)} classes apart ({', '.join(trained.class_names[:4])}, ...), the data "
            f"{len(data.info.class_names)} ({', '.join(data.info.class_names[:4])}, ...). Give the data that it was trained for."
        )
    return trained, data


def evaluate(
    source: Path,
    *,
    split: str = "val",
    root: Path | None = None,
    kind: str | None = None,
    device: str = "auto",
    robust: bool = False,
    run_code: bool = False,
) -> Evaluation:
    """Score a bundle or a network file on a split.

    Args:
        source: a bundle's folder, or a network file.
        split: train, val or test.
        root: folder of the data; by default the study's.
        kind: of the data; by default the study's.
        robust: score corrupted images as well, those of the study's section ``robustness`` or of its default.
        run_code: import the data set's own code, ``module:name``, that a bundle names; from others it could be anything.

    Raises:
        UserError: no network there, no data there, or data of other classes than the network's.
    """
    trained, data = open_network_and_data(source, split=split, root=root, kind=kind, run_code=run_code)
    data.check()
    bundle = read_bundle(source) if source.is_dir() else None
    latency_ms = _latency_ms(bundle) if bundle else None
    section = check_values(
        RobustnessSection, _study_yaml(bundle).get("robustness", {}) if bundle else {}, source / "study.yaml", None
    )
    sample = CorruptionSample(len(data), section) if robust else None
    place = torch_device(device)
    parts = decoded_parts(data, trained.input_hw)
    scores = score(trained, sample.watching(parts) if sample else parts, place)
    report = scores.matrix.report(trained.class_names)
    corrupted = sample.miou(lambda part: score(trained, [part], place).matrix) if sample else None
    return Evaluation(
        miou=report.miou,
        class_iou=dict(zip(trained.class_names, report.class_iou, strict=True)),
        pixel_accuracy=report.pixel_accuracy,
        dice=scores.dice.value,
        images=len(data),
        split=split,
        data=data.info.name,
        corruption_miou=corrupted,
        lpcvc_score=None
        if latency_ms is None or data.info.name != LPCVC_INFO.name
        else lpcvc_score(scores.dice.value, latency_ms / 1e3, 1),
    )


def _latency_ms(bundle: ExportBundle) -> float | None:
    """Return the last measured latency, else the predicted one; None where the bundle has neither."""
    measured = [item["latency_ms_p50"] for item in bundle.measurements if "latency_ms_p50" in item]
    if measured:
        return float(measured[-1])
    predicted = bundle.manifest.get("facts", {}).get("latency_ms")
    return None if predicted is None else float(predicted)


def score(trained: TrainedNetwork, parts: Iterable[ArraySplit], device: torch.device) -> SplitScores:
    """Confusion matrix and Dice of a split. The parts' images are at the network's input resolution."""
    scores, net = SplitScores(len(trained.class_names), trained.ignore_index), trained.delivered().to(device)
    normalisation = Normalisation(trained.mean, trained.std)
    for part in parts:
        found = predictions(net, part.images, part.labels, device=device, batch_size=8, normalisation=normalisation)
        for prediction, label in found:
            scores.update(prediction, label)
    return scores


def _open(
    trained: TrainedNetwork, section: DataSection | None, seed: int, split: str, root: Path | None, kind: str | None
) -> SegmentationData:
    kind = kind or (section.kind if section else trained.data_kind)
    if kind is None:
        raise UserError("the file does not say what data the network was trained on. Add --kind, e.g. --kind camvid.")
    if kind == "synthetic" and root is not None:
        raise UserError(
            "synthetic scenes lie in no folder. Say what the data in --data are with --kind, or leave --data out."
        )
    if section is not None and section.kind == kind:
        return open_split(section.model_copy(update={"root": root}) if root else section, split, seed)
    if is_reference(kind):
        add_import_folder(Path.cwd())
    elif kind != "synthetic" and root is None:
        raise UserError(f"data of kind {kind} lie in a folder. Add --data and the folder.")
    options = trained.data_options if kind == trained.data_kind else {}
    return open_dataset(kind, root=root, split=split, **options)
