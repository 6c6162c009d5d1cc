"""`paretoseg verify`: verify a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from trial_runner.cli.console import say, say_json

HELP = "Verify that a bundle's files are unchanged, and, with --run, that its network agrees with torch."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to its parser."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle's folder")
    parser.add_argument("--run", action="store_true", help="compare the ONNX file with torch on validation images")
    parser.add_argument("--images", type=int, help="number of images for --run (default: as at the export)")
    parser.add_argument("--data", type=Path, help="folder of the data (default: the study's)")
    parser.add_argument("--kind", help="kind of the data, e.g. camvid (default: the study's)")
    parser.add_argument("--run-code", action="store_true", help="import the code that reads the bundle's data")
    parser.add_argument("--json", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status. Raises UserError for what the user can put right."""
    from trial_runner.verify import verify_bundle

    result = verify_bundle(
        arguments.bundle,
        run=arguments.run,
        images=arguments.images,
        root=arguments.data,
        kind=arguments.kind,
        run_code=arguments.run_code,
    )
    parity = result.parity
    if arguments.json:
        say_json(result.to_dict())
    else:
        manifest = "" if result.manifest_covered else "; the manifest of this release has no checksum of its own"
        say(f"{result.files} files are those that were exported{manifest}")
        if result.superseded_since:
            say(f"superseded since {result.superseded_since}: the network left its study's front")
        if parity is not None:
            say(
                f"parity with torch on {parity.images} images: {parity.reason}; {parity.argmax_agreement:.4%} of the pixels alike, "
                f"largest logit error {parity.max_rel_error:.1e} of the range"
            )
    return 0 if parity is None or parity.passed else 1
