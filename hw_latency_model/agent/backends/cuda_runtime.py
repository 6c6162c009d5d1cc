"""CUDA runtime API through ctypes."""

import ctypes
import glob
import sys
from pathlib import Path
from typing import Any, Tuple

from ..errors import JobError


class CudaRuntime:
    """The libcudart calls needed to time an engine. Each raises JobError with the message of CUDA."""

    NAMES = ("libcudart.so", "libcudart.so.10.2", "libcudart.so.11.0", "libcudart.so.12", "libcudart.so.13")
    FOLDERS = ("", "/usr/local/cuda/lib64/", "/usr/lib/aarch64-linux-gnu/")
    TO_DEVICE, TO_HOST = 1, 2

    def __init__(self) -> None:
        self.lib = self._load()
        self.lib.cudaGetErrorString.restype = ctypes.c_char_p

    def _load(self) -> Any:
        wheels = [
            path
            for folder in sys.path
            for path in glob.glob(str(Path(folder) / "nvidia" / "*" / "lib" / "libcudart.so.*"))  # noqa: PTH207
        ]
        for name in [folder + name for folder in self.FOLDERS for name in self.NAMES] + wheels:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
        raise JobError("CUDA's runtime (libcudart.so) was not found; is CUDA installed on this board?")

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self.lib, name)(*arguments)
        if code != 0:
            text = self.lib.cudaGetErrorString(code)
            raise JobError("{}: {}".format(name, text.decode("utf-8", "replace") if text else code))

    def _new(self, name: str, *arguments: Any) -> int:
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def malloc(self, size: int) -> int:
        """Allocate ``size`` bytes of device memory; return the address."""
        return self._new("cudaMalloc", ctypes.c_size_t(size))

    def host_alloc(self, size: int) -> int:
        """Allocate ``size`` bytes of pinned host memory, which is copied without staging; return the address."""
        return self._new("cudaHostAlloc", ctypes.c_size_t(size), ctypes.c_uint(0))

    def stream(self) -> int:
        """Create a stream."""
        return self._new("cudaStreamCreate")

    def event(self) -> int:
        """Create an event."""
        return self._new("cudaEventCreate")

    def record(self, event: int, stream: int) -> None:
        """Record an event in a stream."""
        self._call("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def elapsed_ms(self, begin: int, end: int) -> float:
        """Wait for the event ``end``; return the milliseconds since ``begin``."""
        self._call("cudaEventSynchronize", ctypes.c_void_p(end))
        value = ctypes.c_float()
        self._call("cudaEventElapsedTime", ctypes.byref(value), ctypes.c_void_p(begin), ctypes.c_void_p(end))
        return float(value.value)

    def synchronize(self, stream: int) -> None:
        """Wait for all work of a stream."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        """Copy ``size`` bytes asynchronously; ``kind`` is TO_DEVICE or TO_HOST."""
        self._call(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    def free_bytes(self) -> int:
        """Return the free device memory in bytes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return int(free.value)

    def compute_capability(self) -> Tuple[int, int]:
        """Return the compute capability of the first GPU: (5, 3) for the Jetson Nano."""
        return self._attribute(75), self._attribute(76)

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), ctypes.c_int(0))
        return int(value.value)
