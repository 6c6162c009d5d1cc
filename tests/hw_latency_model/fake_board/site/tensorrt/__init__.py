"""A stand-in for TensorRT's Python API that has exactly what the version in FAKE_TRT_VERSION has.

Names, arguments, writable properties and enumerations are those of ``tensorrt_api.json``, NVIDIA's published bindings (7.1 has
those of 7.2, the oldest published). What a version lacks raises AttributeError and a call that its bindings do not
take TypeError, as there; what it insists on (explicit batch, a parent constructor called, every tensor bound to allocated
memory) is insisted on. Times are SIMULATED. Importing it also puts a stand-in behind
``ctypes.CDLL("libcudart.so...")``. An "ONNX" is a JSON text: {"ms": 5.0, "spread": 0.004, "op": "Conv", ...}.
"""

import ctypes
import enum
import hashlib
import json
import os
import signal
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
from board_clock import Board

__version__ = os.environ["FAKE_TRT_VERSION"]
_V = tuple(int(part) for part in __version__.split(".")[:2])
_BOARD = Board(os.environ["FAKE_BOARD_ROOT"])


def _api():
    """The bindings of this release: those of the newest published one that is not newer."""
    tables = json.loads((Path(__file__).resolve().parents[3] / "tensorrt_api.json").read_text())
    releases = sorted(tables, key=lambda text: [int(part) for part in text.split(".")])
    older = [each for each in releases if tuple(int(part) for part in each.split(".")) <= _V]
    return tables[(older or releases)[-1 if older else 0]]


_API = _api()


class _Sealed:
    """pybind11's classes take no attributes that they do not have."""

    _settable = ()

    def __setattr__(self, name, value):
        if not name.startswith("_") and name not in self._settable:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if not name.startswith("_") and value is not None and not _taken("", name, value):
            raise TypeError(f"{type(self).__name__}.{name}: incompatible value {value!r}")
        object.__setattr__(self, name, value)


class _Enum(enum.IntEnum):
    """pybind11's enumerations print as Class.NAME under every Python."""

    def __str__(self):
        return f"{type(self).__name__}.{self.name}"


def _enumeration(name, first=0):
    """An enumeration with the values of this release; None where it has none of that name."""
    if name not in _API:
        return None
    return _Enum(name, {value: first + index for index, value in enumerate(_API[name]["values"])})


class _Severity(_Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = _Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = _Severity

    def __init__(self):
        self._constructed = True


def _log(logger, severity, text):
    if not getattr(logger, "_constructed", False):
        raise TypeError("tensorrt.ILogger.__init__() must be called when overriding __init__")
    logger.log(severity, text)


def init_libnvinfer_plugins(logger, namespace):
    _log(logger, ILogger.VERBOSE, "Registered plugin creator - ::InstanceNormalization_TRT version 1")
    return True


class IProfiler:
    def __init__(self):
        self._constructed = True


NetworkDefinitionCreationFlag = _enumeration("NetworkDefinitionCreationFlag", first=1 if _V >= (11, 0) else 0)
BuilderFlag = _enumeration("BuilderFlag")
MemoryPoolType = _enumeration("MemoryPoolType")
TensorIOMode = _enumeration("TensorIOMode")
LayerType = _enumeration("LayerType")
DataType = _enumeration("DataType")


class IHostMemory(_Sealed):
    """Memory with the buffer protocol, and no sequence: bytes() copies it."""

    def __init__(self, content):
        self._content = content

    nbytes = property(lambda self: len(self._content))

    def __bytes__(self):
        return self._content


class ITimingCache(_Sealed):
    def __init__(self, content):
        self._content = content

    def serialize(self):
        return IHostMemory(self._content)


class ITensor(_Sealed):
    dtype = DataType.FLOAT


class ILayer(_Sealed):
    num_outputs = 1

    def __init__(self, kind, name=""):
        self._type, self._output = kind, None
        self.name = name

    type = property(lambda self: self._type)

    def get_output(self, index):
        return ITensor()

    def set_output_type(self, index, kind):
        self._output = kind


class INetworkDefinition(_Sealed):
    def __init__(self, explicit):
        self._explicit = explicit
        self._model = None
        self._made = None

    @property
    def _layers(self):
        if self._made is None:
            kinds = ("CONVOLUTION", "QUANTIZE" if "quantize" in self._model else "CONVOLUTION")
            named = [ILayer(LayerType.CONVOLUTION, name) for name in self._model.get("nodes", ())]
            scale = LayerType.SCALE  # what TensorRT 7 makes of a quantization
            self._made = [ILayer(getattr(LayerType, kind, scale)) for kind in kinds] + named
        return self._made

    @property
    def num_layers(self):
        return len(self._layers)

    def get_layer(self, index):
        return self._layers[index]


class IBuilderConfig(_Sealed):
    def __init__(self):
        self._flags = set()
        self._cache = None
        self._workspace = None

    def set_flag(self, flag):
        self._flags.add(flag.name)

    def set_memory_pool_limit(self, pool, size):
        self._workspace = (pool, size)

    def create_timing_cache(self, content):
        return ITimingCache(bytes(content))

    def set_timing_cache(self, cache, ignore_mismatch):
        self._cache = cache
        return cache._content in (b"",) or cache._content.startswith(__version__.encode())

    def get_timing_cache(self):
        return self._cache


class OnnxParser(_Sealed):
    def __init__(self, network, logger):
        if not network._explicit:
            raise RuntimeError("network must be created with the EXPLICIT_BATCH flag to be parsed into")
        self._network, self._logger, self._errors = network, logger, []

    def parse(self, content):
        text = bytes(content).decode("latin-1")
        model = json.loads(text[text.index("{") :].split("#", 1)[0])
        if model.get("op") == "HardSwish" and _V < (8, 4):
            _log(
                self._logger, ILogger.INFO, "No importer registered for op: HardSwish. Attempting to import as plugin."
            )
            _log(self._logger, ILogger.ERROR, "3: getPluginCreator could not find plugin: HardSwish version: 1")
            self._errors.append('ModelImporter.cpp:720: While parsing node number 1 [HardSwish -> "407"]:')
            return False
        model["sha"] = hashlib.sha256(bytes(content)).hexdigest()
        self._network._model = model
        return True

    def parse_from_file(self, path):
        return self.parse(Path(path).read_bytes())

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]


