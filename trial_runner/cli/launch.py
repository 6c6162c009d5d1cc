"""`paretoseg launch`: run a study, or resume it."""

from __future__ import annotations

import argparse
import shlex

from search_spaces._common.urls import redact_url
from trial_runner.cli.console import console, say
from trial_runner.cli.options import add_study, study_config
from trial_runner.study.paths import StudyPaths

HELP = "Run a study, or go on with it where it stopped."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.front.table import print_front
    from trial_runner.launch import launch as run_study, quiet_libraries

    config = study_config(arguments)
    quiet_libraries()
    result = run_study(config, say)
    outcomes = [
        "trained on" if record.parent_trial is not None and record.complete else record.outcome
        for record in result.records
    ]
    counts = {
        name: outcomes.count(name) for name in ("finished", "stopped", "refused", "failed", "reused", "trained on")
    }
    say(f"{result.why}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    print_front(result.front, config.device.latency_budget_ms, console(), result.objectives)
    paths = StudyPaths(config.study.output_dir)
    say(f"bundles:  {paths.bundle(0).parent}")
    say(f"table:    {paths.front_csv}")
    overrides = "".join(f" --set {shlex.quote(redact_url(override))}" for override in arguments.overrides)
    say(f"watch it: paretoseg dashboard {arguments.study}{overrides}")
    say(f"report:   {result.report.as_uri()}")
    return 0
