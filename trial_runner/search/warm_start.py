"""Warm start: the best networks of earlier studies to begin with, and all their results as evidence for the sampler."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from objectives.objective import CLASS_IOU, LATENCY, MIOU, Objective
from objectives.pareto import non_dominated_rank
from objectives.trial_record import TrialRecord
from search_spaces import Candidate, SearchSpace
from search_spaces._common.errors import UserError
from search_spaces.dimensions import Categorical
from search_spaces.options import parse_resolution
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig, is_study_file
from trial_runner.search.known_cost import EarlierTrials
from trial_runner.study.storage import load_records

_RESOLUTION = "resolution"
_SIZE = re.compile(r"[0-9]+x[0-9]+")


@dataclass(frozen=True)
class EarlierStudy:
    """Finished trials of an earlier study whose networks the present space holds.

    Attributes:
        name: the entry of ``search.warm_start``.
        records: the trials, those of equal rank in the order of their numbers, best ranks first.
        candidates: each trial's network in the present space.
    """

    name: str
    records: tuple[TrialRecord, ...]
    candidates: tuple[Candidate, ...]

    def evidence(self, objectives: Sequence[Objective]) -> EarlierTrials:
        """Return params and values of all trials, (n, m); NaN for objectives that were not evaluated or are of this data alone."""
        values = [
            [
                math.nan if item.name.partition(":")[0] == CLASS_IOU else item.value(record)  # classes of other data
                for item in objectives
            ]
            for record in self.records
        ]
        return EarlierTrials([dict(item.params) for item in self.candidates], np.array(values, dtype=np.float64))


def load_earlier_studies(config: StudyConfig, space: SearchSpace) -> list[EarlierStudy]:
    """Read the studies of ``search.warm_start``.

    A dimension that a network lacks takes its default, and a resolution that the space does not offer the one of the same rank. Other
    networks that the space does not hold are left out.

    Raises:
        UserError: there is no such study, it has no finished trial, or none that the space holds.
    """
    return [_load(config, entry, space) for entry in config.search.earlier_studies]


def initial_candidates(studies: Sequence[EarlierStudy], most: int) -> list[Candidate]:
    """Return up to ``most`` different networks to begin with: the best of each study in turn."""
    found: dict[str, Candidate] = {}
    for place in range(max((len(study.candidates) for study in studies), default=0)):
        for study in studies:
            if place < len(study.candidates):
                found.setdefault(study.candidates[place].id, study.candidates[place])
    return list(found.values())[:most]


def _load(config: StudyConfig, entry: str, space: SearchSpace) -> EarlierStudy:
    storage, name = config.study.storage, entry
    if is_study_file(entry):
        earlier = load_config(Path(entry)).study
        storage, name = earlier.storage, earlier.name
    if (storage, name) == (config.study.storage, config.study.name):
        raise UserError(f"search.warm_start names {entry}, which is this study itself: leave it out.")
    finished = [record for record in load_records(storage, name) if record.complete and record.parent_trial is None]
    if not finished:
        raise UserError(f"search.warm_start is {entry}, which has no finished trial to start from: leave it out.")
    values = np.array([[MIOU.sign * MIOU.value(record), LATENCY.sign * LATENCY.value(record)] for record in finished])
    ranks = non_dominated_rank(values)
    resolutions = _resolutions(space, finished)
    placed = [
        (record, _in_space(space, record, resolutions))
        for record in (finished[index] for index in np.argsort(ranks, kind="stable"))
    ]
    held = [(record, candidate) for record, candidate in placed if candidate is not None]
    if not held:
        raise UserError(
            f"search.warm_start is {entry}, none of whose networks is one of this study's space: leave it out."
        )
    return EarlierStudy(entry, tuple(record for record, _ in held), tuple(candidate for _, candidate in held))


def _in_space(space: SearchSpace, record: TrialRecord, resolutions: Mapping[Any, str]) -> Candidate | None:
    """Return a record's network in the space; None if the space does not hold it."""
    known = record.params
    if known.get(_RESOLUTION) in resolutions:
        known[_RESOLUTION] = resolutions[known[_RESOLUTION]]
    try:
        return space.candidate({name: known.get(name, value) for name, value in space.default().params.items()})
    except ValueError:
        return None


def _resolutions(space: SearchSpace, records: Sequence[TrialRecord]) -> dict[Any, str]:
    """Return a resolution of the space for each one of the records that it does not offer: that of the same rank by pixels."""
    axis = next((item for item in space.dimensions if item.name == _RESOLUTION), None)
    used = {record.params[_RESOLUTION] for record in records if _RESOLUTION in record.params}
    if not isinstance(axis, Categorical) or not all(_SIZE.fullmatch(str(item)) for item in (*axis.choices, *used)):
        return {}
    mine, theirs = (sorted(map(str, items), key=_pixels) for items in (axis.choices, used))
    ranks = np.linspace(0, len(mine) - 1, len(theirs)).round().astype(int) if len(theirs) > 1 else [len(mine) - 1]
    return {text: mine[rank] for text, rank in zip(theirs, ranks, strict=True) if text not in mine}


def _pixels(resolution: str) -> int:
    return math.prod(parse_resolution(resolution))
