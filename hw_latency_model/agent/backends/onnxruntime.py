"""Backend: ONNX Runtime."""

import importlib
import os
import resource
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ..errors import JobError
from ..files import Json, json_or_none, read_text
from ..parsers import finite
from ..precision import check_precision
from ..statistics import percentile
from .base import Backend, Runner

_ORT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(int64)": "int64",
              "tensor(int32)": "int32", "tensor(uint8)": "uint8", "tensor(int8)": "int8", "tensor(bool)": "bool"}  # fmt: skip


class OnnxRuntime(Backend):
    """Runs the file in its stored precision, on the GPU where ONNX Runtime supports it, otherwise on the CPU."""

    name = "onnxruntime"

    @staticmethod
    def open(spec: Json) -> Runner:
        """Load the ONNX file.

        Raises:
            JobError: it has another precision than the job, or cannot be loaded.
        """
        check_precision(Path(spec["onnx"]), spec["precision"], "ONNX Runtime")
        return OnnxRuntimeRunner(spec)


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


class OnnxRuntimeRunner(Runner):
    """An inference session. With one thread on the CPU, time during which other processes held the core is excluded."""

    def __init__(self, spec: Json) -> None:
        super().__init__()
        self.spec = spec
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        importlib.import_module("numpy")
        importlib.import_module("onnxruntime").disable_telemetry_events()
        self.baseline_mb = peak_memory_mb()
        self.session, self.provider = self._session(profile=False)
        self.facts = {"provider": self.provider}
        self.feeds = self._feeds()
        self.on_one_core = spec["threads"] == 1 and self.provider == "CPUExecutionProvider"

    def _session(self, profile: bool) -> Tuple[Any, str]:
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.spec["threads"]
        options.inter_op_num_threads = 1
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self.spec["work"]) / f"ort-profile-{os.getpid()}")
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        providers = [name for name in wanted if name in runtime.get_available_providers()]
        try:
            session = runtime.InferenceSession(self.spec["onnx"], options, providers=providers)
        except Exception as error:  # its own exceptions derive from nothing narrower
            raise JobError(f"ONNX Runtime cannot load this ONNX: {str(error)[:1000]}") from error
        return session, str(session.get_providers()[0])

    def _feeds(self) -> Json:
        numpy = importlib.import_module("numpy")
        chance = numpy.random.RandomState(0)
        feeds = {}
        for item in self.session.get_inputs():
            shape = [size if isinstance(size, int) and size > 0 else 1 for size in item.shape]
            kind = _ORT_TYPES.get(item.type)
            if kind is None:
                raise JobError(f"input {item.name} is a {item.type}, which the agent cannot make up")
            noise = chance.standard_normal(shape) if kind.startswith("float") else numpy.zeros(shape)
            feeds[item.name] = noise.astype(kind)
        return feeds

    def samples(self, count: int) -> List[float]:
        """Time ``run`` in milliseconds: CPU time on one core where the core was shared, otherwise wall time."""
        found = []
        for _ in range(count):
            core, wall = time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID), time.perf_counter()
            self.session.run(None, self.feeds)
            wall, core = time.perf_counter() - wall, time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID) - core
            found.append((core if self.on_one_core and wall > 1.01 * core > 0 else wall) * 1e3)
        return found

    def run(self, image: bytes) -> Tuple[bytes, float]:
        """Run one network input, float32; return the output, float32, and the wall seconds.

        Raises:
            JobError: the network has not one float32 input of this size, or ONNX Runtime fails.
        """
        numpy = importlib.import_module("numpy")
        (name, example) = next(iter(self.feeds.items()))
        if len(self.feeds) != 1 or example.dtype != numpy.float32 or example.nbytes != len(image):
            raise JobError("it is the file of another network: one float32 input of the images' size is needed")
        begin = time.perf_counter()
        output = self.session.run(None, {name: numpy.frombuffer(image, numpy.float32).reshape(example.shape)})[0]
        seconds = time.perf_counter() - begin
        return numpy.ascontiguousarray(output, numpy.float32).tobytes(), seconds

    def memory_mb(self) -> Optional[float]:
        """Return the increase of peak resident memory since before loading, in MB."""
        return max(0.0, peak_memory_mb() - self.baseline_mb)

    def end_to_end(self, count: int) -> List[float]:
        """Same as ``samples``: inputs and outputs are in host memory, and ``run`` copies them where necessary."""
        return self.samples(count)

    def layers(self) -> List[Tuple[str, float]]:
        """Return the median time of each kernel in milliseconds, from the profiler of ONNX Runtime."""
        session, _ = self._session(profile=True)
        for _ in range(20):
            session.run(None, self.feeds)
        path = Path(session.end_profiling())
        events = json_or_none(read_text(path))
        if path.exists():
            path.unlink()
        times: Dict[str, List[float]] = {}
        for event in events if isinstance(events, list) else []:
            name = event.get("name", "") if isinstance(event, dict) else ""
            duration = finite(event.get("dur")) if name.endswith("_kernel_time") else None
            if duration is not None:
                times.setdefault(name[: -len("_kernel_time")], []).append(duration / 1e3)
        return [(name, percentile(values[5:] or values, 0.5)) for name, values in times.items()]
