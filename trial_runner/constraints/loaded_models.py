"""All models that a launch predicts with before training: their identities, and the files that may change while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hw_latency_model import LatencyModel
from hw_latency_model.model.cost_models import MODEL_FILES
from hw_latency_model.model.custom import CustomLatencyModel, PredictsLatency
from objectives.objective import Objective
from search_spaces._common.references import is_reference
from search_spaces.candidate import Precision
from trial_runner.config.study import StudyConfig
from trial_runner.constraints.cost import load_cost_models
from trial_runner.constraints.latency_models import load_latency_models
from trial_runner.constraints.target_latencies import load_target_models

FileStates = dict[str, tuple[int, int] | None]


@dataclass(frozen=True)
class LoadedModels:
    """Models of one moment.

    Attributes:
        latency: latency models by precision, that of ``device.precision`` first.
        costs: models of energy and memory.
        targets: latency models of each further target.
        missing: a sentence on each target that lacks a model.
        files: `file_states` at the moment of loading.
    """

    latency: Mapping[Precision, LatencyModel | CustomLatencyModel]
    costs: Sequence[LatencyModel]
    targets: Mapping[str, list[PredictsLatency]]
    missing: Mapping[str, str]
    files: FileStates

    @classmethod
    def load(cls, config: StudyConfig, objectives: Sequence[Objective]) -> Self:
        """Load the models that the study needs now.

        Raises:
            UserError: a model of the study's own device is missing, damaged, or of another set-up.
        """
        files = file_states(config)
        latency, costs = load_latency_models(config), load_cost_models(config, objectives)
        return cls(latency, costs, *load_target_models(config), files)

    def identities(self) -> dict[str, str]:
        """Return a short hash of each model by what it predicts."""
        found = {f"latency_ms {precision}": model.identity() for precision, model in self.latency.items()}
        found |= {f"{model.target} {model.precision}": model.identity() for model in self.costs}
        for name, models in self.targets.items():
            found |= {f"{name} latency_ms {model.precision}": model.identity() for model in models}
        return found


def file_states(config: StudyConfig) -> FileStates:
    """Return modification time in ns and size of each model file; None for one that is not there."""
    found: FileStates = {}
    for path in _model_files(config):
        try:
            status = path.stat()
        except OSError:
            found[str(path)] = None
        else:
            found[str(path)] = status.st_mtime_ns, status.st_size
    return found


def _model_files(config: StudyConfig) -> list[Path]:
    """Return the paths at which the study's models are, or may come to be; none for a latency function."""
    paths = list[Path]()
    for name in config.target_names:
        alone = config if name == config.device.name else config.for_target(name)
        for precision in dict.fromkeys((alone.device.precision, *config.precisions)):
            path = alone.device.model_path(precision)
            if not is_reference(str(path)):
                paths += [path, *(path.with_name(file) for file in MODEL_FILES.values())]
    return list(dict.fromkeys(paths))
