"""Trained relatives of a candidate, whose weights it may start from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from objectives.trial_record import EarlierTrial, TrialRecord
from search_spaces.candidate import Candidate

_FAMILY = "family"
_SCALING = frozenset({"width", "resolution", "prune_ratio"})


def best_relative(
    records: Iterable[TrialRecord], candidate: Candidate, architecture_params: Sequence[str]
) -> EarlierTrial | None:
    """Return the finished trial that a candidate inherits its weights from; None where no finished trial is related.

    Relatives are of the candidate's family, in a space that has families. The one that shares most other dimensions of the
    architecture, apart from width, resolution and prune ratio, is taken; of equally close ones the most accurate.

    Args:
        architecture_params: names of the architecture's dimensions.
    """
    compared = [name for name in architecture_params if name in candidate.params and name not in _SCALING]

    def closeness(record: TrialRecord) -> tuple[int, float, int]:
        equal = sum(record.params.get(name) == candidate.params[name] for name in compared)
        return equal, record.val_miou or 0.0, -record.number

    related = [
        record
        for record in records
        if record.complete
        and record.candidate is not None
        and record.candidate.space == candidate.space
        and record.params.get(_FAMILY) == candidate.params.get(_FAMILY)
    ]
    best = max(related, key=closeness, default=None)
    return EarlierTrial(best.number, best.candidate) if best and best.candidate else None
