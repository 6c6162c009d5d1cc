"""Export of a random sample of all search spaces: lint for every profile, parity in FP32 and FP16, and the graph in torch.

    python -m benchmarks.exports --json OUT [--candidates 120] [--images 4]

Run again with the same OUT, it measures those networks of the sample that OUT lacks.

The networks have random weights and batch norm statistics of synthetic scenes, whose labels the gates compare with. Networks that are not
trained decide by smaller margins than trained ones: the share of equal pixels is the sharper figure.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
import torch

from exports import PROFILES, BundleInputs, ExportError, TrainedNetwork, check_parity, export_onnx, lint_onnx
from exports.bundle.fp16 import half_step
from exports.bundle.plain_network import plain_network
from exports.onnx.parity import LabelArray, run_torch, upsampled_classes
from exports.onnx.runtime import FloatArray
from hw_latency_model.onboard.network_data import read_network_data
from hw_latency_model.onboard.torch_network import TorchNetwork
from objectives.data import decoded_parts, open_dataset
from search_spaces import Candidate, SearchSpace, get_space
from search_spaces._common.files import write_json
from search_spaces._common.palette import spread_palette
from search_spaces.networks.decoder_specs import DECODERS
from trial_runner.training.batches import normalise

CLASSES = 14
SIZES = [[128, 128], [128, 192]]
SPACES: dict[str, dict[str, Any]] = {
    "encoder_decoder": {
        "resolutions_px": SIZES,
        "decoders": list(DECODERS),
        "depths": [0.5, 1.0],
        "output_strides": [8, 16, 32],
        "upsamplings": ["bilinear", "transposed"],
        "prune_ratios": [0.0, 0.25, 0.5],
    },
    "mobile_stages": {"resolutions_px": SIZES, "decoders": list(DECODERS), "prune_ratios": [0.0, 0.5]},
    "references": {"resolutions_px": SIZES, "widths": [0.5, 1.0], "prune_ratios": [0.0]},
}
SHARES = {"encoder_decoder": 0.6, "mobile_stages": 0.3, "references": 0.1}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument("--candidates", type=int, default=120)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = json.loads(options.json.read_text())["rows"] if options.json.is_file() else list[dict[str, Any]]()
    known = {row["number"] for row in rows}
    for number, (space, candidate) in enumerate(sample(options.candidates, options.seed)):
        if number not in known:
            rows.append({"number": number} | measure(space, candidate, options.images, number))
            write_json(options.json, {"rows": rows})
    table(rows)


def sample(count: int, seed: int) -> Iterator[tuple[SearchSpace, Candidate]]:
    """Candidates of all spaces in their shares, the spaces in turns; the same ones first whatever ``count`` is."""
    spaces = {name: get_space(name, SPACES[name]) for name in SHARES}
    rngs = {name: np.random.default_rng([seed, index]) for index, name in enumerate(SHARES)}
    drawn = dict.fromkeys(SHARES, 0)
    for number in range(1, count + 1):
        name = max(SHARES, key=lambda each: SHARES[each] * number - drawn[each])
        drawn[name] += 1
        yield spaces[name], spaces[name].sample(rngs[name])


def table(rows: Sequence[dict[str, Any]]) -> None:
    """Print one line for each space, and the failures."""
    print(
        f"{'space':<18}{'networks':>9}{'passed':>8}{'s':>7}{'nodes':>7}{'lint ms':>9}{'FP16 points':>13}{'torch alike':>13}"
    )
    for name in SHARES:
        found = [row for row in rows if row["space"] == name]
        good = [row for row in found if row["failed"] is None]
        if good:
            print(
                f"{name:<18}{len(found):>9}{len(good):>8}"
                + "".join(
                    f"{statistics.median(row[key] for row in good):>{width}.{digits}f}"
                    for key, width, digits in (("export_s", 7, 2), ("nodes", 7, 0), ("lint_ms", 9, 1))
                )
                + f"{min(row['fp16_miou_delta'] for row in good) * 100:>13.3f}"
                + f"{min(row['torch_agreement'] for row in good):>13.5f}"
            )
    for row in rows:
        if row["failed"]:
            print(f"failed: {row['space']} {row['params']}: {row['failed']}")


def scenes(count: int, hw: tuple[int, int], seed: int) -> tuple[FloatArray, list[LabelArray]]:
    """Normalised images (count, 3, height, width) and labels of synthetic scenes."""
    data = open_dataset("synthetic", root=None, split="val", images=count, seed=seed, height_px=hw[0], width_px=hw[1])
    images, labels = list[Any](), list[LabelArray]()
    for part in decoded_parts(data, hw):
        images += list(part.images)
        labels += list(part.labels)
    return normalise(np.stack(images), torch.device("cpu")).numpy(), labels


def measure(space: SearchSpace, candidate: Candidate, count: int, seed: int) -> dict[str, Any]:
    """Export one candidate and check each step; ``failed`` names the step that did not pass."""
    torch.manual_seed(seed)
    hw = space.input_hw(candidate)
    net = space.build_pruned(candidate, CLASSES)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.from_numpy(scenes(4, hw, seed)[0]))
    net.eval()
    images, labels = scenes(count, hw, seed + 1)
    row: dict[str, Any] = {"space": candidate.space, "params": dict(candidate.params), "failed": None}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        begin = time.perf_counter()
        try:
            file = export_onnx(net, hw, path)
            row["export_s"] = time.perf_counter() - begin
            model = onnx.load(str(path))
            row["nodes"], row["macs"] = len(model.graph.node), file.macs
            begin = time.perf_counter()
            errors = {
                profile.name: [finding.message for finding in lint_onnx(path, profile) if finding.severity == "error"]
                for profile in PROFILES.values()
                if profile.opset >= file.opset
            }
            row["lint_ms"] = (time.perf_counter() - begin) / len(errors) * 1e3
            row["lint_errors"] = {name: found for name, found in errors.items() if found}
            logits = run_torch(net, images)
            own = [upsampled_classes(item[None], hw) for item in logits]
            fp32 = check_parity(net, path, images, labels)
            row["fp32_agreement"], row["fp32_miou_delta"] = (
                fp32.argmax_agreement,
                _delta(fp32.miou_onnx, fp32.miou_torch),
            )
            trained = TrainedNetwork(net, candidate, hw, tuple(map(str, range(CLASSES))), 255, (0.0,) * 3, (1.0,) * 3)
            inputs = BundleInputs(trained, spread_palette(CLASSES), images, labels, PROFILES["jetson-nano"], {}, "")
            half = half_step(path, inputs)
            if isinstance(half, str):
                raise ExportError(half)
            row["fp16_agreement"], row["kept_in_fp32"] = half.parity.argmax_agreement, list(half.kept)
            row["fp16_miou_delta"] = _delta(half.parity.miou_onnx, half.parity.miou_torch)
            plain = plain_network(model)
            files = {"graph.json": plain.graph_json(), "weights.safetensors": plain.weights()}
            found, _ = TorchNetwork(read_network_data(files.__getitem__)).run(images)
            same = [(upsampled_classes(item[None], hw) == label).mean() for item, label in zip(found, own, strict=True)]
            row["torch_agreement"] = float(np.mean(same))
            if not fp32.passed or row["lint_errors"] or row["torch_agreement"] < 0.999:
                row["failed"] = (
                    fp32.reason if not fp32.passed else f"{row['lint_errors']}, torch {row['torch_agreement']}"
                )
        except ExportError as error:
            row["failed"] = str(error)
    return row


def _delta(one: float | None, other: float | None) -> float:
    return 0.0 if one is None or other is None else one - other


if __name__ == "__main__":
    main()
