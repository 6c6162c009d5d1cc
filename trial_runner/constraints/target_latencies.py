"""Latency of a candidate on the further targets of a study, from the models that exist for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from exports import get_profile
from hw_latency_model import LatencyEstimate
from hw_latency_model.model.custom import PredictsLatency
from search_spaces import SearchSpace
from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency import LatencyConstraint
from trial_runner.constraints.latency_models import load_latency_model

if TYPE_CHECKING:
    from search_spaces.pruning.prune import Plan


class TargetLatencies:
    """Predicts each candidate on every target that has a latency model, in milliseconds of time; nothing is trained or refused.

    Attributes:
        missing: a sentence on each target that lacks the model of a precision, by its name.
        notes: these sentences, and those on models that were not calibrated.

    Args:
        models: latency models of each target, that of its own precision first; without any where it has none.
        missing: a sentence on each target that lacks the model of a precision.
        plan_of: channels that each group of a candidate keeps; None for the same share of each.
    """

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int,
        models: Mapping[str, list[PredictsLatency]],
        missing: Mapping[str, str],
        plan_of: Callable[[Candidate], Plan | None] = lambda candidate: None,
    ) -> None:
        self._space, self._num_classes, self._plan_of = space, num_classes, plan_of
        self.use(models, missing)

    def use(self, models: Mapping[str, list[PredictsLatency]], missing: Mapping[str, str]) -> None:
        """Predict with these models from now on."""
        self._predictors = {
            name: LatencyConstraint(self._space, self._num_classes, found[0], float("inf"), self._plan_of, found[1:])
            for name, found in models.items()
            if found
        }
        self.missing = dict(missing)
        self.notes = [*missing.values()]
        self.notes += [item.provenance for found in models.values() for item in found if not item.calibrated]

    @classmethod
    def load(
        cls,
        config: StudyConfig,
        space: SearchSpace,
        num_classes: int,
        plan_of: Callable[[Candidate], Plan | None] = lambda candidate: None,
    ) -> TargetLatencies:
        """Load the models of the configuration's ``targets``; one that is missing or damaged becomes a sentence in ``missing``."""
        return cls(space, num_classes, *load_target_models(config), plan_of)

    def estimates(self, candidate: Candidate) -> dict[str, LatencyEstimate]:
        """Return the estimate of each target that has a model of the candidate's precision, by the target's name."""
        return {
            name: predictor.estimate(candidate)
            for name, predictor in self._predictors.items()
            if predictor.predicts(candidate)
        }


def load_target_models(config: StudyConfig) -> tuple[dict[str, list[PredictsLatency]], dict[str, str]]:
    """Load the latency models of the configuration's ``targets`` by the target's name, that of its own precision first; and a
    sentence on each target that lacks one."""
    models, missing = dict[str, list[PredictsLatency]](), dict[str, str]()
    for target in config.targets:
        alone = config.for_target(target.name)
        wanted = [alone.device.precision, *(config.space.precisions or ())]
        runs = get_profile(target.name).precisions
        models[target.name] = []
        for precision in dict.fromkeys(item for item in wanted if item in runs):
            if config.space.precisions and precision not in config.space.precisions:
                continue
            try:
                models[target.name].append(load_latency_model(alone, precision))
            except UserError as error:
                missing.setdefault(target.name, str(error))
    return models, missing
