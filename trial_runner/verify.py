"""Verification of a bundle: checksums of its files, and its parity with torch on validation images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exports import ParityReport, check_parity, read_bundle
from exports.bundle.checksums import CHECKSUMS
from exports.onnx.parity import check_quantized
from objectives.data import decoded_parts
from objectives.data.base import Normalisation
from trial_runner.evaluate import open_network_and_data
from trial_runner.training.batches import normalise


@dataclass(frozen=True)
class Verification:
    """Result for a bundle whose files are unchanged.

    Attributes:
        files: number of verified files.
        manifest_covered: the manifest has a checksum, too; bundles of earlier releases have none.
        parity: agreement with torch; None where it was not wanted.
        superseded_since: time since which the network is no member of its study's front any more; None for a member.
    """

    files: int
    manifest_covered: bool
    parity: ParityReport | None
    superseded_since: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain JSON."""
        parity = None if self.parity is None else self.parity.to_dict()
        mark = {"superseded_since": self.superseded_since} if self.superseded_since else {}
        return {"files": self.files, "manifest_covered": self.manifest_covered, "parity": parity, **mark}


def verify_bundle(
    folder: Path,
    *,
    run: bool = False,
    images: int | None = None,
    root: Path | None = None,
    kind: str | None = None,
    run_code: bool = False,
) -> Verification:
    """Verify the checksums of all files and, on request, run the network.

    Args:
        folder: the bundle.
        run: compare the ONNX file with torch again.
        images: number of validation images; None: as many as at the export.
        root, kind, run_code: as of `trial_runner.evaluate.evaluate`.

    Raises:
        UserError: a file is missing, changed or not listed; or the data cannot be opened.
    """
    bundle = read_bundle(folder)
    parity = None
    if run:
        trained, data = open_network_and_data(folder, split="val", root=root, kind=kind, run_code=run_code)
        wanted = min(images or int(bundle.manifest["parity"]["images"]), len(data))
        pixels, labels = list[Any](), list[Any]()
        for part in decoded_parts(data, trained.input_hw):
            pixels += list(part.images)
            labels += list(part.labels)
            if len(pixels) >= wanted:
                break
        normalisation = Normalisation(trained.mean, trained.std)
        inputs = normalise(np.stack(pixels[:wanted]), torch.device("cpu"), normalisation).numpy()
        check = check_parity if trained.quantized is None else check_quantized
        net = trained.quantized or trained.net
        parity = check(net, bundle.onnx_path, inputs, labels[:wanted], trained.ignore_index)
    mark = bundle.manifest.get("superseded")
    since = str(mark.get("since")) if isinstance(mark, dict) else None
    return Verification(len(bundle.manifest["files"]), (folder / CHECKSUMS).exists(), parity, since)
