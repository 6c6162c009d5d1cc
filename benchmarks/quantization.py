"""Quantization: FP32 against INT8 by PTQ and QAT: mIoU, size, measured latency.

    python -m benchmarks.quantization --json OUT [--data CAMVID] [--weights FILE] [--families mobilenetv2 resnet10t] [--epochs 12]

Each network is trained twice from the same start for the same epochs: once in float, and once with simulated quantization in the
last fifth. PTQ quantizes the former. mIoU is that of the files under ONNX Runtime, on `val`, at the labels' own
resolution; latency is of one image on one core of this machine, the files of a network measured in turns. FP16, which this machine
does not run, is simulated: weights and activations rounded to half. Without --data: the built-in scenes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn

from benchmarks._camvid import weights_source
from exports import OnnxSession, export_onnx
from exports.onnx.parity import check_quantized
from exports.quantization.qdq import export_quantized
from exports.quantization.quantize import QuantizedNet, half_precision, quantize
from hw_latency_model import LocalCpuDevice
from hw_latency_model.agent.cores import available_cores
from hw_latency_model.local.measure import FRONT_SETTINGS
from hw_latency_model.local.protocol import ProtocolSettings
from objectives.data import ArraySplit, DatasetInfo
from search_spaces import open_space
from search_spaces._common.files import write_json
from search_spaces.candidate import Candidate
from search_spaces.spaces.encoder_decoder import parse_resolution
from trial_runner.config.study import StudyConfig
from trial_runner.front.export_job import quantized_net, trained_net
from trial_runner.training.batches import normalise
from trial_runner.training.evaluator import split_scores
from trial_runner.training.quantization import calibration_batches
from trial_runner.training.trial import load_splits, run_trial
from trial_runner.training.trial_spec import TrialSpec

LEARNING_RATE, WEIGHT_DECAY = 2e-3, 1e-3
_ROUNDS = 3
_QUICK = ProtocolSettings(min_runs=5, max_runs=20, max_s=0.1)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the CamVid folder (default: the built-in scenes)")
    parser.add_argument("--weights", default="none", help="of the encoders: a file, a folder, hub or none")
    parser.add_argument("--families", nargs="+", default=["mobilenetv2", "resnet10t", "mobilenetv3_small"])
    parser.add_argument("--decoder", default="fpn")
    parser.add_argument("--size", default="144x192", help="height x width of the network's input, multiples of 32")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, default=240, help="of the built-in scenes, to train on")
    parser.add_argument("--calibration-images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=available_cores(), help="of the training")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few timed runs: to see that it works")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for family in options.families:
            rows += run(family, options, Path(folder) / family)
    write_json(options.json, rows)
    show(rows)


def run(family: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The rows of one network."""
    spec = order(family, options, folder / "fp32", "fp32")
    run_trial(spec, lambda progress: False)
    rounding = order(family, options, folder / "qat", "int8")
    run_trial(rounding, lambda progress: False)
    torch.set_num_threads(1)
    hw = open_space(spec.config.space).input_hw(spec.candidate)
    info, train, val = load_splits(spec, hw)
    net = trained_net(spec, info.num_classes)
    batches = list(calibration_batches(train.images, options.calibration_images))
    qat = quantized_net(rounding)
    assert qat is not None
    files = {"FP32": folder / "fp32.onnx"}
    export_onnx(net, hw, files["FP32"])
    quantized = {f"PTQ {how}": quantize(net, hw, batches, calibration=how) for how in ("average", "minmax")}
    quantized["QAT"] = qat
    for method, each in quantized.items():
        files[method] = folder / f"{method.replace(' ', '-')}.onnx"
        export_quantized(each, files[method])
    latency_ms = measure(files, _QUICK if options.quick else FRONT_SETTINGS)
    rows = []
    for method, path in files.items():
        row = {
            "network": f"{family} ×1.0 + {options.decoder} {options.size}",
            "method": method,
            "miou": onnx_miou(path, info, val),
            "size_kb": path.stat().st_size / 1e3,
            "latency_ms": latency_ms[method],
        }
        rows.append({**row, **(facts(quantized[method], path, info, val) if method in quantized else {})})
    half = torch_miou(half_precision(net, hw), info, val)
    rows.append({"network": rows[0]["network"], "method": "FP16", "miou": half, "size_kb": rows[0]["size_kb"] / 2})
    for row in rows:
        row["epochs"] = options.epochs
        row["miou_change"] = row["miou"] - rows[0]["miou"]
        row["size_ratio"] = row["size_kb"] / rows[0]["size_kb"]
        row["speed_up"] = rows[0]["latency_ms"] / row["latency_ms"] if "latency_ms" in row else None
    shutil.rmtree(folder)
    return rows


