"""Tables of the latency report."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards import tables, text
from hw_latency_model.report.latency_report import LatencyReport, NextMeasurement, Reading
from hw_latency_model.report.parts import KernelDisagreement, RepeatedNetwork


def next_table(suggested: Sequence[NextMeasurement]) -> str:
    """Table of suggested measurements, best first."""
    columns = [
        tables.Column("", "number"),
        tables.Column("network", "name"),
        tables.Column("predicted, ms", "number"),
        tables.Column("why", "words"),
    ]
    rows: list[list[tables.Cell]] = [
        [str(place), item.name, _bounds(item.predicted_ms, item.low_ms, item.high_ms), item.why]
        for place, item in enumerate(suggested, start=1)
    ]
    return tables.table(columns, rows)


def member_table(members: Sequence[Reading]) -> str:
    """Table of the members of a front, measured or not."""
    columns = [
        tables.Column("network", "words"),
        tables.Column("predicted, ms", "number"),
        tables.Column("measured, ms", "number"),
        tables.Column("interval holds", "name"),
        tables.Column("known kinds", "number"),
        tables.Column("never measured", "name"),
    ]
    rows: list[list[tables.Cell]] = [
        [
            member.name,
            _bounds(member.predicted_ms, member.low_ms, member.high_ms),
            text.milliseconds(member.measured_ms),
            _mark(member),
            f"{member.coverage:.0%}",
            ", ".join(member.unknown_kinds) or "–",
        ]
        for member in members
    ]
    return tables.table(columns, rows)


def family_table(report: LatencyReport) -> str:
    """Table of errors by family, with all networks in the last row."""
    columns = [
        tables.Column("family", "name"),
        tables.Column("networks", "number"),
        tables.Column("median error", "number"),
        tables.Column("worst", "number"),
        tables.Column("median of signed errors", "number"),
        tables.Column("within 10%", "number"),
        tables.Column("intervals held", "number"),
        tables.Column("median error, family unseen", "number"),
        tables.Column("intervals held, family unseen", "number"),
    ]
    groups = [*report.families, *([report.errors] if report.errors else [])]
    unseen = [*report.held_out_families, *([report.held_out_family_errors] if report.held_out_family_errors else [])]
    strange = {group.name: group for group in unseen}
    rows = [
        [
            group.name,
            str(group.networks),
            f"{group.median_error_rel:.1%}",
            f"{group.worst_error_rel:.1%}",
            f"{group.bias_rel:+.1%}",
            f"{group.within10:.0%}",
            f"{group.inside} of {group.networks}",
            f"{strange[group.name].median_error_rel:.1%}" if group.name in strange else "–",
            f"{strange[group.name].inside} of {strange[group.name].networks}" if group.name in strange else "–",
        ]
        for group in groups
    ]
    return tables.table(columns, rows)


def reading_table(readings: Sequence[Reading]) -> str:
    """Table of networks, largest error first."""
    columns = [
        tables.Column("network", "words"),
        tables.Column("family", "name"),
        tables.Column("measured, ms", "number"),
        tables.Column("predicted, ms", "number"),
        tables.Column("interval holds", "name"),
    ]
    rows: list[list[tables.Cell]] = [
        [
            reading.name,
            reading.family or "–",
            text.milliseconds(reading.measured_ms),
            _bounds(reading.predicted_ms, reading.low_ms, reading.high_ms),
            _mark(reading),
        ]
        for reading in sorted(readings, key=lambda item: -abs(item.error_rel or 0.0))
    ]
    return tables.table(columns, rows)


def worst_table(kernels: Sequence[KernelDisagreement]) -> str:
    """Table of kernel shapes on which model and profile disagree."""
    columns = [
        tables.Column("kind", "name"),
        tables.Column("shape", "words"),
        tables.Column("predicted, ms", "number"),
        tables.Column("profiled, ms", "number"),
        tables.Column("seen", "number"),
        tables.Column("of the network's time", "number"),
        tables.Column("worst in", "words"),
    ]
    rows = [
        [
            item.kind,
            item.shape,
            text.milliseconds(item.predicted_ms),
            text.milliseconds(item.profiled_ms),
            f"{item.occurrences}×",
            f"{item.effect_rel:+.1%}",
            item.network,
        ]
        for item in kernels
    ]
    return tables.table(columns, rows)


def repeated_table(repeated: Sequence[RepeatedNetwork]) -> str:
    """Table of networks measured more than once."""
    columns = [
        tables.Column("network", "name"),
        tables.Column("times", "number"),
        tables.Column("first, ms", "number"),
        tables.Column("latest, ms", "number"),
        tables.Column("change", "number"),
    ]
    rows = [
        [
            item.name,
            str(item.times),
            text.milliseconds(item.first_ms),
            text.milliseconds(item.last_ms),
            f"{item.change_rel:+.1%}",
        ]
        for item in repeated
    ]
    return tables.table(columns, rows)


def _mark(reading: Reading) -> tables.Html:
    if reading.inside is None:
        return tables.Html('<span class="mark none">not measured</span>')
    word, kind = ("inside", "good") if reading.inside else ("outside", "bad")
    return tables.Html(f'<span class="mark {kind}">{word} · {reading.error_rel or 0.0:+.1%}</span>')


def _bounds(value: float | None, low: float | None, high: float | None) -> tables.Html:
    if value is None:
        return tables.Html("–")
    reach = "" if low is None or high is None else f"[{text.milliseconds(low)}, {text.milliseconds(high)}]"
    return tables.Html(f'{text.milliseconds(value)} <span class="soft">{reach}</span>')
