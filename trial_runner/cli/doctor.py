"""`paretoseg doctor`: check the installation and a study."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from trial_runner.cli.console import say, say_json
from trial_runner.cli.options import add_study, study_config

HELP = "Check this machine, and a study's data, storage and latency model where a YAML is given."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser, optional=True)
    parser.add_argument("--json", action="store_true", help="a list of objects instead of lines")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.doctor import examine

    findings = examine(study_config(arguments) if arguments.study else None)
    failed = sum(finding.verdict == "FAIL" for finding in findings)
    if arguments.json:
        say_json([asdict(finding) for finding in findings])
        return 1 if failed else 0
    for finding in findings:
        say(f"{finding.verdict:<5} {finding.subject}: {finding.text}")
    say("all is well" if not failed else f"{failed} to put right before a launch")
    return 1 if failed else 0
