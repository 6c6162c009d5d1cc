"""Interface of a backend and of the runner that times one network with it."""

import abc
import importlib
import time
from typing import List, NamedTuple, Optional, Tuple

from ..errors import JobError
from ..files import Json


class Loop(NamedTuple):
    """A steady loop: number of runs between two ``time.monotonic`` times in seconds."""

    runs: int
    begin: float
    end: float


class Runner(abc.ABC):
    """One network, ready to run.

    Attributes:
        rounds_at_most: limit on the rounds of the protocol, for runners whose rounds are expensive.
        warms_itself: ``samples`` includes a warm-up.
        facts: fields added to the measurement record.
    """

    rounds_at_most = 1000000
    warms_itself = False

    def __init__(self) -> None:
        self.facts: Json = {}

    @abc.abstractmethod
    def samples(self, count: int) -> List[float]:
        """Time ``count`` runs or more of the network alone; milliseconds each."""

    @abc.abstractmethod
    def end_to_end(self, count: int) -> List[float]:
        """Time ``count`` runs or more including copies of inputs and outputs; milliseconds each."""

    def loop(self, seconds: float) -> Loop:
        """Run without pause for about ``seconds``."""
        begin = time.monotonic()
        runs = 0
        while time.monotonic() - begin < seconds:
            runs += len(self.samples(1))
        return Loop(runs, begin, time.monotonic())

    def run(self, image: bytes) -> Tuple[bytes, float]:
        """Run one network input, float32; return the output, float32, and the seconds of the network.

        Raises:
            JobError: this runtime or network takes no given input.
        """
        raise JobError(
            "this runtime measures, and runs no given images; install TensorRT's Python module or ONNX Runtime"
        )

    def layers(self) -> List[Tuple[str, float]]:
        """Profile the layers: (name, ms) each, in separate runs as profiling is intrusive; empty without a profiler."""
        return []

    def memory_mb(self) -> Optional[float]:
        """Return the peak memory of the network in MB; None where the backend does not know it."""
        return None


class Backend(abc.ABC):
    """A runtime that builds and runs networks. ``spec`` is the job specification that the session sends to a child process.

    Attributes:
        name: value of ``backend`` in the job list.
        needs_build: networks are built into engines first.
    """

    name = ""
    needs_build = False

    @classmethod
    def version(cls, spec: Json) -> Optional[str]:
        """Return the installed version, of the Python module called ``name`` by default.

        Raises:
            ImportError, JobError: the backend is not usable on this machine.
        """
        return str(importlib.import_module(cls.name).__version__)

    @staticmethod
    def build(spec: Json) -> Json:
        """Build the engine ``spec["plan"]``; return ``build_s``, None where there is nothing to build."""
        return {"build_s": None}

    @staticmethod
    @abc.abstractmethod
    def open(spec: Json) -> Runner:
        """Load the network.

        Raises:
            JobError: the network cannot be run.
            StaleEngine: the engine must be rebuilt.
        """
