"""Table of a campaign by kind of fault, and its violations in words."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from benchmarks.chaos.campaign import Campaign


def rows(campaign: Campaign) -> list[dict[str, Any]]:
    """Return a row for each kind of fault: how many, how many recovered, exit statuses, median seconds lost, violations."""
    table = []
    for kind in dict.fromkeys(sorted(fault.kind for fault in campaign.faults)):
        faults = [fault for fault in campaign.faults if fault.kind == kind]
        lost = [fault.lost_s for fault in faults if fault.lost_s is not None]
        table.append(
            {
                "kind": kind,
                "count": len(faults),
                "recovered": sum(fault.recovered for fault in faults),
                "statuses": dict(sorted(Counter(status for fault in faults for status in fault.statuses).items())),
                "median_lost_s": round(median(lost), 1) if lost else None,
                "violations": sum(len(fault.violations) for fault in faults),
            }
        )
    return table


def text(campaign: Campaign) -> str:
    """Return the campaign as a Markdown table, with its violations below."""
    lines = [
        "| fault | count | recovered | exit statuses | median seconds lost | violations |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows(campaign):
        statuses = ", ".join(f"{status}: {count}" for status, count in row["statuses"].items())
        lost = "" if row["median_lost_s"] is None else f"{row['median_lost_s']:.1f}"
        lines.append(
            f"| {row['kind']} | {row['count']} | {row['recovered']} | {statuses} | {lost} | {row['violations']} |"
        )
    lines += [f"left out: {kind} ({reason})" for kind, reason in campaign.skipped.items()]
    lines.append(
        f"{len(campaign.faults)} faults in {campaign.seconds / 60:.1f} minutes, {campaign.rounds} studies to their end, "
        f"{campaign.trials} trials, {campaign.points} acknowledged points and ends of trials, {len(campaign.violations)} violations"
    )
    counts = Counter(item["rule"] for item in campaign.violations)
    lines += [f"{rule}: {count}" for rule, count in counts.items()]
    lines += [f"- {item['rule']}: {item['text']}" for item in campaign.violations]
    return "\n".join(lines)
