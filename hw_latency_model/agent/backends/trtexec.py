"""Backend: the ``trtexec`` program."""

import errno
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, List, Optional, Tuple

from ..console import say
from ..errors import JobError
from ..facts import installed_tensorrt
from ..files import Json, read_text
from ..precision import check_precision
from ..process import LOG_TAIL_CHARS, die_with_parent
from ..statistics import percentile
from ..tree import Tree
from ..trtexec import (
    TraceRecord,
    after_warm_up,
    parse_export_profile,
    parse_export_times,
    parse_trtexec,
    trt_version_text,
)
from .base import Backend, Loop, Runner


class TrtExec(Backend):
    """Builds and times engines with ``trtexec``; supported options are read from its help text."""

    name = "trtexec"
    needs_build = True

    def __init__(self, spec: Json) -> None:
        command = Tree(spec["root"]).command("trtexec")
        if command is None:
            raise JobError("trtexec was not found in {}".format(", ".join(Tree.FOLDERS)))
        self.command = command
        self.help = Tree(spec["root"]).run("trtexec", "--help").text

    @classmethod
    def version(cls, spec: Json) -> Optional[str]:
        """Return the version that ``trtexec`` prints, otherwise that of the installed package."""
        found = re.search(r"\[TensorRT v(\d{4,6})\]", cls(spec).help)
        return trt_version_text(found.group(1)) if found else installed_tensorrt(Tree(spec["root"]))

    def has(self, option: str) -> bool:
        """Return True for an option named in the help text."""
        return re.search(re.escape(option) + r"(?![\w])", self.help) is not None

    def run(self, *options: str, on_line: Optional[Callable[[str], None]] = None) -> Json:
        """Run ``trtexec`` and parse its log.

        Args:
            on_line: called with each line as it is printed.

        Raises:
            JobError: it failed or printed no valid result; ``log`` is the end of its output.
            OSError: the disk is full.
        """
        process = subprocess.Popen(
            [self.command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=die_with_parent
        )
        lines = []
        assert process.stdout is not None
        for raw in process.stdout:
            lines.append(raw.decode("utf-8", "replace"))
            if on_line is not None:
                on_line(lines[-1])
        code = process.wait()
        text = "".join(lines)
        runs = parse_trtexec(text)
        if code != 0 or not runs or runs[-1]["passed"] is not True:
            errors = [line for run in runs for line in run["errors"]]
            say(text[-LOG_TAIL_CHARS:], sys.stderr)
            if re.search(r"no space left on device", text, re.IGNORECASE):
                raise OSError(errno.ENOSPC, "trtexec: no space left on device")
            reason = errors[0][:500] if errors else f"exit code {code}"
            raise JobError("trtexec failed: " + reason, log=text[-LOG_TAIL_CHARS:])
        return runs[-1]

    @staticmethod
    def build(spec: Json) -> Json:
        """Build and save an engine; return the build time in seconds.

        Raises:
            JobError: ``trtexec`` failed, or cannot build in this precision.
            OSError: the disk is full.
        """
        tool = TrtExec(spec)
        plan = Path(spec["plan"])
        temporary = plan.with_name(plan.name + ".part")
        options = ["--onnx=" + spec["onnx"], "--saveEngine=" + str(temporary)]
        if tool.has("--workspace"):
            options.append("--workspace={}".format(spec["workspace_mb"]))
        elif tool.has("--memPoolSize"):
            options.append("--memPoolSize=workspace:{}".format(spec["workspace_mb"]))
        if spec["precision"] == "int8":
            raise JobError("int8 is measured with the Python API only, where the Q/DQ nodes can be checked")
        kept = spec.get("keep_fp32") if spec["precision"] == "fp16" else None
        if kept and tool.has("--layerPrecisions"):
            layers = ",".join("{}:fp32".format(name) for name in kept)
            options += ["--precisionConstraints=obey", "--layerPrecisions=" + layers]
        elif kept:
            raise JobError(
                "this trtexec keeps no layer in float32, which the network needs; install python3-libnvinfer"
            )
        if tool.has("--fp16"):
            options += ["--fp16"] if spec["precision"] == "fp16" else []
        else:
            check_precision(Path(spec["onnx"]), spec["precision"], "this trtexec")
        if tool.has("--timingCacheFile"):
            options.append("--timingCacheFile=" + spec["cache"])
        elif tool.has("--explicitBatch"):  # TensorRT 7, whose ONNX parser needs it
            options.append("--explicitBatch")
        options += [option for option in ("--buildOnly", "--skipInference") if tool.has(option)][:1]
        begin = time.monotonic()
        run = tool.run(*options)
        if not temporary.exists() or temporary.stat().st_size == 0:
            raise JobError("trtexec passed but left no engine")
        temporary.rename(plan)
        return {"build_s": run.get("build_s", time.monotonic() - begin)}

    @staticmethod
    def open(spec: Json) -> Runner:
        """Return a runner for the engine ``spec["plan"]``."""
        return TrtExecRunner(TrtExec(spec), Path(spec["plan"]), Path(spec["work"]))


class TrtExecRunner(Runner):
    """Runner that starts ``trtexec`` for each call; the number of rounds is limited as each loads the engine again."""

    rounds_at_most = 3
    warms_itself = True
    WARMUP_MS = 200

    def __init__(self, tool: TrtExec, plan: Path, work: Path) -> None:
        super().__init__()
        self.tool = tool
        self.plan = plan
        self.work = work
        self.transfers = ["--noDataTransfers"] if tool.has("--noDataTransfers") else []

    def _records(self, count: int, transfers: bool) -> List[TraceRecord]:
        export = self.work / f"times-{os.getpid()}.json"
        options = ["--loadEngine=" + str(self.plan), "--exportTimes=" + str(export)]
        options += [f"--warmUp={self.WARMUP_MS}", "--duration=0", f"--iterations={max(count, 1)}"]
        options += ["--useSpinWait", *([] if transfers else self.transfers)]
        try:
            run = self.tool.run(*options)
            everything = parse_export_times(read_text(export))
        finally:
            if export.exists():
                export.unlink()
        records = after_warm_up(everything, self.WARMUP_MS)
        if len(records) < min(count, 3):
            records = everything[-max(count, 1) :]
        summary = run["metrics"].get("gpu_compute_ms")
        if not records or summary is None:
            raise JobError("trtexec gave no times that can be read", retry=True)
        median = percentile([record.compute_ms for record in records], 0.5)
        if not 0.9 * summary["min"] <= median <= 1.1 * summary["max"]:
            raise JobError(
                "trtexec's log ({} ms) and its times ({} ms) disagree".format(summary["median"], median), retry=True
            )
        return records

    def samples(self, count: int) -> List[float]:
        """Time GPU compute, in milliseconds."""
        return [record.compute_ms for record in self._records(count, transfers=False)]

    def end_to_end(self, count: int) -> List[float]:
        """Time queries with data transfers, in milliseconds."""
        return [record.latency_ms for record in self._records(count, transfers=True)]

    def loop(self, seconds: float) -> Loop:
        """Run one process for about ``seconds``; loading of the engine is excluded."""
        begins: List[float] = []

        def watch(line: str) -> None:
            if "Starting inference" in line:
                begins.append(time.monotonic())

        export = self.work / f"times-{os.getpid()}.json"
        options = ["--loadEngine=" + str(self.plan), f"--duration={max(1, math.ceil(seconds))}"]
        options += ["--exportTimes=" + str(export), "--warmUp=0", "--useSpinWait", *self.transfers]
        try:
            run = self.tool.run(*options, on_line=watch)
            queries = run.get("queries") or len(parse_export_times(read_text(export)))
        finally:
            if export.exists():
                export.unlink()
        if not begins or not queries or not run.get("trace_s"):
            raise JobError("trtexec did not say how many queries it ran", retry=True)
        return Loop(queries, begins[0], begins[0] + run["trace_s"])

    def layers(self) -> List[Tuple[str, float]]:
        """Return the median time (average in old versions) of each layer in milliseconds."""
        export = self.work / f"profile-{os.getpid()}.json"
        options = ["--loadEngine=" + str(self.plan), "--exportProfile=" + str(export), "--warmUp=0", "--duration=1"]
        try:
            self.tool.run(*options, "--useSpinWait", *self.transfers)
            _, found = parse_export_profile(read_text(export))
        finally:
            if export.exists():
                export.unlink()
        return [
            (str(layer["name"]), float(layer["median_ms" if "median_ms" in layer else "average_ms"])) for layer in found
        ]
