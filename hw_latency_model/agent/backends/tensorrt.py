"""Backend: Python API of TensorRT, 7.1 to 11."""

import ctypes
import importlib
import random
import struct
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from ..console import say
from ..errors import JobError, StaleEngine
from ..files import Json, write_durably
from ..precision import check_precision
from ..statistics import percentile
from .base import Backend, Runner
from .cuda_runtime import CudaRuntime

_TRT_BITS = {"FLOAT": 32, "HALF": 16, "BF16": 16, "INT8": 8, "UINT8": 8, "BOOL": 8, "FP8": 8, "INT32": 32, "INT64": 64}


class Tensor(NamedTuple):
    """An input or output of an engine, with the addresses of its device and pinned host buffers."""

    name: str
    is_input: bool
    size_bytes: int
    is_float32: bool
    device: int
    host: int


def _trt_logger(trt: Any) -> Any:
    """Create a TensorRT logger that prints to stderr; a failure record keeps the end of that output."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = "it gave no reason"

        def log(self, severity: Any, message: str) -> None:
            name = str(severity).rsplit(".", 1)[-1]
            if "ERROR" in name:
                self.last_error = message[:500]
            if name != "VERBOSE":
                say(f"[TRT] {name}: {message}", sys.stderr)

    return Logger()


class TensorRt(Backend):
    """Builds and runs engines with the API of the installed version, detected by its attributes."""

    name = "tensorrt"
    needs_build = True

    @classmethod
    def version(cls, spec: Json) -> Optional[str]:
        """Return the version of the Python module, after loading the CUDA runtime."""
        version = super().version(spec)
        CudaRuntime()
        return version

    @staticmethod
    def build(spec: Json) -> Json:
        """Build and save an engine; return the build time in seconds.

        Raises:
            JobError: TensorRT cannot parse or build the network, or not in this precision.
            OSError: the engine cannot be written.
        """
        trt = importlib.import_module("tensorrt")
        logger = _trt_logger(trt)
        if hasattr(trt, "init_libnvinfer_plugins"):
            trt.init_libnvinfer_plugins(logger, "")
        builder = trt.Builder(logger)
        explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
        network = builder.create_network(1 << int(explicit) if explicit is not None else 0)
        parser = trt.OnnxParser(network, logger)
        if hasattr(parser, "parse_from_file"):
            parsed = parser.parse_from_file(spec["onnx"])
        else:
            parsed = parser.parse(Path(spec["onnx"]).read_bytes())
        if not parsed:
            errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
            raise JobError("TensorRT cannot read this ONNX: {}".format("; ".join(errors)[:1000] or "no reason given"))
        config = builder.create_builder_config()
        if hasattr(config, "set_memory_pool_limit"):
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, spec["workspace_mb"] << 20)
        else:
            config.max_workspace_size = spec["workspace_mb"] << 20
        TensorRt._set_precision(trt, config, network, spec)
        if spec["precision"] == "fp16" and spec.get("keep_fp32"):
            TensorRt._keep_float32(trt, config, network, spec["keep_fp32"])
        cache = TensorRt._timing_cache(config, Path(spec["cache"]))
        begin = time.monotonic()
        plan = TensorRt._serialized(builder, network, config)
        if plan is None:
            raise JobError("TensorRT could not build an engine: " + logger.last_error)
        seconds = time.monotonic() - begin
        write_durably(Path(spec["plan"]), bytes(plan))
        if cache:
            write_durably(Path(spec["cache"]), bytes(config.get_timing_cache().serialize()))
        return {"build_s": seconds}

    @staticmethod
    def _serialized(builder: Any, network: Any, config: Any) -> Any:
        """Build the engine and return it serialized; None for a failed build."""
        if hasattr(builder, "build_serialized_network"):
            return builder.build_serialized_network(network, config)
        engine = builder.build_engine(network, config)  # TensorRT 7
        return None if engine is None else engine.serialize()

    @staticmethod
    def _set_precision(trt: Any, config: Any, network: Any, spec: Json) -> None:
        asked = spec["precision"]
        if asked == "fp32":
            if not hasattr(trt.BuilderFlag, "FP16"):
                check_precision(Path(spec["onnx"]), asked, "this TensorRT")
        elif asked == "fp16":
            if hasattr(trt.BuilderFlag, "FP16"):
                config.set_flag(trt.BuilderFlag.FP16)
            else:
                check_precision(Path(spec["onnx"]), asked, "this TensorRT")
        elif asked == "int8":
            kinds = {network.get_layer(index).type for index in range(network.num_layers)}
            if not hasattr(trt.LayerType, "QUANTIZE") or trt.LayerType.QUANTIZE not in kinds:
                raise JobError("int8 needs an ONNX with QuantizeLinear/DequantizeLinear nodes, and this one has none")
            for flag in ("INT8", "FP16"):
                if hasattr(trt.BuilderFlag, flag):
                    config.set_flag(getattr(trt.BuilderFlag, flag))
        else:
            raise JobError(f"precision is fp32, fp16 or int8, not {asked!r}")

    @staticmethod
    def _keep_float32(trt: Any, config: Any, network: Any, names: Iterable[str]) -> None:
        """Keep the layers of these ONNX nodes in float32; without flags for it the file holds every precision itself."""
        flags = [name for name in ("OBEY_PRECISION_CONSTRAINTS", "STRICT_TYPES") if hasattr(trt.BuilderFlag, name)]
        if not flags:
            return
        config.set_flag(getattr(trt.BuilderFlag, flags[0]))
        left = set(names)
        for layer in [network.get_layer(index) for index in range(network.num_layers)]:
            if layer.name in left:
                left.discard(layer.name)
                layer.precision = trt.DataType.FLOAT
                for index in range(layer.num_outputs):
                    if layer.get_output(index).dtype == trt.DataType.FLOAT:
                        layer.set_output_type(index, trt.DataType.FLOAT)
        if left:
            say("no layer is called {}: TensorRT chooses their precision".format(", ".join(sorted(left))), sys.stderr)

    @staticmethod
    def _timing_cache(config: Any, path: Path) -> bool:
        """Load the timing cache of earlier builds, which spend most of their time on tactics; False where unsupported."""
        if not hasattr(config, "create_timing_cache"):
            return False
        content = path.read_bytes() if path.exists() else b""
        if not config.set_timing_cache(config.create_timing_cache(content), False):
            config.set_timing_cache(config.create_timing_cache(b""), False)
        return True

    @staticmethod
    def open(spec: Json) -> Runner:
        """Deserialize the engine ``spec["plan"]``."""
        return TensorRtRunner(Path(spec["plan"]))


class TensorRtRunner(Runner):
    """A deserialized engine with its buffers.

    Raises:
        StaleEngine: the installed TensorRT rejects the engine.
        JobError: no context, or dynamic shapes.
    """

    def __init__(self, plan: Path) -> None:
        super().__init__()
        trt = importlib.import_module("tensorrt")
        self.trt = trt
        self.cuda = CudaRuntime()
        self.stream = self.cuda.stream()
        self.free_before = self.cuda.free_bytes()
        self.logger = _trt_logger(trt)
        if hasattr(trt, "init_libnvinfer_plugins"):
            trt.init_libnvinfer_plugins(self.logger, "")
        self.runtime = trt.Runtime(self.logger)
        self.engine = self.runtime.deserialize_cuda_engine(plan.read_bytes())
        if self.engine is None:
            raise StaleEngine(f"this TensorRT does not take the kept engine {plan}")
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise JobError("no execution context: not enough memory on the device?")
        self.by_name = hasattr(self.engine, "num_io_tensors")
        self.tensors = self._by_name() if self.by_name else self._by_index()
        self.pointers = [tensor.device for tensor in self.tensors]
        self.asynchronous = self._launcher()
        self.begin_event, self.end_event = self.cuda.event(), self.cuda.event()
        for tensor in self.tensors:
            self._fill(tensor)
        self.least_free = self.cuda.free_bytes()

    def _by_name(self) -> List[Tensor]:
        found = []
        for index in range(self.engine.num_io_tensors):
            name = self.engine.get_tensor_name(index)
            is_input = self.engine.get_tensor_mode(name) == self.trt.TensorIOMode.INPUT
            shape, kind = self.engine.get_tensor_shape(name), self.engine.get_tensor_dtype(name)
            found.append(self._tensor(name, is_input, shape, kind))
            self.context.set_tensor_address(name, found[-1].device)
        return found

    def _by_index(self) -> List[Tensor]:
        return [
            self._tensor(
                self.engine.get_binding_name(index),
                self.engine.binding_is_input(index),
                self.engine.get_binding_shape(index),
                self.engine.get_binding_dtype(index),
            )
            for index in range(self.engine.num_bindings)
        ]

    def _tensor(self, name: str, is_input: bool, shape: Iterable[int], kind: Any) -> Tensor:
        sizes = [int(size) for size in shape]
        if any(size < 0 for size in sizes):
            raise JobError(f"{name} has the shape {sizes}: export it with fixed shapes")
        count = 1
        for size in sizes:
            count *= size
        kind_name = str(kind).rsplit(".", 1)[-1].upper()
        size_bytes = max(1, count * _TRT_BITS.get(kind_name, 32) // 8)
        device, host = self.cuda.malloc(size_bytes), self.cuda.host_alloc(size_bytes)
        return Tensor(name, bool(is_input), size_bytes, kind_name == "FLOAT", device, host)

    def _fill(self, tensor: Tensor) -> None:
        """Fill float inputs with noise and other tensors with zeros; an input of zeros would draw less power than an image."""
        ctypes.memset(tensor.host, 0, tensor.size_bytes)
        if tensor.is_input and tensor.is_float32:
            chance = random.Random(0)
            block = struct.pack("<4096f", *(chance.gauss(0, 1) for _ in range(4096)))
            content = (block * (tensor.size_bytes // len(block) + 1))[: tensor.size_bytes]
            ctypes.memmove(tensor.host, content, tensor.size_bytes)
        self.cuda.copy(tensor.device, tensor.host, tensor.size_bytes, self.cuda.TO_DEVICE, self.stream)
        self.cuda.synchronize(self.stream)

    def _launcher(self) -> Callable[[], Any]:
        if self.by_name and hasattr(self.context, "execute_async_v3"):
            return lambda: self.context.execute_async_v3(self.stream)
        return lambda: self.context.execute_async_v2(self.pointers, self.stream)

    def _launch(self) -> None:
        if not self.asynchronous():
            raise JobError("TensorRT refused to run the engine: " + self.logger.last_error)

    def samples(self, count: int) -> List[float]:
        """Time the engine between CUDA events, in milliseconds."""
        found = []
        for _ in range(count):
            self.cuda.record(self.begin_event, self.stream)
            self._launch()
            self.cuda.record(self.end_event, self.stream)
            found.append(self.cuda.elapsed_ms(self.begin_event, self.end_event))
        self.least_free = min(self.least_free, self.cuda.free_bytes())
        return found

    def run(self, image: bytes) -> Tuple[bytes, float]:
        """Run one network input, float32; return the output, float32, and the seconds of the engine alone.

        Raises:
            JobError: the engine has not one float32 input of this size and one float32 output.
        """
        inputs = [tensor for tensor in self.tensors if tensor.is_input]
        outputs = [tensor for tensor in self.tensors if not tensor.is_input]
        if len(inputs) != 1 or len(outputs) != 1 or not (inputs[0].is_float32 and outputs[0].is_float32):
            raise JobError("it is the plan of another network: one float32 input and one float32 output are needed")
        source, result = inputs[0], outputs[0]
        if len(image) != source.size_bytes:
            raise JobError("the plan was built for another input size or batch; build it again")
        ctypes.memmove(source.host, image, len(image))
        self.cuda.copy(source.device, source.host, source.size_bytes, self.cuda.TO_DEVICE, self.stream)
        seconds = self.samples(1)[0] / 1e3
        self.cuda.copy(result.host, result.device, result.size_bytes, self.cuda.TO_HOST, self.stream)
        self.cuda.synchronize(self.stream)
        return ctypes.string_at(result.host, result.size_bytes), seconds

    def end_to_end(self, count: int) -> List[float]:
        """Time the engine with copies from and to pinned host memory, in milliseconds."""
        found = []
        for _ in range(count):
            begin = time.perf_counter()
            for tensor in self.tensors:
                if tensor.is_input:
                    self.cuda.copy(tensor.device, tensor.host, tensor.size_bytes, self.cuda.TO_DEVICE, self.stream)
            self._launch()
            for tensor in self.tensors:
                if not tensor.is_input:
                    self.cuda.copy(tensor.host, tensor.device, tensor.size_bytes, self.cuda.TO_HOST, self.stream)
            self.cuda.synchronize(self.stream)
            found.append((time.perf_counter() - begin) * 1e3)
        return found

    def layers(self) -> List[Tuple[str, float]]:
        """Return the median time of each layer in milliseconds, from the TensorRT profiler."""
        trt = self.trt

        class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)
                self.times: Dict[str, List[float]] = {}

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                self.times.setdefault(layer_name, []).append(ms)

        profiler = Profiler()
        self.context.profiler = profiler
        for _ in range(25):
            if not self.context.execute_v2(self.pointers):
                raise JobError("TensorRT refused to run the engine with its profiler")
        return [(name, percentile(times[5:] or times, 0.5)) for name, times in profiler.times.items()]

    def memory_mb(self) -> Optional[float]:
        """Return the largest decrease of free device memory since loading, in MB."""
        return max(0, self.free_before - self.least_free) / float(1 << 20)
