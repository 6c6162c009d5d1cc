"""Network files: weights with candidate, input size, classes and normalisation, in torch's format."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from torch import nn

from exports.onnx.export import cpu_copy
from exports.quantization.quantize import QuantizedNet, half_precision, pack_quantized, unpack_quantized
from search_spaces import SegmentationNet, get_space
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_path
from search_spaces._common.references import is_reference
from search_spaces._common.untrusted import load_torch
from search_spaces.candidate import Candidate
from search_spaces.pruning.prune import fit_shape

UNREADABLE = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, IndexError, ValueError, TypeError)
"""Exceptions of ``torch.load(weights_only=True)`` on damaged or foreign files."""

_MOST_SIDE = 65536
_MOST_NUMBER = 1e6
_KEYS = ("state_dict", "candidate", "num_classes", "input_hw", "class_names", "ignore_index", "mean", "std")


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network with everything needed to run it; the content of a network file.

    Attributes:
        net: in its final (pruned) shape; maps normalised float32 (N, 3, H, W) to low-resolution logits.
        candidate: the candidate of the network.
        input_hw: height and width of the input in pixels.
        class_names: one name per channel of the logits.
        ignore_index: label value of ignored pixels.
        mean, std: normalisation per channel (RGB), for images scaled to 0..1.
        data_kind: kind of the training data set; None if unknown.
        data_options: options that its files are read with, plain values.
        precision: ``fp32``, ``fp16`` or ``int8``: precision in which it was scored and runs on the device.
        quantized: the network in INT8, on the CPU, in evaluation mode; None for the other precisions.
    """

    net: SegmentationNet
    candidate: Candidate
    input_hw: tuple[int, int]
    class_names: tuple[str, ...]
    ignore_index: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data_kind: str | None = None
    data_options: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    quantized: QuantizedNet | None = None

    def delivered(self) -> nn.Module:
        """Return the network in the precision in which it was scored."""
        if self.precision == "fp16":
            return half_precision(self.net, self.input_hw)
        return self.net if self.quantized is None else self.quantized


def write_network(path: Path, network: TrainedNetwork) -> None:
    """Write a network file atomically.

    Raises:
        UserError: the file cannot be written.
    """
    content: dict[str, Any] = {
        "state_dict": dict(cpu_copy(network.net).state_dict()),
        "candidate": network.candidate.to_dict(),
        "num_classes": len(network.class_names),
        "input_hw": [int(side) for side in network.input_hw],
        "class_names": list(network.class_names),
        "ignore_index": int(network.ignore_index),
        "mean": [float(value) for value in network.mean],
        "std": [float(value) for value in network.std],
        "data_kind": network.data_kind,
        "precision": network.precision,
        "quantized": None if network.quantized is None else pack_quantized(network.quantized),
    }
    if network.data_options:
        content["data_options"] = dict(network.data_options)
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def _misfit(content: Mapping[str, Any]) -> str | None:
    """Return the key of a network file whose value has another form than an export's; None where all fit."""
    classes, names = content["num_classes"], content["class_names"]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names) or classes != len(names):
        return "class_names"
    for key, count in (("input_hw", 2), ("mean", 3), ("std", 3)):
        values = content[key]
        if not isinstance(values, list | tuple) or len(values) != count or not all(map(_is_number, values)):
            return key
    if not isinstance(content["ignore_index"], int) or not all(0 < side <= _MOST_SIDE for side in content["input_hw"]):
        return "input_hw" if isinstance(content["ignore_index"], int) else "ignore_index"
    weights = content["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        return "state_dict"
    try:
        space: object = Candidate.from_dict(content["candidate"]).space
    except (KeyError, TypeError, ValueError, AttributeError):
        return "candidate"
    if not isinstance(space, str):
        return "candidate"
    return None if content.get("precision", "fp32") in ("fp32", "fp16", "int8") else "precision"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST_NUMBER


def read_network(path: Path) -> TrainedNetwork:
    """Read a network file; only plain values and tensors are unpickled. The network is on the CPU, in evaluation mode.

    Raises:
        UserError: the file is missing, damaged, not a network file, or of an unknown search space.
    """
    if not path.is_file():
        raise UserError(f"there is no network file at {path}; give a bundle's folder or its model.pt.")
    try:
        content = load_torch(path)
    except pickle.UnpicklingError as error:  # torch's message suggests unsafe loading
        raise UserError(
            f"{path} cannot be read as a network: it is none, or is damaged. Give a bundle's folder or its model.pt."
        ) from error
    except UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read as a network ({str(error).splitlines()[0]}); export it again."
        ) from error
    missing = [key for key in _KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise UserError(
            f"{path} is not a network file: it does not hold {', '.join(missing)}. A trial's last.pt is a training state: "
            "run `paretoseg export STUDY.yaml --trial N` and give the bundle."
        )
    misfit = _misfit(content)
    if misfit:
        raise UserError(f"{path} is damaged: its {misfit} is not what an export writes. Export the trial again.")
    candidate = Candidate.from_dict(content["candidate"])
    if is_reference(candidate.space):  # a file of somebody else must not choose what is imported here
        raise UserError(
            f"{path} names its search space as code, {candidate.space!r}, which is not run; only networks of built-in spaces are read."
        )
    space = get_space(candidate.space, {})
    try:
        net = space.build(candidate, content["num_classes"])
    except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise UserError(
            f"the candidate in {path} describes no network of the search space {candidate.space} ({error}); it was made by another "
            "version of paretoseg, or is damaged: export it again."
        ) from error
    try:
        if space.prune_ratio(candidate):
            fit_shape(net, content["state_dict"])
        net.load_state_dict(content["state_dict"])
    except (RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"the weights in {path} do not fit the network that its candidate describes here; it was made by another version "
            "of paretoseg: export it again."
        ) from error
    try:
        quantized = unpack_quantized(content["quantized"]) if content.get("quantized") else None
    except (*UNREADABLE, DecodeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is damaged: its 8-bit network cannot be read. Export the trial again.") from error
    height, width = content["input_hw"]
    return TrainedNetwork(
        net=net.eval(),
        candidate=candidate,
        input_hw=(int(height), int(width)),
        class_names=tuple(content["class_names"]),
        ignore_index=int(content["ignore_index"]),
        mean=tuple(content["mean"]),
        std=tuple(content["std"]),
        data_kind=content.get("data_kind"),
        data_options=content.get("data_options", {}),
        precision=content.get("precision", "fp32"),
        quantized=quantized,
    )