class Builder(_Sealed):
    def __init__(self, logger):
        self._logger = logger
        _log(logger, ILogger.INFO, "[MemUsageChange] Init CUDA: CPU +229, GPU +0, now: CPU 248, GPU 3325 (MiB)")

    def create_network(self, flags=0):
        if _V >= (11, 0) and flags & 1:
            raise TypeError("create_network(): EXPLICIT_BATCH was removed")
        return INetworkDefinition(bool(flags & 1) or _V >= (10, 0))

    def create_builder_config(self):
        return IBuilderConfig()

    def build_serialized_network(self, network, config):
        return self._build(network, config)

    def _build(self, network, config):
        model = network._model
        with (_BOARD.root / "builds.log").open("a") as stream:
            stream.write(model["sha"] + "\n")
        time.sleep(model.get("build_s", 0.05))
        fate = model.get("fate")
        if fate == "abort":
            _log(
                self._logger,
                ILogger.ERROR,
                "1: [convolutionRunner.cpp::execute::391] Error Code 1: Cask (Cask convolution execution)",
            )
            os.abort()
        if fate == "oom":
            os.kill(os.getpid(), signal.SIGKILL)
        if fate == "unbuildable":
            _log(
                self._logger,
                ILogger.ERROR,
                "10: [optimizer.cpp::computeCosts::1855] Error Code 10: Could not find any implementation for node",
            )
            return None
        if config._cache is not None:
            config._cache._content = __version__.encode() + b" timings"
        half = "FP16" in config._flags or model.get("typed") == "fp16"
        obeyed = config._flags & {"OBEY_PRECISION_CONSTRAINTS", "STRICT_TYPES"}
        exact = [
            layer.name for layer in network._layers if getattr(layer, "precision", None) == DataType.FLOAT and obeyed
        ]
        plan = {"trt": __version__, "half": half, "model": model, "weights": "0" * model.get("plan_bytes", 100)}
        plan["float32"] = exact
        return IHostMemory(_plan_header() + json.dumps(plan).encode())

    def build_engine(self, network, config):
        content = self._build(network, config)
        return None if content is None else ICudaEngine(json.loads(bytes(content)[80:].decode()))


def _plan_header():
    """The first 64 bytes of a plan: tagged values up to TensorRT 8.2, four plain bytes of version later."""
    parts = [int(part) for part in (__version__ + ".0.0.0").split(".")[:4]]
    if _V < (8, 4):
        tagged = b"".join(b"\x02\x80\x01\x00" + bytes([part]) for part in parts)
        capability = b"".join(b"\x07\x80\x01\x00" + struct.pack("<i", part) for part in (5, 3))
        return (b"ptrt" + bytes(20) + tagged + b"\x12\x80\x01\x00\x10" + capability).ljust(80, b"\0")
    return (b"ftrt" + bytes(20) + bytes(parts)).ljust(80, b"\0")


