"""Inputs of a bundle: a trained network, images to check and show it on, its target device, and facts about its trial."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from exports.network_file import TrainedNetwork
from exports.onnx.parity import LabelArray
from exports.onnx.runtime import FloatArray
from exports.profiles import DeviceProfile
from search_spaces._common.palette import Palette


class ImagePart(NamedTuple):
    """Images float32 (N, 3, height, width), normalised, with a label each, uint8 (h, w), or None."""

    images: FloatArray
    labels: Sequence[LabelArray] | None


@dataclass(frozen=True)
class CheckImages:
    """A trained network and the images that decide whether a form of it is the same network; attributes as of `BundleInputs`."""

    network: TrainedNetwork
    images: FloatArray
    labels: Sequence[LabelArray] | None
    more_images: Callable[[int], Iterable[ImagePart]] | None = None


@dataclass(frozen=True)
class BundleInputs:
    """Everything that `write_bundle` needs.

    Attributes:
        network: the trained network; in INT8 where its precision is ``int8``.
        palette: one RGB colour per class.
        images: float32 (N, 3, height, width), normalised; a handful of real validation images.
        labels: uint8 (h, w) each at any resolution, or None.
        profile: the target device.
        facts: plain JSON about the trial (study, number, val_miou, latency estimate, ...).
        config_yaml: the study's resolved configuration.
        checkpoint: the file the weights came from; its SHA-256 is kept in the manifest.
        measurements: plain JSON, measurements of the network on the device, oldest first.
        further_images, further_labels: more of the same kind, that the preview's worst images are chosen among beside the others.
        calibration: float32 (N, 3, height, width), normalised training images for an INT8 variant; None: there is none.
        more_images: returns parts with up to so many labelled images of the validation split, for checks that ``images`` are too few to
            decide; None: there are no others.
        runner: content of `runner.pyz`, the code of the bundle's `run.py`; None: the bundle has no `run.py`.

    Raises:
        ValueError: numbers of classes, colours, or shapes do not match, an INT8 network is missing or superfluous, or ``facts``
            is not plain JSON.
    """

    network: TrainedNetwork
    palette: Palette
    images: FloatArray
    labels: Sequence[LabelArray] | None
    profile: DeviceProfile
    facts: Mapping[str, Any]
    config_yaml: str
    checkpoint: Path | None = None
    measurements: Sequence[Mapping[str, Any]] = ()
    runner: bytes | None = None
    further_images: FloatArray | None = None
    further_labels: Sequence[LabelArray] = ()
    calibration: FloatArray | None = None
    more_images: Callable[[int], Iterable[ImagePart]] | None = None

    def __post_init__(self) -> None:
        network = self.network
        if len(self.palette) != len(network.class_names):
            raise ValueError(f"{len(network.class_names)} classes and {len(self.palette)} colours")
        if self.images.shape[2:] != tuple(network.input_hw):
            raise ValueError(f"images are {self.images.shape[2:]}, the network's input is {tuple(network.input_hw)}")
        if (network.precision == "int8") != (network.quantized is not None):
            wanted = "needs a" if network.quantized is None else "takes no"
            raise ValueError(f"a bundle for {network.precision} {wanted} quantized network")
        json.dumps(self.facts, allow_nan=False)
