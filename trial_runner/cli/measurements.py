"""`paretoseg measurements`: list what a measurement store holds, and carry it as CSV or Parquet."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw_latency_model.file_names import STORE_FILE
from search_spaces._common.errors import UserError
from trial_runner.cli.console import print_error, say, say_json

if TYPE_CHECKING:
    from hw_latency_model import MeasurementStore

HELP = "List, export or import what was measured."
_DEFAULT_STORE = "runs/local-cpu/measurements.sqlite"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's actions and their arguments to its parser."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what there is, by device, set-up and precision")
    listing.add_argument("--json", action="store_true")
    export = actions.add_parser("export", help="write measurements to a file")
    export.add_argument("file", type=Path, metavar="FILE", help=".csv or .parquet")
    export.add_argument(
        "--fingerprint", help="beginning of the id of one set-up (default: all, each row names its own)"
    )
    imports = actions.add_parser("import", help="append a file's measurements to the store; known ones are not doubled")
    imports.add_argument("file", type=Path, metavar="FILE", help=".csv or .parquet")
    for action in (listing, export, imports):
        action.add_argument(
            "--store",
            metavar="PATH|URL",
            help=f"a file, or a URL of SQLite or PostgreSQL (default: the study's, else {_DEFAULT_STORE})",
        )
        action.add_argument(
            "--study", type=Path, metavar="STUDY.yaml", help="the store beside the latency model of a study"
        )
    for action in (listing, export):
        action.add_argument("--device", help="of this device only")


def run(arguments: argparse.Namespace) -> int:
    """Run the action; return its exit status. Raises UserError for a store or file that cannot be used."""
    from hw_latency_model import MeasurementStore

    place = arguments.store or _default_store(arguments.study)
    with MeasurementStore(place, create=arguments.action == "import") as store:
        if arguments.store is None:
            (print_error if getattr(arguments, "json", False) else say)(f"measurement store: {store.name}")
        return {"list": _list, "export": _export, "import": _import}[arguments.action](store, arguments)


def _default_store(study: Path | None) -> str:
    """Return the store beside the latency model of a study, or of this machine's CPU.

    Raises:
        UserError: the study cannot be read, or predicts latency by a function, which has no measurements.
    """
    from trial_runner.config.load import load_config

    if study is None:
        return _DEFAULT_STORE
    device = load_config(study).device
    if device.predictor is not None:
        raise UserError(
            f"device.latency_model of {study} is {device.predictor}, a function without measurements. Name a store with --store."
        )
    return str(device.latency_model.with_name(STORE_FILE))


def _list(store: MeasurementStore, arguments: argparse.Namespace) -> int:
    from hw_latency_model.store.fingerprints import describe_difference

    groups = store.groups(arguments.device)
    if arguments.json:
        say_json([group.to_dict() for group in groups])
        return 0
    if not groups:
        say(f"{store.name} holds no measurement" + (f" of {arguments.device}" if arguments.device else ""))
    for group in groups:
        say(
            f"{group.device} {group.precision}, fingerprint {group.fingerprint_id}: {group.measurements} measurements of "
            f"{group.subjects} networks, {group.first_at} to {group.last_at} ({', '.join(group.provenances)})"
        )
    for device in dict.fromkeys(group.device for group in groups):
        kinds = {group.fingerprint_id: group.fingerprint for group in groups if group.device == device}
        if len(kinds) > 1:
            say(f"the set-ups of {device} are never mixed; they differ in {describe_difference(list(kinds.values()))}")
    return 0


def _export(store: MeasurementStore, arguments: argparse.Namespace) -> int:
    from hw_latency_model.store.files import export_measurements

    fingerprint = _fingerprint(store, arguments.device, arguments.fingerprint)
    count = export_measurements(store, arguments.file, device=arguments.device, fingerprint=fingerprint)
    say(f"{count} measurements written to {arguments.file}")
    return 0


def _import(store: MeasurementStore, arguments: argparse.Namespace) -> int:
    from hw_latency_model.store.files import import_measurements

    result = import_measurements(store, arguments.file)
    say(f"{result.added} measurements added to {store.name}, {result.known} of {result.rows} were there already")
    return 0


def _fingerprint(store: MeasurementStore, device: str | None, wanted: str | None) -> Mapping[str, Any] | None:
    if wanted is None:
        return None
    found = {g.fingerprint_id: g.fingerprint for g in store.groups(device) if g.fingerprint_id.startswith(wanted)}
    if len(found) != 1:
        known = ", ".join(dict.fromkeys(group.fingerprint_id for group in store.groups(device))) or "none"
        what = "no fingerprint" if not found else "more than one fingerprint"
        raise UserError(f"{what} in {store.name} begins with {wanted!r}; it has {known}.")
    return next(iter(found.values()))
