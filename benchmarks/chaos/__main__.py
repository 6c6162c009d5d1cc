"""Fault tolerance: random faults in launches of small studies on PostgreSQL and a Ray cluster of several nodes.

    python -m benchmarks.chaos --seed 1 --kills 300 --json OUT [--backend ray|inprocess] [--nodes 3] [--minutes 240] [--state DIR]

Launches a study of eight small trials, again and again, and injects faults at random moments: workers, nodes, Ray's control service and
drivers killed, the database restarted, paused, away and cut off, a full disk, suspended and second drivers, simultaneous starts. After
each fault it launches until the study goes on. No acknowledged point may be lost or changed, no trial run twice, no row or process left
over, no traceback printed, and every bundle must verify. Prints a table by kind of fault and every violation. An interrupted campaign
with the same --state is continued. Needs PostgreSQL; the full disk needs the right to mount. Exit status 1 where a rule was broken.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.chaos.campaign import Campaign, Runner
from benchmarks.chaos.faults import FAULTS
from benchmarks.chaos.table import rows, text
from benchmarks.chaos.world import World
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_json
from trial_runner.stopping import stoppable

_FIXED = ("seed", "backend", "nodes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign, or continue it; return 1 where a rule was broken, 130 after a stop signal."""
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of the kinds and moments of the faults")
    parser.add_argument("--kills", type=int, default=300, help="faults in all")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--backend", choices=("ray", "inprocess"), default="ray")
    parser.add_argument("--nodes", type=int, default=3, help="of the Ray cluster, with its head; at least 2")
    parser.add_argument("--minutes", type=float, default=240.0, help="begin no fault after this time")
    parser.add_argument("--starts", type=int, default=1000, help="simultaneous starts, a multiple of 4")
    parser.add_argument("--state", type=Path, default=Path("runs/chaos"), help="folder of the campaign and its logs")
    parser.add_argument("--kinds", nargs="+", choices=FAULTS, default=[], help="only these kinds of faults")
    options = parser.parse_args(arguments)
    path = options.state / "campaign.json"
    fixed = {name: getattr(options, name) for name in _FIXED}
    campaign = Campaign.load(path) if path.is_file() else Campaign(fixed)
    if campaign.options != fixed:
        raise UserError(
            f"{path} is a campaign with {campaign.options}: repeat these options, or choose another --state."
        )
    try:
        with stoppable(), World(options.state / "logs", options.backend, options.nodes, options.seed) as world:
            Runner(campaign, path, world, options.starts).run(options.kills, options.minutes, options.kinds)
    except KeyboardInterrupt:
        print("stopped; the same command continues the campaign")
        return 130
    finally:
        write_json(options.json, {**asdict(campaign), "rows": rows(campaign), "violations": campaign.violations})
        print(text(campaign))
    return 1 if campaign.violations else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as failure:
        sys.exit(f"chaos: {failure}")
