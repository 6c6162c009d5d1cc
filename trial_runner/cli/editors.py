"""`paretoseg schema`: the JSON schema of a study's YAML."""

from __future__ import annotations

import argparse

from trial_runner.cli.console import say_json

HELP = "Print the JSON schema of a study's YAML, for editors."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from trial_runner.config.editors import study_schema

    say_json(study_schema())
    return 0
