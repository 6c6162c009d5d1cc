"""Inference with ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from exports.errors import ExportError

onnxruntime.disable_telemetry_events()

FloatArray = NDArray[np.float32]

_LOAD_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidProtobuf,
    ort_errors.InvalidGraph,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


def create_session(path: Path, threads: int = 1, *, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """Load an ONNX file into ONNX Runtime on the CPU.

    Args:
        path: the ONNX file.
        threads: ONNX Runtime threads inside one operator; 1 for repeatable latencies.
        profile: prefix of the file that ONNX Runtime's profiler writes; None: no profiling.

    Raises:
        ExportError: the file is missing or ONNX Runtime cannot run it.
        ValueError: ``threads`` is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    if not path.is_file():
        raise ExportError(f"there is no ONNX model at {path}. Export the trial again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _LOAD_ERRORS as error:
        raise ExportError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {' '.join(str(error).split())[:200]}. "
            "Export the trial again; if it fails again, the file was made for another runtime."
        ) from error


class OnnxSession:
    """A loaded ONNX network: static batch 1, float32 input and output.

    Args:
        path: the ONNX file.
        threads: ONNX Runtime threads inside one operator; 1 for repeatable latencies.

    Attributes:
        input_name, output_name: tensor names of the graph.
        input_shape: (1, 3, height, width).
        output_shape: (1, classes, h, w).

    Raises:
        ExportError: the file is missing or ONNX Runtime cannot run it.
        ValueError: ``threads`` is below 1.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = create_session(path, threads)
        source, target = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self.path = path
        self.threads = threads
        self.input_name: str = source.name
        self.output_name: str = target.name
        self.input_shape: tuple[int, ...] = tuple(source.shape)
        self.output_shape: tuple[int, ...] = tuple(target.shape)

    @property
    def input_hw(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.input_shape[2], self.input_shape[3]

    def run(self, images: FloatArray) -> FloatArray:
        """Compute logits (N, classes, h, w) of normalised float32 ``images`` (N, 3, height, width), one image at a time.

        Raises:
            ValueError: dtype or shape does not match the graph's input.
        """
        if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != self.input_shape[1:]:
            raise ValueError(
                f"{self.path.name} takes float32 images of shape (N, {', '.join(map(str, self.input_shape[1:]))}), "
                f"not {images.dtype} {images.shape}"
            )
        logits = [self.run_one(np.ascontiguousarray(images[index : index + 1])) for index in range(len(images))]
        return np.concatenate(logits) if logits else np.zeros((0, *self.output_shape[1:]), np.float32)

    def run_one(self, image: FloatArray) -> FloatArray:
        """Compute logits (1, classes, h, w) of one contiguous image (1, 3, height, width); latency is measured on this call."""
        output: FloatArray = self._session.run([self.output_name], {self.input_name: image})[0]
        return output
