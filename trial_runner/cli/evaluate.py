"""`paretoseg evaluate`: score an exported network."""

from __future__ import annotations

import argparse
from pathlib import Path

from trial_runner.cli.console import say, say_json

HELP = "Score an exported network on a split, outside its study."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("network", type=Path, metavar="BUNDLE|FILE.pt", help="a bundle's folder, or a network file")
    parser.add_argument("--data", type=Path, help="folder of the data (default: the study's)")
    parser.add_argument("--kind", help="kind of the data, e.g. camvid (default: the study's)")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--robust", action="store_true", help="score corrupted images as well")
    parser.add_argument(
        "--run-code", action="store_true", help="import the code, module:name, that the bundle reads its data with"
    )
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.evaluate import evaluate as run_evaluation

    result = run_evaluation(
        arguments.network,
        split=arguments.split,
        root=arguments.data,
        kind=arguments.kind,
        robust=arguments.robust,
        run_code=arguments.run_code,
    )
    if arguments.json:
        say_json(result.to_dict())
        return 0
    for name, iou in result.class_iou.items():
        say(f"{name:<24} {'absent' if iou is None else format(iou, '.3f')}")
    say(
        f"mIoU {result.miou:.4f}, Dice by image {result.dice:.4f}, pixel accuracy {result.pixel_accuracy:.4f} "
        f"on {result.images} images of {result.data} {result.split}"
        + ("" if result.lpcvc_score is None else f", LPCVC score {result.lpcvc_score:.4g}")
    )
    for name, miou in (result.corruption_miou or {}).items():
        say(f"{name:<24} {miou:.3f}")
    if result.robust_miou is not None:
        say(f"mIoU on corrupted images {result.robust_miou:.4f}")
    return 0
