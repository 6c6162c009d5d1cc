"""A bundle: one folder that holds a trained network and all an engineer needs to run it on a device."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from exports.bundle.check import read_manifest, sha256_of, verify_files
from exports.bundle.lock import locked_parent, replaced_folder
from exports.bundle.manifest import bundle_manifest
from exports.bundle.preview import Palette, default_palette, write_preview
from exports.bundle.readme import bundle_readme
from exports.errors import ExportError
from exports.network_file import read_network, write_network
from exports.onnx.export import export_onnx
from exports.onnx.parity import LabelArray, check_parity, check_quantized
from exports.onnx.runtime import FloatArray, OnnxSession
from exports.profiles import DeviceProfile
from exports.quantization.net import QuantizedNet
from exports.quantization.qdq import export_quantized
from search_spaces._common.files import write_json
from search_spaces.candidate import Candidate


@dataclass(frozen=True)
class ExportBundle:
    """A bundle on disk.

    Attributes:
        dir: its folder.
        manifest: the content of ``manifest.json``.
    """

    dir: Path
    manifest: Mapping[str, Any]

    @property
    def onnx_path(self) -> Path:
        return self.dir / "model.onnx"

    @property
    def checkpoint_path(self) -> Path:
        return self.dir / "model.pt"

    @property
    def preview_path(self) -> Path:
        return self.dir / "preview.png"

    @property
    def candidate(self) -> Candidate:
        return Candidate.from_dict(self.manifest["candidate"])

    @property
    def input_hw(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.manifest["input"]["height_px"], self.manifest["input"]["width_px"]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.manifest["classes"]["names"])

    @property
    def measurements(self) -> tuple[Mapping[str, Any], ...]:
        """What ``add_measurement`` added, oldest first."""
        return tuple(self.manifest["measurements"])


def write_bundle(
    folder: Path,
    *,
    net: nn.Module,
    candidate: Candidate,
    input_hw: tuple[int, int],
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    ignore_index: int,
    images: FloatArray,
    labels: Sequence[LabelArray] | None,
    profile: DeviceProfile,
    facts: Mapping[str, Any],
    config_yaml: str,
    checkpoint: Path | None = None,
    palette: Palette | None = None,
    precision: str | None = None,
    quantized: QuantizedNet | None = None,
) -> ExportBundle:
    """Export ``net``, check it against torch on ``images``, and write all of it as one folder, or nothing.

    Of a network in INT8 the export is ``quantized`` in Q/DQ form, and held against what it computes in torch.

    An existing folder is replaced when the new one is complete. Several processes may write the same folder: one of
    the complete results stays.

    Args:
        mean, std: per channel (RGB), of images scaled to 0..1.
        images: float32 (N, 3, height, width), normalised; a handful of real validation images.
        labels: uint8 (h, w) each at any resolution, or None.
        facts: plain JSON about the trial (study, number, val_miou, latency estimate, ...).
        checkpoint: the file the weights came from; its SHA-256 is kept in the manifest.
        palette: one RGB colour per class; chosen when None.
        precision: what the device is to run it in; the first of the profile's when None.
        quantized: ``net`` in INT8; needed for the precision int8, and for no other.

    Raises:
        ExportError: the network cannot be exported, or the export does not agree with torch.
        UserError: the folder cannot be written.
        ValueError: numbers of classes, colours, or shapes do not fit together, or ``facts`` is not plain JSON.
    """
    colours = palette if palette is not None else default_palette(len(class_names))
    if len(colours) != len(class_names):
        raise ValueError(f"{len(class_names)} classes and {len(colours)} colours")
    if images.shape[2:] != tuple(input_hw):
        raise ValueError(f"images are {images.shape[2:]}, the network's input is {tuple(input_hw)}")
    precision = precision or profile.precisions[0]
    if (precision == "int8") != (quantized is not None):
        raise ValueError(f"a bundle for {precision} {'needs a' if quantized is None else 'takes no'} quantized network")
    json.dumps(facts, allow_nan=False)
    origin = None if checkpoint is None else {"name": checkpoint.name, "sha256": sha256_of(checkpoint)}
    subject = _describe(candidate)
    with replaced_folder(folder) as staging:
        if quantized is None:
            onnx_file = export_onnx(net, input_hw, staging / "model.onnx", opset=profile.opset, subject=subject)
        else:
            onnx_file = export_quantized(quantized, staging / "model.onnx")
        if onnx_file.output_shape[1] != len(class_names):
            raise ValueError(f"the network has {onnx_file.output_shape[1]} classes, class_names {len(class_names)}")
        if quantized is None:
            parity = check_parity(net, onnx_file.path, images, labels, ignore_index)
        else:
            parity = check_quantized(quantized, onnx_file.path, images, labels, ignore_index)
        if not parity.passed:
            raise ExportError(
                f"{subject} is not exported: {parity.reason}. Choose another trial, or train this one again with a "
                "lower learning rate."
            )
        write_network(
            staging / "model.pt",
            net,
            candidate,
            input_hw=input_hw,
            class_names=class_names,
            ignore_index=ignore_index,
            mean=mean,
            std=std,
            precision=precision,
            quantized=quantized,
        )
        (staging / "study.yaml").write_text(config_yaml)
        write_preview(
            staging / "preview.png",
            OnnxSession(onnx_file.path),
            images,
            labels,
            mean=mean,
            std=std,
            class_names=class_names,
            palette=colours,
            ignore_index=ignore_index,
        )
        manifest = bundle_manifest(
            onnx_file,
            candidate,
            profile,
            classes={
                "names": list(class_names),
                "palette": [list(colour) for colour in colours],
                "ignore_index": ignore_index,
            },
            mean=mean,
            std=std,
            precision=precision,
            quantized=quantized,
            parity=parity.to_dict(),
            facts=facts,
            checkpoint=origin,
        )
        (staging / "README.md").write_text(bundle_readme(manifest))
        manifest["files"] = {
            path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in sorted(staging.iterdir())
        }
        write_json(staging / "manifest.json", manifest)
    return ExportBundle(folder, manifest)


def read_bundle(folder: Path) -> ExportBundle:
    """Open a bundle and verify it: schema version, that every file is there, unchanged, and nothing was added.

    Engines built beside it (``*.plan``, ``*.engine``, ``*.cache``) and hidden files are no part of the bundle.

    Raises:
        UserError: naming the folder or the file, and what to do.
    """
    manifest = read_manifest(folder)
    with locked_parent(folder, shared=True):
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
    return ExportBundle(folder, manifest)


def add_measurement(folder: Path, measurement: Mapping[str, Any]) -> ExportBundle:
    """Append ``measurement`` (plain JSON: device, latency_ms_p50, ...) to the manifest, atomically.

    Raises:
        UserError: the folder is no readable bundle, or cannot be written.
        ValueError: ``measurement`` is not plain JSON.
    """
    json.dumps(measurement, allow_nan=False)
    read_manifest(folder)
    with locked_parent(folder):
        manifest = read_manifest(folder)
        manifest["measurements"] = [*manifest["measurements"], dict(measurement)]
        write_json(folder / "manifest.json", manifest)
    return ExportBundle(folder, manifest)


def load_network(bundle: ExportBundle) -> nn.Module:
    """The trained torch network of a bundle, on the CPU, in evaluation mode; for fine-tuning or another export.

    Raises:
        UserError: the search space of the candidate is unknown here or has another version.
    """
    return read_network(bundle.checkpoint_path).net


def _describe(candidate: Candidate) -> str:
    shape = ", ".join(str(candidate.params[key]) for key in ("family", "decoder") if key in candidate.params)
    return f"candidate {candidate.id}" + (f" ({shape})" if shape else "")
