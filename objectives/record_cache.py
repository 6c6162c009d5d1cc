"""Records of a study's trials for a process that reads them again and again."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

from objectives.trial_record import TrialRecord, read_record


class RecordCache:
    """Reader of a study's records that converts a trial again only where its storage has another object for it.

    Optuna's storages replace the object of a trial that has changed.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._known: dict[int, tuple[FrozenTrial, TrialRecord]] = {}

    def read(self) -> list[TrialRecord]:
        """Return the records of all trials by number, without later facts (export, measurement)."""
        records = []
        for trial in self._study.get_trials(deepcopy=False):
            known = self._known.get(trial.number)
            if known is None or known[0] is not trial:
                known = self._known[trial.number] = trial, read_record(trial, {})
            records.append(known[1])
        return records
