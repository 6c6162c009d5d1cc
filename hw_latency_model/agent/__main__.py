"""Command line of the agent.

    python3 paretoseg_agent.pyz check                       describe the board (JSON)
    python3 paretoseg_agent.pyz run --jobs jobs.json --results results.jsonl --work DIR
    python3 paretoseg_agent.pyz restore                     restore the clocks after a crash

``run`` locks the clocks where it may, measures one job after the other, each in child processes, appends each result at
once and restores the clocks in any case. Started again with the same files it resumes: measured networks are not measured
again, built engines are not built again.

Exit codes: 0 every job has a result; 2 the user has to correct something (named on stderr); 3 stopped early (signal, full
disk): run the same command again.
"""

import argparse
import fcntl
import json
import sys
from pathlib import Path
from typing import Sequence

from .backends import BACKENDS
from .child import child_main
from .clocks import Clocks
from .console import say
from .errors import EXIT_DONE, EXIT_RESUMABLE, EXIT_USER, StopEarly, UserMistake, is_disk_full
from .facts import board_facts
from .jobs import JobList
from .parsers import parse_jetson_clocks_show, parse_tegrastats
from .process import StopFlag, run_child
from .results import ResultsFile
from .session import Session
from .tree import Tree


def command_run(options: argparse.Namespace) -> int:
    """Measure a job list; one agent at a time per work folder.

    Raises:
        UserMistake: another agent is running, or an input is invalid.
    """
    jobs = JobList(Path(options.jobs))
    work, results = Path(options.work), Path(options.results)
    for folder in (work, results.resolve().parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserMistake(f"the folder {folder} cannot be made: {error}") from error
    with (work / "agent.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserMistake(f"another agent is at work in {work}; wait for it or stop it") from None
        session = Session(jobs, ResultsFile(results), work.resolve(), Tree(options.root), options.retry_failures)
        return session.run()


def command_check(options: argparse.Namespace) -> int:
    """Print the board's description and its usable backends as JSON."""
    tree = Tree(options.root)
    facts = board_facts(tree)
    seen = parse_tegrastats(tree.run("tegrastats", "--interval", "200", timeout_s=2).text)
    facts["tegrastats"] = seen[-1] if seen else None
    if tree.may_change():
        facts["jetson_clocks"] = parse_jetson_clocks_show(tree.run("jetson_clocks", "--show", as_root=True).text)
    facts["backends"] = {}
    for name in BACKENDS:
        answer = run_child("probe", {"backend": name, "root": options.root}, 300, StopFlag())
        value = answer.value or {"reason": answer.crash}
        facts["backends"][name] = value.get("version") if value.get("ok") else "not here: " + str(value["reason"])[:300]
    say(json.dumps(facts, indent=2, sort_keys=True))
    return EXIT_DONE


def command_restore(options: argparse.Namespace) -> int:
    """Restore clocks that a crashed run left locked.

    Raises:
        UserMistake: they cannot be restored.
    """
    clocks = Clocks(Tree(options.root))
    if not clocks.folder.is_symlink() and not clocks.state_path.exists():
        say("nothing to give back: no run left the clocks locked")
        return EXIT_DONE
    problem = clocks.restore()
    if problem:
        raise UserMistake(f"the clocks could not be given back: {problem}; run it as root, or reboot")
    say("the clocks are as they were before the run")
    return EXIT_DONE


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exits with status 2 on a usage error."""
    parser = argparse.ArgumentParser(description="Measures networks on this device for paretoseg.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    run = commands.add_parser("run", help="measure a job list, or go on with it")
    run.add_argument("--jobs", required=True, help="jobs.json")
    run.add_argument("--results", required=True, help="results.jsonl, appended to")
    run.add_argument("--work", required=True, help="folder for engines and the timing cache")
    run.add_argument("--retry-failures", action="store_true", help="try again what failed in an earlier run")
    check = commands.add_parser("check", help="print what board this is, as JSON")
    restore = commands.add_parser("restore", help="give the clocks back after a crash")
    for command, action in ((run, command_run), (check, command_check), (restore, command_restore)):
        command.add_argument("--root", default="/", help="another root of /sys, /proc and the board's commands")
        command.set_defaults(action=action)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code."""
    if arguments and arguments[0] == "_child":
        child_main(arguments[1], int(arguments[2]), int(arguments[3]))
    options = parse_arguments(arguments)
    try:
        return int(options.action(options))
    except UserMistake as mistake:
        say(str(mistake), sys.stderr)
    except StopEarly as stop:
        say(f"{stop}; run the same command again to go on", sys.stderr)
        return EXIT_RESUMABLE
    except OSError as error:
        if is_disk_full(error):
            say(f"disk full: {error}; make room and run the same command again", sys.stderr)
            return EXIT_RESUMABLE
        say(f"a file or folder cannot be used: {error}", sys.stderr)
    return EXIT_USER


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
