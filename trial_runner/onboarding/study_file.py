"""Write the commented YAML of a first study, which `paretoseg launch` runs as it is."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from exports import get_profile
from hw_latency_model.bundled.load import bundled_names
from hw_latency_model.file_names import MODEL_FILE
from hw_latency_model.local.device import DEVICES
from objectives.data import DatasetError, DatasetInfo, SplitSurvey, judge, open_dataset, survey_split
from objectives.data.recognition import RecognizedData, recognize_data
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path
from search_spaces._common.yaml_config import flow_yaml
from trial_runner.config.editors import study_schema
from trial_runner.config.load import load_config
from trial_runner.onboarding.choices import FRAME_MS, DataFacts, Machine, StudyChoices, choose, this_machine
from trial_runner.study.paths import StudyPaths

_SAMPLED_SIZES = 300
_DEEP_ENOUGH = 16383


@dataclass(frozen=True)
class Target:
    """Device of a first study.

    Attributes:
        name: key of ``exports.PROFILES``.
        precision: precision on the device.
        model: latency model, relative to the study's folder or absolute.
        board: DEVICE.yaml of a board; None for this machine, or where there is none yet.
    """

    name: str
    precision: str
    model: str
    board: str | None = None


@dataclass(frozen=True)
class WrittenStudy:
    """Result of `write_study_file`.

    Attributes:
        path: the YAML.
        notes: sentences on the data and on what was chosen.
        commands: commands to run next, in order.
    """

    path: Path
    notes: tuple[str, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class _Data:
    kind: str
    options: Mapping[str, Any]
    invented: bool
    info: DatasetInfo
    train: SplitSurvey
    val: SplitSurvey
    size_hw: tuple[int, int]
    allow_missing: bool
    notes: tuple[str, ...]

    @property
    def facts(self) -> DataFacts:
        counted = max(sum(self.train.class_pixels), 1)
        return DataFacts(len(self.train.digests), self.size_hw, tuple(n / counted for n in self.train.class_pixels))


def write_study_file(
    root: Path, out: Path, *, device: str = "local-cpu", budget_ms: float | None = None, machine: Machine | None = None
) -> WrittenStudy:
    """Look at a folder of images and labels, and write a study for it.

    Args:
        root: the data.
        out: YAML to write; other files of the study go to ``runs`` beside it.
        device: a device profile, or the path of a DEVICE.yaml.
        budget_ms: latency budget; None: 30 frames a second.
        machine: that trains; None: this one.

    Raises:
        UserError: the file exists, or the data or the device cannot be used; nothing is written.
    """
    if out.exists():
        raise UserError(
            f"{out} is there already, and init overwrites nothing. Choose another file with --out, or move it away."
        )
    if budget_ms is not None and not budget_ms > 0:
        raise UserError(f"--budget-ms is {budget_ms:g}, which no network keeps. Give milliseconds above 0.")
    folder = out.resolve().parent
    target = _target(device, folder)
    name = _free_name(root, folder)
    paths = StudyPaths(folder / "runs" / name)
    data = _examine(root, paths.cache)
    choices = choose(machine or this_machine(), data.facts)
    budget = FRAME_MS if budget_ms is None else budget_ms
    with atomic_path(out) as temporary:
        temporary.write_text(_text(name, folder, root, data, target, choices, budget), encoding="utf-8")
        load_config(temporary)
    with atomic_path(paths.schema) as temporary:
        temporary.write_text(json.dumps(study_schema(), indent=1) + "\n")
    return WrittenStudy(out, (*data.notes, *_summary(data, choices)), _commands(out, folder, target))


def _target(device: str, folder: Path) -> Target:
    from hw_latency_model.board.device_config import is_device_file, load_device

    if device.endswith((".yaml", ".yml")):
        path = Path(device)
        if path.is_file() and not is_device_file(path):
            raise UserError(
                f"{path} describes no device. Give a DEVICE.yaml, such as configs/devices/jetson-nano.yaml, or a name."
            )
        board = load_device(path)
        profile = get_profile(board.device.profile_name)
        model = _relative(board.model_path, folder)
        return Target(profile.name, board.device.precision, model, _relative(path, folder))
    profile = get_profile(device)
    precision = "fp32" if device in DEVICES else profile.precisions[0]
    return Target(profile.name, precision, f"runs/{profile.name}/{MODEL_FILE}")


def _free_name(root: Path, folder: Path) -> str:
    """Return a study's name from that of the data's folder; another one where a study has it already."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", root.resolve().name).strip("-._") or "study"
    numbers = (f"{name}-{number}" if number > 1 else name for number in range(1, 1000))
    return next(free for free in numbers if not (folder / "runs" / free / "study.db").exists())


