"""Reading a bundle: its manifest, its networks, and the check that the folder is complete and unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from exports.bundle.checksums import CHECKSUMS, TOLERATED, changed_checksums, sha256_of
from exports.bundle.lock import locked_parent
from exports.network_file import read_network
from search_spaces._common.errors import UserError
from search_spaces._common.untrusted import parse_json, read_bounded
from search_spaces.candidate import Candidate

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
_MOST_MB = 64
_MOST_SIDE = 65536
_MOST_FILE_BYTES = 16_000_000_000

_KEYS = ("candidate", "profile", "input", "output", "classes", "parity", "lint", "facts", "files", "measurements")


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
        """The network: batch 1, static shape, logits at the output's resolution."""
        return self.dir / "model.onnx"

    @property
    def checkpoint_path(self) -> Path:
        """The network in torch, for ``load_network``."""
        return self.dir / "model.pt"

    @property
    def preview_path(self) -> Path:
        """A validation image beside its label and prediction."""
        return self.dir / "preview.png"

    @property
    def candidate(self) -> Candidate:
        """The exported candidate."""
        return Candidate.from_dict(self.manifest["candidate"])

    @property
    def input_hw(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.manifest["input"]["height_px"], self.manifest["input"]["width_px"]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by class id."""
        return tuple(self.manifest["classes"]["names"])

    @property
    def measurements(self) -> tuple[Mapping[str, Any], ...]:
        """Measurements added by ``add_measurement``, oldest first."""
        return tuple(self.manifest["measurements"])


def read_bundle(folder: Path) -> ExportBundle:
    """Open a bundle and verify its schema version, and that its files are complete and unchanged.

    Engines in its folder (``*.plan``, ``*.engine``, ``*.cache``) and hidden files are ignored.

    Raises:
        UserError: it is not a valid bundle; the message names the folder or file.
    """
    manifest = read_manifest(folder)
    with locked_parent(folder, shared=True):
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
    return ExportBundle(folder, manifest)


def load_network(bundle: ExportBundle) -> nn.Module:
    """Load the trained torch network of a bundle, on the CPU, in evaluation mode, for fine-tuning or another export.

    Raises:
        UserError: the search space of the candidate is unknown or has another version.
    """
    return read_network(bundle.checkpoint_path).net


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a bundle and check its schema.

    Raises:
        UserError: the folder or manifest is missing, the manifest is not JSON, has a newer schema, or lacks a key.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise UserError(f"there is no bundle at {folder}. Give the folder that holds {MANIFEST}, or export the trial.")
    try:
        manifest = parse_json(read_bounded(path, "a manifest", _MOST_MB))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not an export bundle: it has no {MANIFEST}. Give the folder that holds it, "
            "or export the trial again."
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}. Make it readable, then try again.") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}). Export the trial again.") from error
    found = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(found, int) or isinstance(found, bool):
        raise UserError(f"{path} is not a manifest of ours: it has no schema_version. Export the trial again.")
    if found > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {found}, this paretoseg reads up to {SCHEMA_VERSION}. "
            "Upgrade paretoseg, or export the trial again with this version."
        )
    missing = [key for key in _KEYS if key not in manifest]
    if missing:
        raise UserError(f"{path} is damaged: it lacks {', '.join(missing)}. Export the trial again.")
    misfit = _misfit(manifest)
    if misfit:
        raise UserError(f"{path} is damaged: {misfit} is not what an export writes. Export the trial again.")
    return dict(manifest)


def _misfit(manifest: Mapping[str, Any]) -> str | None:
    """Return the key of a manifest whose value has another form than an export's; None where all fit."""
    objects = ("candidate", "profile", "input", "output", "classes", "parity", "lint", "facts", "files")
    wrong = next((key for key in objects if not isinstance(manifest[key], dict)), None)
    if wrong:
        return wrong
    sides = [manifest["input"].get(key) for key in ("height_px", "width_px")]
    if any(not _is_count(side, _MOST_SIDE) or side == 0 for side in sides):
        return "input"
    names = manifest["classes"].get("names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return "classes"
    measurements = manifest["measurements"]
    if not isinstance(measurements, list) or not all(isinstance(item, dict) for item in measurements):
        return "measurements"
    if not all(_is_positive(item["latency_ms_p50"]) for item in measurements if "latency_ms_p50" in item):
        return "measurements"
    mark = manifest.get("superseded")
    if mark is not None and not (
        isinstance(mark, dict)
        and isinstance(mark.get("since"), str)
        and isinstance(mark.get("by_trials"), list)
        and all(map(_is_count, mark["by_trials"]))
    ):
        return "superseded"
    predicted = manifest["facts"].get("latency_ms")
    if predicted is not None and not _is_positive(predicted):
        return "facts"
    targets = manifest["facts"].get("targets") or {}
    if not isinstance(targets, dict) or not all(map(_is_estimate, targets.values())):
        return "facts"
    for entry in manifest["files"].values():
        if (
            not isinstance(entry, dict)
            or not _is_count(entry.get("bytes"), _MOST_FILE_BYTES)
            or not isinstance(entry.get("sha256"), str)
        ):
            return "files"
    try:
        Candidate.from_dict(manifest["candidate"])
    except (KeyError, TypeError, ValueError):
        return "candidate"
    return None


def _is_estimate(value: object) -> bool:
    """True for latencies by key, each a number above 0 or None."""
    return isinstance(value, dict) and all(item is None or _is_positive(item) for item in value.values())


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_count(value: object, most: int = 2**63) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def verify_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare the folder's files with the checksums in the manifest.

    Raises:
        UserError: a file is missing, changed, or not listed; the message names the first one. Bundles of earlier releases have no
            checksum of the manifest itself.
    """
    listed: Mapping[str, Any] = manifest["files"]
    for name, entry in listed.items():
        if Path(name).name != name or "\0" in name:
            raise UserError(f'{folder / MANIFEST} lists "{name}", which lies outside the bundle. Do not use it.')
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing from the bundle. Copy the whole folder, or export the trial again.")
        if path.stat().st_size != entry["bytes"] or sha256_of(path) != entry["sha256"]:
            raise UserError(
                f"{path} is not the file that was exported: its checksum differs. "
                "Copy the folder again, or export the trial again."
            )
    extra = sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in listed
        and path.name not in (MANIFEST, CHECKSUMS)
        and not path.name.startswith(".")
        and path.suffix not in TOLERATED
    )
    if extra:
        raise UserError(f"{folder / extra[0]} does not belong to the bundle. Move it elsewhere, then try again.")
    if changed_checksums(folder):
        raise UserError(
            f"{folder / MANIFEST} or {CHECKSUMS} is not the file that was exported: the checksum differs. "
            "Copy the folder again, or export the trial again."
        )
