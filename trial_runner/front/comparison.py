"""Several studies against each other: fronts, and hypervolume over time by one reference point."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from rich.console import Console

from dashboards.text import corner, milliseconds, miou, volume_name
from objectives.attainment import Attainment, attainment
from objectives.objective import Objective
from objectives.pareto import ParetoFront, hypervolume_history, pareto_front, reference_point
from objectives.schedule import SearchClock
from objectives.trial_record import TrialRecord
from search_spaces._common.errors import UserError
from search_spaces.describe import network_words
from trial_runner.config.load import public_values
from trial_runner.config.study import StudyConfig
from trial_runner.front.columns import Column, print_columns
from trial_runner.front.table import known_latency_ms
from trial_runner.front.trial_details import sparkline

_TIMES = 40
_SHOWN_LIMITS = 6
_NO_SETTINGS = frozenset({"study", "compute", "cluster", "storage"})


@dataclass(frozen=True)
class ComparedStudy:
    """A study as it is compared.

    Attributes:
        name: of the study, or of its file where two studies have one name.
        records: its trials by number.
        spans: start and end of each trial that ended, by its number.
        objectives: its objectives with budgets.
        settings: everything of its configuration but its name, places and seed, as text: studies of the same settings and other seeds
            are repetitions of one; empty where it is not known.
        seed: its seed.
    """

    name: str
    records: Sequence[TrialRecord]
    spans: dict[int, tuple[datetime, datetime]]
    objectives: tuple[Objective, ...]
    settings: str = ""
    seed: int = 0


@dataclass(frozen=True)
class ComparedFront:
    """A study's front and its growth.

    Attributes:
        study: the study.
        front: its front by the common reference point.
        history: (hours of searching, hypervolume) after each trial that was trained to the end.
        hours: hours of searching in all, without the pauses between launches.
        in_common_front: members of the front of all studies together that are of this study.
    """

    study: ComparedStudy
    front: ParetoFront
    history: tuple[tuple[float, float], ...]
    hours: float
    in_common_front: tuple[int, ...]

    def volume_at(self, hours: float) -> float:
        """Return the hypervolume after some hours of searching."""
        return max((volume for at, volume in self.history if at <= hours + 1e-12), default=0.0)


@dataclass(frozen=True)
class Comparison:
    """Studies with one reference point.

    Attributes:
        fronts: of each study, in order.
        objectives: of all.
        reference_point: in the objectives' units and order.
        repetitions: attainment of studies that differ by their seeds alone, by the name of the first of them.
    """

    fronts: tuple[ComparedFront, ...]
    objectives: tuple[Objective, ...]
    reference_point: tuple[float, ...]
    repetitions: dict[str, Attainment] = field(default_factory=dict)


def settings_of(config: StudyConfig) -> str:
    """Return everything of a configuration that decides its results, but its seed, as text."""
    values = public_values(config)
    return json.dumps({name: value for name, value in values.items() if name not in _NO_SETTINGS}, sort_keys=True)


def compare_studies(studies: Sequence[ComparedStudy]) -> Comparison:
    """Compare studies of the same objectives.

    Raises:
        UserError: they have different objectives.
    """
    first, *others = studies
    names = [item.name for item in first.objectives]
    for study in others:
        if [item.name for item in study.objectives] != names:
            raise UserError(
                f"studies are compared by the same objectives, but {first.name} has {', '.join(names)} and {study.name} has "
                f"{', '.join(item.name for item in study.objectives)}. Compare them separately."
            )
    objectives = first.objectives
    corners = [reference_point(study.records, objectives=study.objectives) for study in studies]
    worst = tuple(
        min(values) if item.direction == "maximize" else max(values)
        for item, values in zip(objectives, zip(*corners, strict=True), strict=True)
    )
    together = [replace(record, number=at) for at, (_, record) in enumerate(_all(studies))]
    members = set(pareto_front(together, reference=worst, objectives=objectives).numbers)
    owners = [(index, record.number) for index, record in _all(studies)]
    fronts = []
    for index, study in enumerate(studies):
        clock = SearchClock(study.spans.values())
        ended = sorted(
            (record for record in study.records if record.number in study.spans), key=lambda r: study.spans[r.number][1]
        )
        history = hypervolume_history([replace(r, number=at) for at, r in enumerate(ended)], worst, objectives)
        grown = tuple((clock.hours(study.spans[ended[at].number][1]), volume) for at, volume in history)
        common = tuple(number for at, (owner, number) in enumerate(owners) if owner == index and at in members)
        front = pareto_front(study.records, reference=worst, objectives=objectives)
        fronts.append(ComparedFront(study, front, grown, clock.total_hours, common))
    return Comparison(tuple(fronts), objectives, worst, _repetitions(fronts))


def _repetitions(fronts: Sequence[ComparedFront]) -> dict[str, Attainment]:
    """Attainment of the studies that differ by their seeds alone, by the name of the first of them."""
    groups: dict[str, dict[int, ComparedFront]] = {}
    for item in fronts:
        if item.study.settings:
            groups.setdefault(item.study.settings, {}).setdefault(item.study.seed, item)
    found = {}
    for group in groups.values():
        first = next(iter(group.values()))
        spread = attainment([item.front for item in group.values()])
        if spread is not None:
            found[first.study.name] = spread
    return found


def _all(studies: Sequence[ComparedStudy]) -> list[tuple[int, TrialRecord]]:
    return [(index, record) for index, study in enumerate(studies) for record in study.records]


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    return {
        "objectives": [item.name for item in comparison.objectives],
        "reference_point": list(comparison.reference_point),
        "studies": [
            {
                "name": item.study.name,
                "trials": len(item.study.records),
                "finished": sum(record.complete for record in item.study.records),
                "hours": item.hours,
                "hypervolume": item.front.hypervolume,
                "front": [
                    {
                        "trial": record.number,
                        "params": record.params,
                        "objectives": {
                            objective.name: _finite(objective.value(record)) for objective in comparison.objectives
                        },
                        "in_common_front": record.number in item.in_common_front,
                    }
                    for record in item.front.records
                ],
                "hypervolume_over_hours": [list(point) for point in item.history],
            }
            for item in comparison.fronts
        ],
        "repetitions": [
            {
                "first": name,
                "studies": spread.studies,
                comparison.objectives[-1].name: list(spread.at),
                "reached_by": {
                    f"{share:g}": [_finite(value) for value in values] for share, values in spread.surfaces.items()
                },
            }
            for name, spread in comparison.repetitions.items()
        ],
    }


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the studies, the growth of their hypervolumes on one axis, and the front of all together."""
    fronts = comparison.fronts
    longest = max((item.hours for item in fronts), default=0.0)
    highest = max((item.front.hypervolume for item in fronts), default=0.0)
    columns = [
        Column("study", 1, [item.study.name for item in fronts], left=True, shrinks=True),
        Column("trials", 3, [str(len(item.study.records)) for item in fronts]),
        Column("finished", 4, [str(sum(record.complete for record in item.study.records)) for item in fronts]),
        Column("hours", 2, [f"{item.hours:.2f}" for item in fronts]),
        Column("front", 0, [str(len(item.front)) for item in fronts]),
        Column("of common front", 0, [str(len(item.in_common_front)) for item in fronts]),
        *(Column(f"best {item.label}", 2, [_best(one, item) for one in fronts]) for item in comparison.objectives),
        Column("hypervolume", 0, [f"{item.front.hypervolume:.4g}" for item in fronts]),
    ]
    print_columns(columns, None, console, elsewhere="--json has all values")
    edge = corner(comparison.objectives, comparison.reference_point)
    console.print(
        f"{volume_name(comparison.objectives)}, to {edge}; over {longest:.2f} hours of searching:", markup=False
    )
    width = max(len(item.study.name) for item in fronts)
    for item in fronts:
        times = [longest * (at + 1) / _TIMES for at in range(_TIMES)]
        reached = [item.volume_at(hours) for hours in times if hours <= item.hours + longest / _TIMES]
        line = f"  {item.study.name:<{width}}  {sparkline(reached, _TIMES, highest)}"
        console.print(line, markup=False, no_wrap=True, overflow="ignore", crop=False)
    for name, spread in comparison.repetitions.items():
        _print_repetitions(name, spread, comparison.objectives, console)
    members = [
        (item.study.name, record)
        for item in fronts
        for record in item.front.records
        if record.number in item.in_common_front
    ]
    last = comparison.objectives[-1]
    members.sort(key=lambda pair: last.sign * last.value(pair[1]))
    if not members:
        console.print("No study has a finished trial yet.")
        return
    print_columns(
        [
            Column("study", 0, [name for name, _ in members], left=True),
            Column("trial", 0, [str(record.number) for _, record in members]),
            Column("network", 1, [network_words(record.params) for _, record in members], left=True, shrinks=True),
            Column("mIoU", 2, [miou(record.val_miou) for _, record in members]),
            Column("ms", 2, [milliseconds(known_latency_ms(record)) for _, record in members]),
            *(
                Column(item.label, 0, [item.text(item.value(record)) for _, record in members])
                for item in comparison.objectives
                if item.name not in ("val_miou", "latency_ms")
            ),
        ],
        "Front of all studies together",
        console,
        elsewhere="--json has all values",
    )


def _print_repetitions(name: str, spread: Attainment, objectives: Sequence[Objective], console: Console) -> None:
    """Print what a quarter, half and three quarters of repeated studies reach, at a few values of the last objective."""
    first, last = objectives
    steps = min(_SHOWN_LIMITS, len(spread.at))
    places = sorted({round((at + 1) * len(spread.at) / steps) - 1 for at in range(steps)})
    words = {0.25: "best quarter", 0.5: "half", 0.75: "three quarters"}
    reached = [
        Column(f"{words[share]} reach", 0, [first.text(values[at]) for at in places])
        for share, values in spread.surfaces.items()
    ]
    print_columns(
        [Column(f"within {last.label}", 0, [last.text(spread.at[at]) for at in places]), *reached],
        f"{first.label} reached by the {spread.studies} repetitions of {name}, which differ by their seeds",
        console,
        elsewhere="--json has all values",
    )


def _best(item: ComparedFront, objective: Objective) -> str:
    values = [objective.value(record) for record in item.front.records]
    known = [value for value in values if not math.isnan(value)]
    return objective.text(min(known, key=lambda value: objective.sign * value)) if known else "–"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
