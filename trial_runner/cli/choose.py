"""`paretoseg choose`: name the network to deploy."""

from __future__ import annotations

import argparse
import math

from trial_runner.cli.console import say, say_json
from trial_runner.cli.options import add_study, add_target, study_config
from trial_runner.study.paths import StudyPaths

HELP = "Name the network to deploy: the most accurate one that keeps a latency budget."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    add_study(parser)
    add_target(parser)
    parser.add_argument("--budget-ms", type=float, help="latency budget (default: the study's)")
    parser.add_argument(
        "--probability", type=float, default=0.9, help="least probability that it keeps the budget (default: 0.9)"
    )
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from search_spaces._common.errors import UserError
    from search_spaces.describe import network_name
    from trial_runner.front.choose import budget_probability, choose, mark_chosen
    from trial_runner.front.report import write_study_report
    from trial_runner.front.targets import target_view
    from trial_runner.study.objectives import open_configured

    config = study_config(arguments)
    study = open_configured(config)
    view = target_view(config, study, arguments.target)
    records = view.records
    budget_ms = view.budget_ms if arguments.budget_ms is None else arguments.budget_ms
    if math.isinf(budget_ms):
        raise UserError(
            f"the target {view.target or config.device.name} has no latency budget in the study. Give one with --budget-ms."
        )
    if not budget_ms > 0 or not 0 < arguments.probability <= 1:
        raise UserError(
            f"a budget is above 0 ms and a probability between 0 and 1, not {budget_ms:g} and {arguments.probability:g}."
        )
    choice = choose(records, budget_ms, arguments.probability)
    if choice is None:
        chances = [budget_probability(record, budget_ms) for record in records if record.complete]
        best = max((chance for chance in chances if chance is not None), default=None)
        known = (
            "no trained network has a latency" if best is None else f"the highest of a trained network is {best:.2f}"
        )
        raise UserError(
            f"no network keeps {budget_ms:g} ms with a probability of {arguments.probability:g}: {known}. Raise --budget-ms, lower "
            "--probability, or search on."
        )
    mark_chosen(study, records, choice, budget_ms, view.target)
    write_study_report(config, study, StudyPaths(config.study.output_dir))
    record = choice.record
    if arguments.json:
        estimate = record.estimate
        say_json(
            {
                "trial": record.number,
                **({"target": view.target} if view.target else {}),
                "budget_ms": budget_ms,
                "probability": choice.probability,
                "val_miou": record.val_miou,
                "latency_ms": record.latency_ms,
                "low_ms": estimate.low_ms if estimate else None,
                "high_ms": estimate.high_ms if estimate else None,
                "measured_ms": record.measured_ms,
                "bundle": record.bundle,
            }
        )
        return 0
    place = f" on {view.target}" if view.target else ""
    say(f"trial {record.number}: {network_name(record.params)}, mIoU {record.val_miou:.4f}")
    if record.measured_ms is not None:
        say(f"measured {record.measured_ms:.3g} ms, within {budget_ms:g} ms")
    elif record.estimate is not None:
        estimate = record.estimate
        say(
            f"predicted {estimate.latency_ms:.3g} ms{place}, {estimate.level:.0%} interval {estimate.low_ms:.3g} to "
            f"{estimate.high_ms:.3g} ms: keeps {budget_ms:g} ms with probability {choice.probability:.2f}"
        )
    say(record.bundle or f"not exported yet: paretoseg export {arguments.study} --trial {record.number}")
    return 0
