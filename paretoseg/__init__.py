"""Python interface of paretoseg: studies, their results, latency models, and the base classes of one's own parts.

Names are imported on first use: ``import paretoseg`` loads neither torch nor ray nor optuna.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hw_latency_model.kernels.extract import kernels_from_module, kernels_from_onnx
    from hw_latency_model.model.latency_model import LatencyModel
    from hw_latency_model.types import KernelSpec, LatencyEstimate, LatencyPredictor
    from objectives.custom_metric import SegmentationMetric, SplitPredictions
    from objectives.data.base import DatasetError, DatasetInfo, SegmentationData
    from objectives.data.file_data import FileData
    from objectives.data.file_index import FilePair
    from objectives.data.memory import InMemoryData
    from objectives.data.registry import DatasetOpener
    from paretoseg.study import Study
    from paretoseg.table import Table
    from search_spaces._common.errors import UserError
    from search_spaces._common.palette import spread_palette
    from search_spaces.candidate import Candidate
    from search_spaces.registry import get_space
    from search_spaces.space import SearchSpace
    from search_spaces.spaces.custom import NetworkSpace
    from trial_runner.config.load import load_config
    from trial_runner.config.study import StudyConfig

    __version__: str

__all__ = [
    "Candidate",
    "DatasetError",
    "DatasetInfo",
    "DatasetOpener",
    "FileData",
    "FilePair",
    "InMemoryData",
    "KernelSpec",
    "LatencyEstimate",
    "LatencyModel",
    "LatencyPredictor",
    "NetworkSpace",
    "SearchSpace",
    "SegmentationData",
    "SegmentationMetric",
    "SplitPredictions",
    "Study",
    "StudyConfig",
    "Table",
    "UserError",
    "__version__",
    "get_space",
    "kernels_from_module",
    "kernels_from_onnx",
    "load_config",
    "spread_palette",
]

_HOME = {
    "Candidate": "search_spaces.candidate",
    "DatasetError": "objectives.data.base",
    "DatasetInfo": "objectives.data.base",
    "DatasetOpener": "objectives.data.registry",
    "FileData": "objectives.data.file_data",
    "FilePair": "objectives.data.file_index",
    "InMemoryData": "objectives.data.memory",
    "KernelSpec": "hw_latency_model.types",
    "LatencyEstimate": "hw_latency_model.types",
    "LatencyModel": "hw_latency_model.model.latency_model",
    "LatencyPredictor": "hw_latency_model.types",
    "NetworkSpace": "search_spaces.spaces.custom",
    "SearchSpace": "search_spaces.space",
    "SegmentationData": "objectives.data.base",
    "SegmentationMetric": "objectives.custom_metric",
    "SplitPredictions": "objectives.custom_metric",
    "Study": "paretoseg.study",
    "StudyConfig": "trial_runner.config.study",
    "Table": "paretoseg.table",
    "UserError": "search_spaces._common.errors",
    "get_space": "search_spaces.registry",
    "kernels_from_module": "hw_latency_model.kernels.extract",
    "kernels_from_onnx": "hw_latency_model.kernels.extract",
    "load_config": "trial_runner.config.load",
    "spread_palette": "search_spaces._common.palette",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("paretoseg")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