def order(family: str, options: argparse.Namespace, folder: Path, precision: str) -> TrialSpec:
    """A trial that trains ``family`` for that precision."""
    weights = weights_source(options.weights)
    data = {"kind": "camvid", "root": options.data.resolve()} if options.data else {"kind": "synthetic"}
    if not options.data:
        data |= {"train_images": options.images, "val_images": max(options.images // 4, 4)}
    config = StudyConfig.model_validate(
        {
            "study": {"name": "quantization", "storage": "sqlite://", "output_dir": folder, "seed": options.seed},
            "data": data,
            "space": {"resolutions_px": [parse_resolution(options.size)]},
            "device": {"latency_model": folder / "unused.json", "latency_budget_ms": 1000, "precision": precision},
            "training": {
                "epochs": options.epochs,
                "weights": weights,
                "encoder_lr_multiplier": 1.0 if weights == "none" else 0.3,
                "quantization": {"method": "qat", "calibration_images": options.calibration_images},
                "device": "cpu",
            },
            "compute": {"threads_per_trial": options.threads},
        }
    )
    default = open_space(config.space).default()
    chosen = {
        "family": family,
        "decoder": options.decoder,
        "width": 1.0,
        "resolution": options.size,
        "prune_ratio": 0.0,
    }
    rates = {"learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}
    candidate = Candidate(default.space, default.space_version, {**default.params, **chosen, **rates})
    return TrialSpec(0, candidate, config, folder, folder.parent / "cache")


def measure(files: dict[str, Path], settings: ProtocolSettings) -> dict[str, float]:
    """Median latency of each file over rounds in which all take their turn, in milliseconds."""
    devices = {name: LocalCpuDevice(precision="fp32" if name == "FP32" else "int8") for name in files}
    found: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(_ROUNDS):
        for name, path in files.items():
            found[name].append(devices[name].measure(path, settings=settings).latency_ms_p50)
    return {name: statistics.median(values) for name, values in found.items()}


def onnx_miou(path: Path, info: DatasetInfo, val: ArraySplit) -> float:
    """mIoU of a file under ONNX Runtime."""
    session = OnnxSession(path)

    class Runtime(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(session.run(np.ascontiguousarray(images.numpy())))

    return torch_miou(Runtime(), info, val)


def torch_miou(net: nn.Module, info: DatasetInfo, val: ArraySplit) -> float:
    device = torch.device("cpu")
    return split_scores(net, val.images, val.labels, info.num_classes, info.ignore_index, device=device).matrix.miou()


def facts(net: QuantizedNet, path: Path, info: DatasetInfo, val: ArraySplit) -> dict[str, Any]:
    """Agreement of the file with the network that simulates its rounding."""
    count = min(len(val.images), 32)
    images = normalise(np.asarray(val.images[:count]), torch.device("cpu")).numpy()
    parity = check_quantized(net, path, images, [val.labels[index] for index in range(count)], info.ignore_index)
    return {
        "miou_simulated": torch_miou(net, info, val),
        "agreement": parity.argmax_agreement,
        "max_rel_error": parity.max_rel_error,
        "parity": parity.passed,
    }


def show(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'network':<36}{'method':<13}{'mIoU':>8}{'change':>9}{'simulated':>11}{'agree':>8}{'kB':>8}{'×':>6}{'ms':>8}{'speed-up':>10}"
    )
    for row in rows:
        simulated = f"{row['miou_simulated']:.4f}" if "miou_simulated" in row else "-"
        agreement = f"{row['agreement']:.2%}" if "agreement" in row else "-"
        timed = f"{row['latency_ms']:>8.2f}{row['speed_up']:>10.2f}" if "latency_ms" in row else f"{'-':>8}{'-':>10}"
        print(
            f"{row['network']:<36}{row['method']:<13}{row['miou']:>8.4f}{row['miou_change']:>+9.4f}{simulated:>11}{agreement:>8}"
            f"{row['size_kb']:>8.0f}{row['size_ratio']:>6.2f}{timed}"
        )


if __name__ == "__main__":
    main()