class Runtime(_Sealed):
    def __init__(self, logger):
        self._logger = logger

    def deserialize_cuda_engine(self, content):
        plan = json.loads(bytes(content)[80:].decode())
        if plan["trt"] != __version__:
            _log(self._logger, ILogger.ERROR, "6: The engine plan file is not compatible with this version of TensorRT")
            return None
        return ICudaEngine(plan)


_SHAPES = ((1, 3, 32, 32), (1, 2, 8, 8))


def _tensors(plan):
    source, result = plan["model"].get("shapes", _SHAPES)
    return (("image", True, source, DataType.FLOAT), ("logits", False, result, DataType.FLOAT))


class ICudaEngine(_Sealed):
    def __init__(self, plan):
        self._plan = plan
        self._list = _tensors(plan)
        self._tensors = {tensor[0]: tensor for tensor in self._list}

    def serialize(self):
        return IHostMemory(_plan_header() + json.dumps(self._plan).encode())

    num_bindings = property(lambda self: len(self._list))
    num_io_tensors = property(lambda self: len(self._list))

    def get_binding_name(self, index):
        return self._list[index][0]

    def binding_is_input(self, index):
        return self._list[index][1]

    def get_binding_shape(self, index):
        return self._list[index][2]

    def get_binding_dtype(self, index):
        return self._list[index][3]

    def get_tensor_name(self, index):
        return self._list[index][0]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if self._tensors[name][1] else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return self._tensors[name][2]

    def get_tensor_dtype(self, name):
        return self._tensors[name][3]

    def create_execution_context(self):
        return IExecutionContext(self._plan)


