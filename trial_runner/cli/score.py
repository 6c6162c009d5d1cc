"""`paretoseg score`: run and judge a `solution.pyz` as the referee of the LPCVC 2023 does."""

from __future__ import annotations

import argparse
from pathlib import Path

from trial_runner.cli.console import print_error, say, say_json

HELP = "Run a solution.pyz as the referee of the LPCVC 2023 does, and print its Dice, time and score."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("solution", type=Path, metavar="SOLUTION.pyz")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of PNG images")
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR", help="folder of PNG labels, 512 x 512")
    parser.add_argument("--python", help="interpreter (default: python3.6 where it is on PATH, else this one)")
    parser.add_argument("--timeout-s", type=float, default=900.0, metavar="SECONDS", help="default: 900")
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.score import REFEREE_IMAGES, score_solution

    result = score_solution(
        arguments.solution,
        arguments.images,
        arguments.truth,
        python=arguments.python,
        timeout_s=arguments.timeout_s,
    )
    if arguments.json:
        say_json(result.to_dict())
        return 1 if result.problem else 0
    if result.dice is not None:
        say(f"Dice by image {result.dice:.4f} on {result.images} images")
    if result.seconds is not None:
        say(
            f"{result.seconds:.6f} s of the network, {result.seconds / result.images * 1e3:.3f} ms an image "
            f"({result.wall_s:.1f} s in all)"
        )
    if result.problem:
        print_error(f"paretoseg: the referee would give no score: {result.problem}")
        return 1
    if result.score is not None and result.referee_score is not None:
        say(f"score {result.score:.4g} with {result.images} images")
        say(f"score {result.referee_score:.4g} as the referee computes it, which divides by {REFEREE_IMAGES} images")
    return 0
