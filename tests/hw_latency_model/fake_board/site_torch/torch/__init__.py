"""A stand-in for the few calls of torch that timing a CUDA graph takes; SIMULATED times, the order of calls is enforced.

A "TorchScript file" is a JSON text {"ms": 2.0}. Capturing without a warm-up on a side stream, replaying before capture and
reading an event before it was waited for are refused, as CUDA refuses or garbles them.
"""

import contextlib
import json
from pathlib import Path

__version__ = "2.15.0+standin"
float32, float16 = "float32", "float16"
no_grad = contextlib.nullcontext
_state = {"now": 0.0, "warm": 0, "capturing": None, "stream": "default"}


class Tensor:
    def __init__(self, kind=float32, place="cpu", pinned=False):
        self.kind, self.place, self.pinned = kind, place, pinned

    def to(self, target):
        if target in (float32, float16):
            return Tensor(target, self.place)
        return Tensor(self.kind, target)

    def pin_memory(self):
        return Tensor(self.kind, self.place, True)

    def copy_(self, other, non_blocking=False):
        assert other.kind == self.kind and other.pinned


def randn(*shape):
    assert len(shape) == 4
    return Tensor()


class _Network:
    def __init__(self, facts):
        self.facts, self.kind = facts, float32

    def eval(self):
        return self

    def to(self, kind):
        self.kind = kind
        return self

    def __call__(self, image):
        if image.kind != self.kind or image.place != "cuda":
            raise RuntimeError("Input type and weight type should be the same")
        if _state["capturing"] is not None:
            _state["capturing"].ms = self.facts["ms"] * (0.6 if self.kind == float16 else 1.0)
        elif _state["stream"] != "default":
            _state["warm"] += 1
        return Tensor(self.kind, "cuda")


class jit:
    @staticmethod
    def load(path, map_location):
        assert map_location == "cuda"
        return _Network(json.loads(Path(path).read_text()))


class _Event:
    def __init__(self, enable_timing):
        self.at, self.waited = None, False

    def record(self):
        self.at, self.waited = _state["now"], False

    def synchronize(self):
        self.waited = True

    def elapsed_time(self, end):
        if not end.waited:
            raise RuntimeError("the event has not been waited for")
        return end.at - self.at


class _Graph:
    ms = None

    def replay(self):
        if self.ms is None:
            raise RuntimeError("replay of a graph that was not captured")
        _state["now"] += self.ms


class _Stream:
    def __init__(self):
        self.waits = 0

    def wait_stream(self, other):
        self.waits += 1


class cuda:
    CUDAGraph = _Graph
    Stream = _Stream
    Event = _Event
    _current = _Stream()

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def get_device_name(index):
        return "stand-in"

    @staticmethod
    def current_stream():
        return cuda._current

    @staticmethod
    @contextlib.contextmanager
    def stream(side):
        assert side.waits
        _state["stream"] = side
        yield
        _state["stream"] = "default"

    @staticmethod
    @contextlib.contextmanager
    def graph(graph):
        if _state["warm"] < 1 or not cuda._current.waits:
            raise RuntimeError("capture without a warm-up on a side stream")
        _state["capturing"] = graph
        yield
        _state["capturing"], _state["warm"] = None, 0

    @staticmethod
    def synchronize():
        pass

    @staticmethod
    def reset_peak_memory_stats():
        pass

    @staticmethod
    def max_memory_allocated():
        return 64 << 20
