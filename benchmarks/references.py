"""CamVid, from scratch: published networks against the search space's default network, in equal time.

    python -m benchmarks.references --data DIR --minutes M --json OUT [--size 160x224] [--out FOLDER]

The networks of the space `references` as published (U-Net at a quarter of its width, since the full one would train on a few
images only), and the default network of `encoder_decoder` dense and pruned by half. Each is trained for M minutes with all
cores, as many epochs as fit, by the same recipe and on the same input. mIoU is on `val` at the labels' own resolution,
latency of one image on one core under ONNX Runtime.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks._camvid import camvid_study, exported, measured_ms, train_for
from search_spaces import get_space
from search_spaces._common.files import write_json
from search_spaces.describe import network_name
from search_spaces.spaces.encoder_decoder import parse_resolution
from trial_runner.launch_checks import check_data

REFERENCES: dict[str, dict[str, Any]] = {"fast_scnn": {}, "ddrnet23_slim": {}, "pidnet_s": {}, "unet": {"width": 0.25}}
OURS: tuple[dict[str, Any], ...] = ({}, {"prune_ratio": 0.5})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the CamVid folder")
    parser.add_argument("--minutes", type=float, required=True, help="of training, for each network")
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/references"), help="folder for checkpoints and ONNX files"
    )
    parser.add_argument("--networks", nargs="+", choices=list(REFERENCES), default=list(REFERENCES))
    parser.add_argument("--size", default="160x224", help="height x width of the input, multiples of 32")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    chosen = [("references", {"family": name, **REFERENCES[name]}) for name in options.networks]
    for space, params in [*chosen, *(("encoder_decoder", params) for params in OURS)]:
        rows.append(train_one(options, space, params))
        write_json(options.json, rows)
    for row, ms in zip(rows, measured_ms([Path(row["onnx"]) for row in rows]), strict=True):
        row["measured_ms"] = ms
    write_json(options.json, rows)
    print_table(rows)


def train_one(options: argparse.Namespace, space_name: str, params: dict[str, Any]) -> dict[str, Any]:
    """One network's row, but for its latency."""
    choices = {"widths": [params.get("width", 1.0)], "prune_ratios": [params.get("prune_ratio", 0.0)]}
    config = camvid_study(
        options.data,
        options.out,
        {},
        sizes_px=[parse_resolution(options.size)],
        threads=1,
        seed=options.seed,
        space={"name": space_name, **choices},
    )
    space = get_space(space_name, config.space.arguments())
    candidate = space.candidate({**space.default().params, **params})
    label = network_name(candidate.params)
    if candidate.params["prune_ratio"]:
        label += f" pruned {candidate.params['prune_ratio']}"
    print(f"\n{label}: {options.minutes:g} minutes", flush=True)
    folder = options.out / candidate.id
    order, readings = train_for(config, candidate, options.minutes, folder)
    score = readings[-1].score
    return {
        "network": label,
        "space": space_name,
        "epochs": order.epochs,
        "val_miou": score.val_miou,
        "macs": score.macs,
        "params": score.params,
        "train_s": score.train_s,
        "curve": [list(point) for point in readings[-1].curve],
        "onnx": str(exported(order, len(check_data(config).class_names), folder / "model.onnx")),
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    base = rows[-2]
    print(f"\n{'network':<36}{'epochs':>7}{'mIoU':>8}{'MMACs':>8}{'kparams':>9}{'ms':>8}{'/ default':>11}")
    for row in rows:
        print(
            f"{row['network']:<36}{row['epochs']:>7}{row['val_miou']:>8.3f}{row['macs'] / 1e6:>8.0f}{row['params'] / 1e3:>9.0f}"
            f"{row['measured_ms']:>8.2f}{row['measured_ms'] / base['measured_ms']:>11.2f}"
        )


if __name__ == "__main__":
    main()
