"""Adoption of refitted models by a study: its trials are predicted again, so that no front mixes the predictions of two models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import optuna

from objectives.objective import LATENCY, Objective
from objectives.trial_record import TrialRecord, read_study, store_study_attribute, study_attributes
from search_spaces import SearchSpace
from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate
from search_spaces.pruning.prune import Plan
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.cost import CostConstraint
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.constraints.loaded_models import LoadedModels, file_states
from trial_runner.constraints.target_latencies import TargetLatencies
from trial_runner.front.rescore import repredicted, trained_shapes
from trial_runner.front.table import front_records
from trial_runner.study.writer import StudyWriter

MODELS = "latency_models"
"""Attribute of a study: identities of the models that its trials' predictions are of; missing in studies of earlier releases."""
_SAME = 1e-6
_SHOWN = 6

Numbers = Mapping[str, tuple[float, ...]]


class ModelAdoption:
    """Keeps a study's predictions those of its models of now.

    Args:
        models: that the launch began with.
        num_classes: classes of the data.
        plan_of: returns the channels of a candidate that was not trained.
        say: prints a line.
    """

    def __init__(
        self,
        config: StudyConfig,
        study: optuna.Study,
        space: SearchSpace,
        num_classes: int,
        objectives: Sequence[Objective],
        models: LoadedModels,
        plan_of: Callable[[Candidate], Plan | None],
        say: Callable[[str], None],
    ) -> None:
        self._config, self._study, self._space, self._num_classes = config, study, space, num_classes
        self._objectives, self._plan_of, self._say = tuple(objectives), plan_of, say
        self._files = models.files
        self.models = models

    def reload(self) -> bool:
        """Load the models again if a file of theirs has changed; True if ``models`` are others now.

        Models that cannot be used are reported once, and those of before are kept.
        """
        now = file_states(self._config)
        if now == self._files:
            return False
        self._files = now
        try:
            found = LoadedModels.load(self._config, self._objectives)
        except UserError as error:
            self._say(f"a latency model has changed and is not used, the one loaded before is: {error}")
            return False
        changed = found.identities() != self.models.identities()
        self.models = found
        return changed

    def rescore(self) -> None:
        """Predict the stored trials with ``models``, unless their predictions are of these already; say in a line what changed."""
        identities = self.models.identities()
        if study_attributes(self._study).get(MODELS) == identities:
            return
        records = read_study(self._study, self._config.study.output_dir)
        now = {record.number: record for record in self._predicted([r for r in records if r.estimate is not None])}
        changed = [record for record in records if record.number in now and _differ(record, now[record.number])]
        if changed:
            writer = StudyWriter(self._study, self._objectives, self._config.device.latency_budget_ms)
            writer.replace_predictions([now[record.number] for record in changed])
        store_study_attribute(self._study, MODELS, identities)
        if changed:
            budget_ms = self._config.device.latency_budget_ms
            before = front_records(records, budget_ms, self._objectives)
            after = front_records([now.get(r.number, r) for r in records], budget_ms, self._objectives)
            self._say(_sentence([(r, now[r.number]) for r in changed], before, after))

    def _predicted(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        shapes = trained_shapes(records, self._plan_of)
        first, *others = self.models.latency.values()
        device = self._config.device
        latency = LatencyConstraint(self._space, self._num_classes, first, device.latency_budget_ms, shapes, others)
        costs = CostConstraint(
            self._space, self._num_classes, self._objectives, self.models.costs, latency, device.precision
        )
        targets = TargetLatencies(self._space, self._num_classes, self.models.targets, self.models.missing, shapes)
        return repredicted(records, latency, costs, targets.estimates)


def _numbers(record: TrialRecord) -> Numbers:
    """Return value and interval of each prediction of a trial by its name."""
    estimates = {LATENCY.name: record.estimate, **{f"latency on {name}": item for name, item in record.targets.items()}}
    found = {name: (item.latency_ms, item.low_ms, item.high_ms) for name, item in estimates.items() if item}
    return found | {name: (cost.value, cost.low, cost.high) for name, cost in record.costs.items()}


def _differ(before: TrialRecord, now: TrialRecord) -> bool:
    old, new = _numbers(before), _numbers(now)
    return old.keys() != new.keys() or any(
        not math.isclose(a, b, rel_tol=_SAME) for name in old for a, b in zip(old[name], new[name], strict=True)
    )


def _sentence(
    changed: Sequence[tuple[TrialRecord, TrialRecord]], before: Sequence[TrialRecord], after: Sequence[TrialRecord]
) -> str:
    """Return a line on trials that are predicted anew: how many, by how much each prediction moved, and who is on the front."""
    moved = dict[str, list[float]]()
    for old, new in ((_numbers(old), _numbers(new)) for old, new in changed):
        for name in old.keys() & new.keys():
            if old[name][0] > 0.0:
                moved.setdefault(name, []).append(new[name][0] / old[name][0] - 1.0)
    parts = [
        f"{'predicted latency' if name == LATENCY.name else name} {median(shares):+.1%} at the median "
        f"({min(shares):+.1%} to {max(shares):+.1%})"
        for name, shares in sorted(moved.items(), key=lambda item: item[0] != LATENCY.name)
        if any(abs(share) > _SAME for share in shares)
    ]
    was, is_now = {record.number for record in before}, {record.number for record in after}
    joined, left = sorted(is_now - was), sorted(was - is_now)
    front = f"front within the budgets: {len(is_now)} members, {_listed(joined)} joined, {_listed(left)} left"
    return f"the latency model has changed: {'; '.join([f'{len(changed)} trials are predicted anew', *parts, front])}"


def _listed(numbers: Sequence[int]) -> str:
    if not numbers:
        return "none"
    shown = ", ".join(map(str, numbers[:_SHOWN])) + (", …" if len(numbers) > _SHOWN else "")
    return f"{len(numbers)} (trial{'s' if len(numbers) > 1 else ''} {shown})"
