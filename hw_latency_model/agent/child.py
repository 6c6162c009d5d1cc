"""Tasks of a child process: probe a backend, build an engine, measure a network, run images through it."""

import json
import os
import sys
from pathlib import Path
from typing import Callable, Dict

from .backends import BACKENDS
from .clocks import Lock
from .errors import EXIT_DONE, EXIT_RESUMABLE, JobError, StaleEngine, is_disk_full
from .files import Json
from .parity import read_images_file, write_outputs
from .parsers import finite
from .power import PowerMeter
from .process import die_with_parent
from .protocol import Settings, credible, measure_energy, time_runner
from .statistics import percentile, thin_out
from .tree import Tree
from .watch import Watch

SAMPLES_KEPT = 200
"""Largest number of latency samples in a measurement record."""


def child_main(task: str, channel: int, parent: int) -> None:
    """Run one task and exit: the specification is read from stdin, the JSON answer is written to the pipe ``channel``.

    Args:
        task: key of ``CHILD_TASKS``.
        channel: file descriptor of the pipe.
        parent: process id of the agent.
    """
    die_with_parent()
    if os.getppid() != parent:
        os._exit(EXIT_RESUMABLE)
    spec = json.loads(sys.stdin.read())
    try:
        answer = dict(CHILD_TASKS[task](spec), ok=True)
    except JobError as error:
        answer = {"ok": False, "kind": "job", "reason": error.reason, "retry": error.retry, "log": error.log}
    except StaleEngine as error:
        answer = {"ok": False, "kind": "stale", "reason": str(error)}
    except ImportError as error:
        answer = {"ok": False, "kind": "job", "reason": str(error), "retry": True}
    except OSError as error:
        if not is_disk_full(error):
            raise
        answer = {"ok": False, "kind": "disk", "reason": str(error)}
    content = json.dumps(answer).encode()
    while content:
        content = content[os.write(channel, content) :]
    os.close(channel)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_DONE)  # skips the teardown of the drivers, which is known to crash


def child_probe(spec: Json) -> Json:
    """Return the version of a backend; fails where it is not usable."""
    return {"version": BACKENDS[spec["backend"]].version(spec)}


def child_build(spec: Json) -> Json:
    """Build an engine; return the build time."""
    return dict(BACKENDS[spec["backend"]].build(spec))


def child_measure(spec: Json) -> Json:
    """Run the protocol for one network; return the fields of its ``measurement`` record."""
    tree = Tree(spec["root"])
    settings = Settings(**spec["settings"])
    backend = BACKENDS[spec["backend"]]
    watch = Watch(tree, Lock(*spec["lock"]) if spec["lock"] else None)
    runner = backend.open(spec)
    runner.samples(1)
    memory = runner.memory_mb()
    reference = backend.open(dict(spec, **spec["reference"])) if spec["reference"] else None
    timing, repeats = time_runner(runner, reference, settings, watch)
    end_to_end = credible(runner.end_to_end(max(10, min(len(timing.samples_ms), 100))))
    energy = measure_energy(runner, PowerMeter(tree), settings.energy_s)
    samples = timing.samples_ms
    result: Json = {
        "latency_ms_p50": percentile(samples, 0.5),
        "latency_ms_p90": percentile(samples, 0.9),
        "latency_ms_p99": percentile(samples, 0.99),
        "samples_ms": [round(value, 5) for value in thin_out(samples, SAMPLES_KEPT)],
        "runs": len(samples),
        "end_to_end_ms_p50": percentile(end_to_end, 0.5),
        "reference_ms": timing.reference_ms,
        "drift_rel": timing.drift_rel,
        "confidence_rel": finite(timing.confidence_rel),
        "noisy": bool(timing.problems),
        "throttled": any(problem.throttled for problem in timing.problems),
        "reasons": [problem.text for problem in timing.problems],
        "repeats": repeats,
        "temp_c_start": timing.before.temp_c,
        "temp_c_end": timing.after.temp_c,
        "clocks_start": timing.before.clocks,
        "clocks_end": timing.after.clocks,
        "memory_peak_mb": memory,
    }
    result.update(energy)
    result.update(runner.facts)
    if spec["kind"] == "kernels":
        result["layers"] = [[name, ms] for name, ms in runner.layers()]
    return result


def child_infer(spec: Json) -> Json:
    """Run the images file ``spec["images"]`` through the network; write the logits to ``spec["outputs"]`` and return the file's facts."""
    images = read_images_file(Path(spec["images"]))
    return write_outputs(BACKENDS[spec["backend"]].open(spec), images, Path(spec["outputs"]))


CHILD_TASKS: Dict[str, Callable[[Json], Json]] = {
    "probe": child_probe,
    "build": child_build,
    "measure": child_measure,
    "infer": child_infer,
}
