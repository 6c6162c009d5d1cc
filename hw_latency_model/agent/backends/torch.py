"""Backend: torch with CUDA graphs, for hosts with torch."""

import importlib
import time
from typing import Any, List, Optional

from ..errors import JobError
from ..files import Json
from .base import Backend, Runner


class TorchCuda(Backend):
    """Replays a CUDA graph of the TorchScript file ``torchscript`` of a job, with its ``input_shape``."""

    name = "torch"

    @classmethod
    def version(cls, spec: Json) -> Optional[str]:
        """Return the version of torch.

        Raises:
            ImportError: torch is not installed.
            JobError: torch finds no CUDA device.
        """
        version = super().version(spec)
        _torch_with_cuda()
        return version

    @staticmethod
    def open(spec: Json) -> Runner:
        """Load the TorchScript file and capture it.

        Raises:
            JobError: the job names no TorchScript or another precision, or torch finds no CUDA device.
        """
        if not spec.get("torchscript") or not spec.get("input_shape"):
            raise JobError("the torch backend runs TorchScript: the job needs torchscript (a file) and input_shape")
        return TorchRunner(spec)


def _torch_with_cuda() -> Any:
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise JobError("torch sees no CUDA device here")
    return torch


class TorchRunner(Runner):
    """A captured CUDA graph with its input and output on the device."""

    def __init__(self, spec: Json) -> None:
        super().__init__()
        torch = _torch_with_cuda()
        kinds = {"fp32": torch.float32, "fp16": torch.float16}
        if spec["precision"] not in kinds:
            raise JobError("the torch backend runs fp32 and fp16, not {}".format(spec["precision"]))
        kind = kinds[spec["precision"]]
        self.torch = torch
        self.facts = {"provider": torch.cuda.get_device_name(0)}
        network = torch.jit.load(spec["torchscript"], map_location="cuda").eval().to(kind)
        self.host = torch.randn(*spec["input_shape"]).to(kind).pin_memory()
        self.image = self.host.to("cuda")
        with torch.no_grad():
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    network(self.image)
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.reset_peak_memory_stats()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.output = network(self.image)

    def samples(self, count: int) -> List[float]:
        """Time graph replays between CUDA events, in milliseconds."""
        found = []
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(count):
            begin.record()
            self.graph.replay()
            end.record()
            end.synchronize()
            found.append(float(begin.elapsed_time(end)))
        return found

    def end_to_end(self, count: int) -> List[float]:
        """Time graph replays with copies from pinned host memory and back, in milliseconds."""
        found = []
        for _ in range(count):
            begin = time.perf_counter()
            self.image.copy_(self.host, non_blocking=True)
            self.graph.replay()
            for output in self.output if isinstance(self.output, (tuple, list)) else (self.output,):
                output.to("cpu")
            self.torch.cuda.synchronize()
            found.append((time.perf_counter() - begin) * 1e3)
        return found

    def memory_mb(self) -> Optional[float]:
        """Return the peak memory allocated by torch since the capture, in MB."""
        return float(self.torch.cuda.max_memory_allocated()) / (1 << 20)
