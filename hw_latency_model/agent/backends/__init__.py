"""Backends of the agent, in the order in which ``auto`` tries them."""

from typing import Dict, Tuple, Type

from .base import Backend
from .onnxruntime import OnnxRuntime
from .tensorrt import TensorRt
from .torch import TorchCuda
from .trtexec import TrtExec

_ALL: Tuple[Type[Backend], ...] = (TensorRt, TrtExec, OnnxRuntime, TorchCuda)
BACKENDS: Dict[str, Type[Backend]] = {backend.name: backend for backend in _ALL}
