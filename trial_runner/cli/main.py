"""The command `paretoseg`: its parser and its exit statuses. Each module of this package is one command.

A command has ``HELP``, ``add_arguments(parser)`` and ``run(arguments) -> int``; it imports what is slow to import in ``run``.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from search_spaces._common.errors import UserError
from trial_runner.cli import (
    build,
    calibrate,
    choose,
    compare,
    completion,
    copy,
    dashboard,
    delete,
    doctor,
    editors,
    evaluate,
    export,
    fit_latency,
    front,
    init,
    latency_report,
    launch,
    measure,
    measurements,
    predict,
    refit,
    report,
    rescore,
    score,
    solution,
    status,
    stop,
    trial,
    trials,
    verify,
)
from trial_runner.cli.parser import Parser
from trial_runner.stopping import StoppedAtOnceError, stoppable


class Command(Protocol):
    """A module of this package."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


COMMANDS: Mapping[str, Command] = {
    "init": init,
    "doctor": doctor,
    "calibrate": calibrate,
    "launch": launch,
    "status": status,
    "stop": stop,
    "dashboard": dashboard,
    "predict": predict,
    "latency-report": latency_report,
    "fit-latency": fit_latency,
    "measurements": measurements,
    "front": front,
    "choose": choose,
    "trials": trials,
    "trial": trial,
    "compare": compare,
    "rescore": rescore,
    "measure": measure,
    "build": build,
    "export": export,
    "solution": solution,
    "score": score,
    "verify": verify,
    "evaluate": evaluate,
    "refit": refit,
    "report": report,
    "copy": copy,
    "delete": delete,
    "schema": editors,
    "completion": completion,
}


class _Version(argparse.Action):
    """Print the installed version; it is looked up only when it is wanted."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"paretoseg {version('paretoseg')}")
        except PackageNotFoundError:
            print("paretoseg, not installed as a package")
        parser.exit()


def build_parser() -> Parser:
    """Return the parser of all commands."""
    parser = Parser(
        prog="paretoseg",
        description="Search for segmentation networks that are accurate and fast on one real, small device.",
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.HELP, description=command.HELP))
    parser.set_defaults(parser=parser)  # for the command that completes it
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status.

    0 for success, 1 for a check that failed, 2 for bad input, 3 for a database that stays away, 130 after Ctrl-C, SIGTERM or SIGHUP.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no × gets a question mark, not a traceback
    arguments = build_parser().parse_args(argv)
    # One thread a slot: two fight for the cores of a small machine and lose (docs/decisions.md).
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        with stoppable(ends_process=True):
            return COMMANDS[arguments.command].run(arguments)
    except UserError as error:
        print(f"paretoseg: {error}", file=sys.stderr, flush=True)
        if error.exit_at_once:
            sys.stdout.flush()
            os._exit(error.exit_status)
        return error.exit_status
    except KeyboardInterrupt as interrupt:
        print("paretoseg: stopped. Nothing is lost; run the same command again to go on.", file=sys.stderr, flush=True)
        if isinstance(interrupt, StoppedAtOnceError):
            sys.stdout.flush()
            os._exit(130)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
