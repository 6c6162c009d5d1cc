"""`paretoseg init`: write a study's YAML for a folder of images and labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from trial_runner.cli.console import say

HELP = "Write a study's YAML for a folder of images and labels."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("data", type=Path, metavar="DATA", help="the folder of images and labels")
    parser.add_argument(
        "--device",
        default="local-cpu",
        metavar="NAME|DEVICE.yaml",
        help="device that the networks are for: a profile's name, or a board (default: %(default)s)",
    )
    parser.add_argument(
        "--budget-ms", type=float, help="latency budget on the device (default: 33, 30 images a second)"
    )
    parser.add_argument("--out", type=Path, default=Path("study.yaml"), help="file to write (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.onboarding.study_file import write_study_file

    written = write_study_file(arguments.data, arguments.out, device=arguments.device, budget_ms=arguments.budget_ms)
    for note in written.notes:
        say(note)
    say(f"written: {written.path}")
    first, *later = written.commands
    say(f"next:    {first}")
    for command in later:
        say(f"then:    {command}")
    return 0