def _examine(root: Path, cache: Path) -> _Data:
    """Recognize and validate the data.

    Raises:
        DatasetError: the layout is not known, or a file cannot be used.
    """
    found = recognize_data(root)
    train, val = (open_dataset(found.kind, root=root, split=split, **found.options) for split in ("train", "val"))
    surveys = [survey_split(split, cache) for split in (train, val)]
    seen, checked = surveys
    assert seen is not None and checked is not None  # of files
    found = _with_white(found, seen, checked)
    declared = found.kind == "folder"
    image_max = found.options.get("image_max")
    judgement = judge(train.info, seen, checked, declared=declared, image_max=image_max)
    allow_missing = False
    if judgement.errors and declared:
        judgement = judge(train.info, seen, checked, declared=False, image_max=image_max)
        allow_missing = not judgement.errors
    if judgement.errors:
        raise DatasetError(" ".join(judgement.errors))
    step = max(1, len(train) // _SAMPLED_SIZES)
    sizes = np.array([train.label_hw(index) for index in range(0, len(train), step)])
    height, width = np.median(sizes, axis=0)
    return _Data(
        found.kind,
        found.options,
        found.invented,
        train.info,
        seen,
        checked,
        (int(height), int(width)),
        allow_missing,
        (*found.notes, *judgement.warnings),
    )


def _with_white(found: RecognizedData, *surveys: SplitSurvey) -> RecognizedData:
    """Return the data with the white of cameras of 10 to 14 bits, where their images would be almost black."""
    deep = max((survey.deep_maximum or 0 for survey in surveys), default=0)
    if found.kind != "folder" or not 0 < deep <= _DEEP_ENOUGH:
        return found
    white = 2 ** deep.bit_length() - 1
    note = f"the images hold values up to {deep}: {white} is taken as white"
    return replace(found, options={**found.options, "image_max": white}, notes=(*found.notes, note))


def _relative(path: Path, folder: Path) -> str:
    """Return a path relative to the study's folder where both lie together, else absolute."""
    resolved = path.resolve()
    near = resolved.is_relative_to(folder) or resolved.is_relative_to(folder.parent)
    return os.path.relpath(resolved, folder) if near else str(resolved)


def _text(
    name: str, folder: Path, root: Path, data: _Data, target: Target, choices: StudyChoices, budget_ms: float
) -> str:
    height, width = data.size_hw
    lines = [
        f"# yaml-language-server: $schema=runs/{name}/{StudyPaths(Path()).schema.name}",
        "# Written by `paretoseg init`. Every key: `paretoseg schema`, or docs/configuration.md. Paths are relative to this file.",
        "study:",
        f"  name: {flow_yaml(name)}",
        f"  storage: {flow_yaml(f'sqlite:///runs/{name}/study.db')}",
        f"  output_dir: {flow_yaml(f'runs/{name}')}   # checkpoints, exported networks, report",
        "  seed: 1",
        "",
        f"# {len(data.train.digests)} images to train on and {len(data.val.digests)} to validate on, {height}x{width} pixels "
        f"(height x width, median), {data.info.num_classes} classes.",
        "data:",
        f"  kind: {data.kind}",
        f"  root: {flow_yaml(_relative(root, folder))}",
        *_option_lines(data),
        "",
        "space:",
        "  name: encoder_decoder",
    ]
    if choices.families:
        lines += [
            "  # Families that train quickly on a CPU; without the list all are searched.",
            f"  families: {flow_yaml(list(choices.families))}",
        ]
    lines += [
        "  widths: [0.25, 0.5, 0.75, 1.0]",
        "  # Input sizes [height, width], multiples of 32, of the images' aspect. Accuracy is always measured at the labels' own size.",
        f"  resolutions_px: {flow_yaml([list(size) for size in choices.resolutions_px])}",
        "  prune_ratios: [0.0, 0.25, 0.5]",
        "  learning_rate: {low: 0.001, high: 0.01}",
        "  weight_decay: {low: 0.00001, high: 0.01}",
        "",
        "device:",
        f"  name: {target.name}",
        f"  precision: {target.precision}",
        f"  latency_model: {flow_yaml(target.model)}",
        f"  latency_budget_ms: {budget_ms:g}   # {1000 / budget_ms:.3g} images a second; slower networks are not trained",
        *_board_lines(target),
        "",
        "training:",
        f"  epochs: {choices.epochs}",
        f"  batch_size: {choices.batch_size}",
        "  # weights: hub   # timm's ImageNet weights, downloaded once: better with few images",
        *_imbalance_lines(data, choices),
        "",
        "search:",
        f"  trials: {choices.trials}   # networks to train; more can be added later",
        "  # time_budget_minutes: 60   # ends the search by the clock instead",
        "  startup_trials: 8",
        "  start: stratified",
        "  # At these epochs a trial goes on only if it is among the best third of those that came so far.",
        f"  early_stopping: {{rungs_epochs: {list(choices.rungs_epochs)}, reduction_factor: 3.0, min_trials: 4}}",
        "  # The best networks of the front are trained further at the end.",
        f"  final_training: {{members: 2, epochs: {choices.final_epochs}}}",
        "",
        f"# {choices.slots} trials at the same time on this machine.",
        "compute:",
        "  backend: ray",
        f"  cpus_per_trial: {choices.cpus_per_trial}",
    ]
    if choices.gpus_per_trial:
        lines += [f"  gpus_per_trial: {choices.gpus_per_trial:g}", f"  threads_per_trial: {choices.cpus_per_trial}"]
    return "\n".join(lines) + "\n"


def _option_lines(data: _Data) -> list[str]:
    lines = []
    named = next((key for key in ("label_values", "colours") if key in data.options), None)
    for key, value in data.options.items():
        if key != named:
            lines.append(f"  {key}: {flow_yaml(value)}")
            continue
        if data.invented:
            lines.append("  # Classes by what the labels hold. Give them their names before the first launch.")
        lines.append(f"  {key}:")
        for class_name, held in value.items():
            class_id = data.info.class_names.index(class_name)
            lines.append(f"    {flow_yaml({class_name: held})[1:-1]}   # {_share(data, class_id)}")
    if named is None:
        lines += [
            f"  # {_comment(class_name)}: {_share(data, class_id)}"
            for class_id, class_name in enumerate(data.info.class_names[:30])
        ]
    if data.allow_missing:
        lines.append(
            "  missing_classes: allow   # no training label holds some class: add images of it, or remove the class"
        )
    return lines


def _share(data: _Data, class_id: int) -> str:
    pixels = data.train.class_pixels[class_id] + data.val.class_pixels[class_id]
    counted = max(sum(data.train.class_pixels) + sum(data.val.class_pixels), 1)
    images = data.train.class_images[class_id] + data.val.class_images[class_id]
    return f"{pixels / counted:.2%} of the pixels, in {images} images"


def _comment(text: str) -> str:
    """Return text for a comment: in one line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _board_lines(target: Target) -> list[str]:
    if target.board is not None:
        return [f"  board: {flow_yaml(target.board)}   # the front is measured there at the end"]
    if target.name in DEVICES:
        return []
    return ["  measure_front: false   # with `board: DEVICE.yaml` the front is measured on the device"]


def _imbalance_lines(data: _Data, choices: StudyChoices) -> list[str]:
    if choices.class_weights == "none":
        return []
    shares = data.facts.class_shares
    rarest = min((share, class_id) for class_id, share in enumerate(shares) if share)
    return [
        f"  # {_comment(data.info.class_names[rarest[1]])} has {rarest[0]:.2%} of the pixels: rare classes weigh more in the loss.",
        f"  loss: {{class_weights: {choices.class_weights}}}",
    ]


def _summary(data: _Data, choices: StudyChoices) -> Sequence[str]:
    height, width = data.size_hw
    shares = sorted(zip(data.facts.class_shares, data.info.class_names, strict=True), reverse=True)
    sizes = ", ".join(f"{h}x{w}" for h, w in choices.resolutions_px)
    return (
        f"data: {data.kind}, {len(data.train.digests)} images to train on, {len(data.val.digests)} to validate on, {height}x{width} "
        f"pixels, {data.info.num_classes} classes",
        "classes: "
        + ", ".join(f"{_comment(name)} {share:.1%}" for share, name in shares[:8])
        + (", …" if len(shares) > 8 else ""),
        f"inputs of {sizes}; {choices.trials} trials of {choices.epochs} epochs, {choices.slots} at a time",
    )


def _commands(out: Path, folder: Path, target: Target) -> tuple[str, ...]:
    """Return the commands to run next, in order."""
    study = shlex.quote(str(out))
    launch = f"paretoseg launch {study}"
    if (folder / target.model).is_file():
        return (launch,)
    if target.name in DEVICES:
        return f"paretoseg calibrate --minutes 1.5 {study}", launch
    if target.board is not None:
        return f"paretoseg calibrate {shlex.quote(os.path.relpath(folder / target.board))}", launch
    if (target.name, target.precision) in bundled_names():
        return (launch,)
    return "paretoseg calibrate DEVICE.yaml", launch
