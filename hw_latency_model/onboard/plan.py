"""TensorRT plans: their header, and a loaded engine that takes images."""

import importlib
import struct
import tempfile
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hw_latency_model.agent.backends.cuda_runtime import CudaRuntime
from hw_latency_model.agent.backends.tensorrt import TensorRt, TensorRtRunner
from hw_latency_model.agent.errors import JobError

_BYTE, _INTEGER = b"\x02\x80\x01\x00", b"\x07\x80\x01\x00"


class PlanHeader(NamedTuple):
    """The TensorRT and the GPU that a plan was built for; None where its header does not tell."""

    version: Optional[Tuple[int, ...]]
    capability: Optional[Tuple[int, int]]


def plan_header(plan: bytes) -> PlanHeader:
    """Read the header of a plan.

    TensorRT 8.2 writes values with a type tag: four bytes of version from byte 24 on, then the compute capability. Later releases
    write the version as four plain bytes at 24 and no capability in a known place.

    Raises:
        JobError: the content is no plan.
    """
    if plan[:4] not in (b"ptrt", b"ftrt") or len(plan) < 64:
        raise JobError("it is no TensorRT plan")
    if plan[24:28] != _BYTE:
        version = tuple(bytearray(plan[24:28]))
        return PlanHeader(version if 7 <= version[0] <= 20 else None, None)
    version = tuple(plan[at + 4] for at in (24, 29, 34, 39) if plan[at : at + 4] == _BYTE)
    at = plan.find(_INTEGER, 44)
    values: List[int] = []
    while 0 < at < 96 and plan[at : at + 4] == _INTEGER and len(values) < 2:
        values.append(struct.unpack("<i", plan[at + 4 : at + 8])[0])
        at += 8
    return PlanHeader(version if len(version) == 4 else None, (values[0], values[1]) if len(values) == 2 else None)


def check_plan(plan: bytes, version: str, capability: Tuple[int, int]) -> None:
    """Compare a plan with the installed TensorRT and GPU.

    Raises:
        JobError: it was built for others.
    """
    header = plan_header(plan)
    installed = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if header.version is not None and header.version[: len(installed)] != installed:
        made = ".".join(str(part) for part in header.version)
        raise JobError("it was built by TensorRT {}, this board has {}".format(made, version))
    if header.capability is not None and header.capability != tuple(capability):
        text = "it was built for a GPU of compute capability {}.{}, this one has {}.{}"
        raise JobError(text.format(*(header.capability + tuple(capability))))


def build_plan(
    onnx: Path, plan: Path, cache: Path, precision: str, workspace_mb: int, keep_fp32: Sequence[str] = ()
) -> float:
    """Build a plan with the agent's code and this board's TensorRT; return the seconds.

    Args:
        keep_fp32: ONNX nodes that stay in float32 in FP16.

    Raises:
        ImportError: TensorRT is not installed.
        JobError: it cannot build the network.
        OSError: the plan cannot be written.
    """
    spec = {
        "onnx": str(onnx),
        "plan": str(plan),
        "cache": str(cache),
        "precision": precision,
        "workspace_mb": workspace_mb,
        "keep_fp32": list(keep_fp32),
    }
    return float(TensorRt.build(spec)["build_s"])


class PlanNetwork(object):
    """A loaded plan with one float32 input (batch, 3, height, width) and one float32 output.

    Raises:
        ImportError: TensorRT is not installed.
        JobError: the plan does not fit this board or network, or there is no CUDA.
        StaleEngine: TensorRT rejects the plan.
    """

    name = "tensorrt"

    def __init__(self, plan: bytes) -> None:
        version = str(importlib.import_module("tensorrt").__version__)
        check_plan(plan, version, CudaRuntime().compute_capability())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.plan"
            path.write_bytes(plan)
            self.runner = TensorRtRunner(path)

    def run(self, images: Any, output_shape: Tuple[int, ...]) -> Tuple[Any, float]:
        """Run images, float32 (N, 3, height, width); return logits of ``output_shape`` and the seconds of the engine alone.

        Raises:
            JobError: the plan has inputs or outputs of other sizes.
        """
        content, seconds = self.runner.run(np.ascontiguousarray(images, np.float32).tobytes())
        logits = np.frombuffer(content, np.float32)
        if logits.size != int(np.prod(output_shape)):
            raise JobError("the plan was built for another input size or batch; build it again")
        return logits.reshape(output_shape), seconds
