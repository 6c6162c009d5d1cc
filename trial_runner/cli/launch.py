"""`paretoseg launch`: run a study, or resume it."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from search_spaces._common.errors import UserError
from search_spaces._common.urls import redact_url
from trial_runner.cli.console import console, say
from trial_runner.cli.launch_output import LaunchOutput
from trial_runner.cli.options import add_study
from trial_runner.study.paths import StudyPaths

if TYPE_CHECKING:
    from trial_runner.config.study import StudyConfig

HELP = "Run a study, or go on with it where it stopped."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    parser.add_argument(
        "--cluster",
        metavar="KIND",
        help="where it runs: slurm or pbs (as a job), local, ray://HOST:PORT, or a YAML file with a section cluster",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the job script and submit nothing")
    parser.add_argument(
        "--interactive", action="store_true", help="print the command that opens a shell on the job's resources instead"
    )
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="json: one object a line (default: %(default)s)"
    )
    parser.add_argument("--detach", action="store_true", help="submit the job and return at once")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.cluster.choice import cluster_overrides
    from trial_runner.config.load import load_config

    overrides = [*cluster_overrides(arguments.cluster), *arguments.overrides]
    config = load_config(arguments.study, overrides)
    if config.cluster.kind != "local":
        return _run_as_job(config, arguments, overrides)
    if arguments.dry_run or arguments.interactive or arguments.detach:
        raise UserError("--dry-run, --interactive and --detach are for a job. Add --cluster slurm or --cluster pbs.")
    return _run_here(config, arguments)


def _run_as_job(config: StudyConfig, arguments: argparse.Namespace, overrides: list[str]) -> int:
    from trial_runner.cluster.batch_systems import BATCH_SYSTEMS
    from trial_runner.cluster.job_script import job_script
    from trial_runner.cluster.submit import follow, submit

    if arguments.interactive:
        say(BATCH_SYSTEMS[config.cluster.kind].interactive(config.cluster, config.study.name))
        return 0
    if arguments.dry_run:
        say(job_script(config, arguments.study, overrides).rstrip("\n"))
        return 0
    job = submit(config, arguments.study, overrides)
    say(f"job {job.job_id} is submitted; Ctrl-C ends this display and not the job")
    return 0 if arguments.detach else follow(config, job, say)


def _run_here(config: StudyConfig, arguments: argparse.Namespace) -> int:
    from trial_runner.front.table import print_front
    from trial_runner.launch import launch as run_study, quiet_libraries

    quiet_libraries()
    paths = StudyPaths(config.study.output_dir)
    output = LaunchOutput(paths.launch_log, as_json=arguments.log_format == "json")
    result = run_study(config, output.say, output.following)
    outcomes = [
        "trained on" if record.parent_trial is not None and record.complete else record.outcome
        for record in result.records
    ]
    counts = {
        name: outcomes.count(name) for name in ("finished", "stopped", "refused", "failed", "reused", "trained on")
    }
    output.say(f"{result.why}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count))
    if arguments.log_format == "json":
        output.say(f"report: {result.report.as_uri()}")
        return 0
    print_front(result.front, config.device.latency_budget_ms, console(), result.objectives)
    say(f"bundles:  {paths.bundle(0).parent}")
    say(f"table:    {paths.front_csv}")
    overrides = "".join(f" --set {shlex.quote(redact_url(override))}" for override in arguments.overrides)
    say(f"watch it: paretoseg dashboard {arguments.study}{overrides}")
    say(f"report:   {result.report.as_uri()}")
    return 0