class IExecutionContext(_Sealed):
    def __init__(self, plan):
        self._plan = plan
        self._list = _tensors(plan)
        self._addresses = {}
        self.profiler = None

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle):
        return self._run([self._addresses[tensor[0]] for tensor in self._list])

    def execute_async_v2(self, bindings, stream_handle):
        return self._run(bindings)

    def execute_v2(self, bindings):
        return self._run(bindings)

    def _run(self, bindings):
        if len(bindings) != len(self._list) or any(address not in _CUDART.allocated for address in bindings):
            raise RuntimeError("a binding is no device memory: illegal memory access")
        model = self._plan["model"]
        if model.get("refuses_to_run"):
            return False
        ms = model["ms"] * (0.6 if self._plan["half"] else 1.0)
        taken = _BOARD.launch(ms, model.get("spread", 0.004))
        if "answer" in model:  # logits in favour of one class
            size = self._list[1][2]
            plane = size[2] * size[3]
            logits = [float(index // plane % size[1] == model["answer"]) for index in range(size[0] * size[1] * plane)]
            ctypes.memmove(bindings[1], struct.pack(f"<{len(logits)}f", *logits), 4 * len(logits))
        if self.profiler is not None:
            for name, share in (("Conv_0 + Relu_1", 0.75), ("Resize_2", 0.25)):
                self.profiler.report_layer_time(name, taken * share)
        return True


def _is_number(value):
    return isinstance(value, int) and not isinstance(value, (bool, enum.Enum))


def _is_text(value):
    return isinstance(value, str)


def _is_buffer(value):
    return isinstance(value, (bytes, bytearray, memoryview))


def _is_true_or_false(value):
    return isinstance(value, bool)


def _are_addresses(value):
    return isinstance(value, list) and all(_is_number(each) for each in value)


# What pybind11 takes for an argument or a property of this name; a kind of object is given by the class's name.
_TAKES = {
    "bindings": _are_addresses,
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "dtype": "DataType",
    "flag": "BuilderFlag",
    "flags": _is_number,
    "ignore_mismatch": _is_true_or_false,
    "index": _is_number,
    "logger": "ILogger",
    "max_workspace_size": _is_number,
    "memory": _is_number,
    "name": _is_text,
    "namespace": _is_text,
    "network": "INetworkDefinition",
    "pool": "MemoryPoolType",
    "pool_size": _is_number,
    "precision": "DataType",
    "profiler": "IProfiler",
    "serialized_engine": _is_buffer,
    "serialized_timing_cache": _is_buffer,
    "stream_handle": _is_number,
}
_BY_METHOD = {("parse", "model"): _is_buffer, ("parse_from_file", "model"): _is_text}


def _taken(method, argument, value):
    """True where an argument or property takes the value; KeyError for one that is used here for the first time."""
    takes = _BY_METHOD.get((method, argument)) or _TAKES[argument]
    return isinstance(value, globals()[takes]) if isinstance(takes, str) else takes(value)


def _bound(method, overload, given, named):
    """Values of an overload's arguments in order, or None where the call does not fit it."""
    names = [each.rstrip("=") for each in overload]
    needed = {each for each in overload if not each.endswith("=")}
    values = {name: given[index] for index, name in enumerate(names[: len(given)])}
    values.update(named)
    if len(given) > len(names) or set(names[: len(given)]) & set(named) or set(values) - set(names):
        return None
    if needed - set(values):
        return None
    if not all(_taken(method, name, value) for name, value in values.items()):
        return None
    return [values[name] for name in names if name in values]


def _checked(owner, name, overloads, function):
    """The function, which takes the arguments of its published overloads only."""

    def call(self, *given, **named):
        for overload in overloads:
            values = _bound(name, overload, given, named)
            if values is not None:
                return function(self, *values)
        raise TypeError(
            f"{owner}.{name}(): incompatible function arguments. Supported: {overloads}; invoked with: {given!r} {named!r}"
        )

    return call


def _hold_to_bindings(kind):
    """Take from a class what this release lacks, and check the arguments of the rest."""
    table = _API[kind.__name__]
    methods, properties = table.get("methods", {}), table.get("properties", {})
    kind._settable = [name for name, access in properties.items() if "w" in access]
    for name in [each for each in vars(kind) if not each.startswith("_") or each == "__init__"]:
        if name in methods:
            setattr(kind, name, _checked(kind.__name__, name, methods[name], vars(kind)[name]))
        elif name not in properties and name != "__init__":
            delattr(kind, name)


for _name in [each for each in list(globals()) if isinstance(globals()[each], type) and not each.startswith("_")]:
    _kind = globals()[_name]
    if _kind.__module__ == __name__ and issubclass(_kind, _Sealed):
        if _name in _API:
            _hold_to_bindings(_kind)
        else:
            del globals()[_name]
for _name in (
    "NetworkDefinitionCreationFlag",
    "BuilderFlag",
    "MemoryPoolType",
    "TensorIOMode",
    "LayerType",
    "DataType",
):
    if globals()[_name] is None:
        del globals()[_name]
if "init_libnvinfer_plugins" not in _API["functions"]:
    del init_libnvinfer_plugins


class _Function:
    """Stand-in for a ctypes function: callable, with ``restype`` to set."""

    def __init__(self, function):
        self._function = function

    def __call__(self, *arguments):
        return self._function(*arguments)


class _Cudart:
    """libcudart with real host memory behind the addresses and the simulated GPU's clock behind the events."""

    def __init__(self):
        self.allocated = {}
        self._events = {}
        for name in dir(self):
            if name.startswith("_cuda"):
                setattr(self, name[1:], _Function(getattr(self, name)))

    def _cudaGetErrorString(self, code):
        return b"invalid argument"

    def _cudaMalloc(self, pointer, size):
        block = ctypes.create_string_buffer(size.value)
        pointer._obj.value = ctypes.addressof(block)
        self.allocated[pointer._obj.value] = block
        return 0

    def _cudaHostAlloc(self, pointer, size, flags):
        return self._cudaMalloc(pointer, size)

    def _cudaStreamCreate(self, pointer):
        pointer._obj.value = 77
        return 0

    def _cudaEventCreate(self, pointer):
        pointer._obj.value = len(self._events) + 100
        self._events[pointer._obj.value] = None
        return 0

    def _cudaEventRecord(self, event, stream):
        self._events[event.value] = _BOARD.gpu_ms
        return 0 if stream.value == 77 else 1

    def _cudaEventSynchronize(self, event):
        return 0 if self._events.get(event.value) is not None else 1

    def _cudaEventElapsedTime(self, milliseconds, begin, end):
        milliseconds._obj.value = self._events[end.value] - self._events[begin.value]
        return 0

    def _cudaStreamSynchronize(self, stream):
        return 0

    def _cudaMemcpyAsync(self, target, source, size, kind, stream):
        if target.value not in self.allocated or source.value not in self.allocated:
            return 1
        ctypes.memmove(target.value, source.value, size.value)
        return 0

    def _cudaDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {75: 5, 76: 3}[attribute.value]
        return 0

    def _cudaMemGetInfo(self, free, total):
        used = sum(len(block) for block in self.allocated.values())
        free._obj.value, total._obj.value = (2 << 30) - used, 4 << 30
        return 0


_CUDART = _Cudart()
_real_cdll = ctypes.CDLL


def _cdll(name, *arguments, **options):
    if isinstance(name, str) and "libcudart" in name:
        return _CUDART
    return _real_cdll(name, *arguments, **options)


ctypes.CDLL = _cdll
