"""Predicted costs other than latency of a candidate's final network, before training; only those that are objectives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from hw_latency_model import LatencyModel
from hw_latency_model.model.cost_models import MODEL_FILES, load_cost_model, memory_floor_mb
from objectives.cost import NetworkCost, deployed_cost
from objectives.objective import ENERGY, LATENCY, MACS, MEMORY, PARAMS, Objective
from objectives.trial_record import CostEstimate
from search_spaces import SearchSpace
from search_spaces._common.errors import UserError
from search_spaces._common.references import is_reference
from search_spaces.candidate import Candidate
from search_spaces.pruning.prune import prune_network
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.latency import LatencyConstraint


class CostConstraint:
    """Predicts energy, peak memory, multiply-accumulates and parameters, where they are objectives.

    Args:
        models: cost models fitted to ``energy_mj`` and ``memory_peak_mb``, of each precision. Without one of memory, the lower
            bound is used: the weights and the largest activations of a kernel.
        latency: provides the candidates' kernels and pruning plans.
        precision: of candidates without a precision dimension.
    """

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int,
        objectives: Sequence[Objective],
        models: Iterable[LatencyModel],
        latency: LatencyConstraint,
        precision: str = "fp32",
    ) -> None:
        self._space, self._num_classes, self._precision = space, num_classes, precision
        self._table_of, self._plan_of = latency.table, latency.plan_of
        self._predicted = [
            item for item in objectives if item.available == "pre_training" and item.name != LATENCY.name
        ]
        self.use(models)

    def use(self, models: Iterable[LatencyModel]) -> None:
        """Predict with these cost models from now on."""
        self._models = {(model.target, model.precision): model for model in models}
        self._arithmetic: dict[str, NetworkCost] = {}

    def costs(self, candidate: Candidate) -> dict[str, CostEstimate]:
        """Predict the costs of the candidate's final, pruned shape, by the objective's name. Takes milliseconds; tenths of a second for
        MACs or parameters of a network seen for the first time."""
        return {item.name: self._cost(item.name, candidate) for item in self._predicted}

    def violation_reason(self, costs: Mapping[str, CostEstimate]) -> str | None:
        """Return the reason for rejecting the candidate, or None. Only a cost whose interval lies above the budget is rejected."""
        for item in self._predicted:
            cost = costs[item.name]
            if item.violation(cost.low) > 0:
                interval = "" if cost.low == cost.high else f" [{cost.low:.4g}, {cost.high:.4g}]"
                return (
                    f"predicted {cost.value:.4g} {item.unit}{interval}: over the budget of {item.budget:g} {item.unit}"
                )
        return None

    def _cost(self, name: str, candidate: Candidate) -> CostEstimate:
        if name in (MACS, PARAMS):
            value = float(vars(self._counted(candidate))[name])
            return CostEstimate(value, value, value)
        table = self._table_of(candidate)
        model = self._models.get((name, candidate.precision or self._precision))
        if model is not None:
            found = model.estimate([table])[0]
            return CostEstimate(found.value, found.low, found.high)
        if name == MEMORY:
            value = memory_floor_mb(table.kernels)
            return CostEstimate(value, value, value)
        raise ValueError(f"there is no model to predict {name} with")

    def _counted(self, candidate: Candidate) -> NetworkCost:
        key = self._space.architecture_id(candidate)
        if key not in self._arithmetic:
            net, plan = self._space.build(candidate, self._num_classes), self._plan_of(candidate)
            net = (
                prune_network(net, self._space.prune_ratio(candidate), plan=plan)
                if plan
                else self._space.prune(net, candidate)
            )
            self._arithmetic[key] = deployed_cost(net, self._space.input_hw(candidate))
        return self._arithmetic[key]


def load_cost_models(config: StudyConfig, objectives: Sequence[Objective]) -> list[LatencyModel]:
    """Load the cost models that the objectives need, in each precision, from beside the latency models.

    Raises:
        UserError: energy is an objective and there is no model of it; or a model is damaged or of another device.
    """
    device, found = config.device, list[LatencyModel]()
    needed = sorted({item.name for item in objectives} & set(MODEL_FILES))
    for name, precision in product(needed, config.precisions):
        path = device.model_path(precision)
        own = is_reference(str(path))  # a latency function has no folder with models of other costs
        model = None if own else load_cost_model(path, name, device=device.name, precision=precision)
        if model is not None:
            found.append(model)
        elif name == ENERGY and own:
            raise UserError(
                f"the objective {ENERGY} needs a model of energy beside device.latency_model, which is {path}, a function. "
                "Take the objective out of the list, or give a metric of your own."
            )
        elif name == ENERGY:
            raise UserError(
                f"the objective {ENERGY} needs a model of energy at {path.with_name(MODEL_FILES[ENERGY])}, and there is "
                "none. Calibrate a board that has a power rail (docs/devices.md), or take the objective out of the list."
            )
    return found
