"""Writing a bundle: one folder with a trained network and all an engineer needs to run it on a device."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exports.bundle.board_files import write_board_files
from exports.bundle.checksums import sha256_of, write_checksums
from exports.bundle.fp16 import Half, half_step
from exports.bundle.inputs import BundleInputs
from exports.bundle.int8 import INT8_FILE, Int8, int8_step
from exports.bundle.ladder import ENGINE, INT8_ENGINE, engine_steps, ladder, with_engine
from exports.bundle.lock import locked_parent, replaced_folder
from exports.bundle.manifest import bundle_manifest
from exports.bundle.preview import write_preview
from exports.bundle.read import MANIFEST, ExportBundle, read_manifest
from exports.bundle.readme import bundle_readme
from exports.errors import ParityError
from exports.network_file import write_network
from exports.onnx.export import OnnxFile, export_onnx
from exports.onnx.parity import ParityReport, check_parity, check_quantized
from exports.onnx.runtime import OnnxSession
from exports.quantization.qdq import export_quantized
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_folder, atomic_path, write_json
from search_spaces.candidate import Candidate


def write_bundle(folder: Path, inputs: BundleInputs) -> ExportBundle:
    """Export a network, check its parity with torch, and write the bundle atomically.

    A network in INT8 is exported in Q/DQ form and compared with its simulation in torch. An existing folder is replaced
    once the new one is complete; of several concurrent writers one complete result remains.

    Raises:
        ParityError: a form of the network is not the one that was trained.
        ExportError: the network cannot be exported.
        UserError: the folder cannot be written.
        ValueError: the network has another number of classes than class names.
    """
    subject = _describe(inputs.network.candidate)
    checkpoint = inputs.checkpoint
    origin = None if checkpoint is None else {"name": checkpoint.name, "sha256": sha256_of(checkpoint)}
    with replaced_folder(folder) as staging:
        onnx_file, parity = _export(inputs, staging / "model.onnx", subject)
        if not parity.passed:
            raise ParityError(
                f"{subject} is not exported: {parity.reason}. Choose another trial, or train this one again with a "
                "lower learning rate."
            )
        half, int8 = _half(inputs, onnx_file.path), _int8(inputs, onnx_file.path)
        write_network(staging / "model.pt", inputs.network)
        (staging / "study.yaml").write_text(inputs.config_yaml)
        write_preview(staging / "preview.png", OnnxSession(onnx_file.path), inputs)
        no_torch = write_board_files(staging, inputs.profile, inputs.runner)
        manifest = bundle_manifest(onnx_file, inputs, parity=parity.to_dict(), checkpoint=origin)
        manifest["ladder"] = ladder(parity, inputs, half, int8)
        manifest["torch_on_board"] = {"runs": no_torch is None, "reason": no_torch}
        manifest["measurements"] = _earlier_measurements(folder, inputs, origin)
        manifest["files"] = {path.name: _file_facts(path) for path in sorted(staging.iterdir())}
        for step in _earlier_engines(folder, manifest):
            manifest["ladder"] = with_engine(manifest["ladder"], step)
        _write_readme(staging, manifest)
        write_json(staging / MANIFEST, manifest)
        write_checksums(staging)
    return ExportBundle(folder, manifest)


def add_measurement(folder: Path, measurement: Mapping[str, Any]) -> ExportBundle:
    """Append a measurement (plain JSON: device, latency_ms_p50, ...) to the manifest atomically.

    Raises:
        UserError: the folder is not a readable bundle, or cannot be written.
        ValueError: ``measurement`` is not plain JSON.
    """
    json.dumps(measurement, allow_nan=False)
    return _changed(folder, lambda manifest: {"measurements": [*manifest["measurements"], dict(measurement)]})


def add_engine(folder: Path, step: Mapping[str, Any]) -> ExportBundle:
    """Store the ladder's step of an engine (`exports.bundle.ladder.engine_step`), in place of an earlier one of its device.

    Raises:
        UserError: the folder is not a readable bundle, or cannot be written.
        ValueError: ``step`` is not plain JSON.
    """
    json.dumps(step, allow_nan=False)
    return _changed(folder, lambda manifest: {"ladder": with_engine(manifest.get("ladder", []), step)})


def mark_superseded(folder: Path, by: Sequence[int] | None) -> ExportBundle:
    """Note in the manifest that a bundle's network left its study's front, or that it is a member again.

    Args:
        folder: the bundle.
        by: numbers of the trials that dominate it; None for a member of the front.

    Raises:
        UserError: the folder is not a readable bundle, or cannot be written.
    """
    since = datetime.now(UTC).isoformat(timespec="seconds")
    mark = None if by is None else {"by_trials": list(by), "since": since}
    return _changed(folder, lambda manifest: {"superseded": mark})


def _changed(folder: Path, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> ExportBundle:
    """Replace keys of a bundle's manifest atomically, with its README and checksums.

    Args:
        change: returns the new values by key for the manifest as it is.
    """
    read_manifest(folder)
    with locked_parent(folder), atomic_folder(folder) as staging:
        manifest = read_manifest(folder)
        manifest.update(change(manifest))
        shutil.copytree(folder, staging, copy_function=_link, dirs_exist_ok=True)
        _write_readme(staging, manifest)
        write_json(staging / MANIFEST, manifest)
        write_checksums(staging)
    return ExportBundle(folder, manifest)


def _write_readme(folder: Path, manifest: dict[str, Any]) -> None:
    """Render README.md again, and store its checksum in the manifest."""
    path = folder / "README.md"
    with atomic_path(path) as temporary:
        temporary.write_text(bundle_readme(manifest))
    manifest["files"] = {**manifest["files"], path.name: _file_facts(path)}


def _file_facts(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


def _link(source: str, target: str) -> str:
    """Hard-link a file, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _earlier_measurements(
    folder: Path, inputs: BundleInputs, checkpoint: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Measurements of the trial, and those in an earlier bundle of the same weights, oldest first."""
    found = [dict(item) for item in inputs.measurements]
    try:
        earlier = read_manifest(folder)
    except UserError:
        return found
    same = earlier["candidate"] == inputs.network.candidate.to_dict() and earlier.get("checkpoint") == checkpoint
    if same and checkpoint is not None:
        known = [item.get("started_at") for item in found]
        found = [item for item in earlier["measurements"] if item.get("started_at") not in known] + found
    return found


def _earlier_engines(folder: Path, manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Steps of engines that an earlier bundle of the same network holds."""
    try:
        earlier = read_manifest(folder)
    except UserError:
        return []
    kept = {ENGINE: "model.onnx", INT8_ENGINE: INT8_FILE}
    same = {step for step, file in kept.items() if earlier["files"].get(file) == manifest["files"].get(file)}
    return [step for step in engine_steps(earlier.get("ladder", [])) if step["step"] in same]


def _export(inputs: BundleInputs, path: Path, subject: str) -> tuple[OnnxFile, ParityReport]:
    network, opset = inputs.network, inputs.profile.opset
    if network.quantized is None:
        onnx_file = export_onnx(network.net, network.input_hw, path, opset=opset, subject=subject)
    else:
        onnx_file = export_quantized(network.quantized, path)
    classes, names = onnx_file.output_shape[1], len(network.class_names)
    if classes != names:
        raise ValueError(f"the network has {classes} classes, class_names {names}")
    if network.quantized is None:
        return onnx_file, check_parity(network.net, path, inputs.images, inputs.labels, network.ignore_index)
    return onnx_file, check_quantized(network.quantized, path, inputs.images, inputs.labels, network.ignore_index)


def _half(inputs: BundleInputs, onnx_path: Path) -> Half | str | ParityError | None:
    """Write ``model-fp16.onnx`` where the device has FP16 and the network is not in INT8; a network in FP32 may fail in FP16."""
    if inputs.network.quantized is not None or "fp16" not in inputs.profile.precisions:
        return None
    try:
        half = half_step(onnx_path, inputs)
    except ParityError as error:
        if inputs.network.precision == "fp16":
            raise
        return error
    if isinstance(half, Half):
        onnx_path.with_name("model-fp16.onnx").write_bytes(half.model.SerializeToString(deterministic=True))
    return half


def _int8(inputs: BundleInputs, onnx_path: Path) -> Int8 | str | None:
    """Write ``model-int8.onnx`` where the bundle has calibration images and the variant keeps its limits."""
    if inputs.calibration is None:
        return None
    step = int8_step(onnx_path, inputs)
    if isinstance(step, Int8) and step.parity.passed:
        onnx_path.with_name(INT8_FILE).write_bytes(step.model.SerializeToString(deterministic=True))
    return step


def _describe(candidate: Candidate) -> str:
    shape = ", ".join(str(candidate.params[key]) for key in ("family", "decoder") if key in candidate.params)
    return f"candidate {candidate.id}" + (f" ({shape})" if shape else "")
