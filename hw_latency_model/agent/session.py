"""One run of a job list: measure every job without a result and append the results."""

import atexit
import binascii
import os
import shutil
import sys
from pathlib import Path
from typing import Any, List, Optional, Tuple

from .backends import BACKENDS
from .clocks import Clocks
from .console import now_iso, say
from .engines import Engines
from .errors import EXIT_DONE, EXIT_RESUMABLE, StopEarly, UserMistake, is_disk_full
from .facts import board_facts
from .files import Json, file_sha256
from .jobs import Job, JobList
from .parity import OUTPUTS
from .process import Answer, StopFlag, run_child
from .results import ResultsFile
from .sensors import steady_clocks
from .tree import Tree

FORMAT_VERSION = 1
"""Version of the ``board`` record."""
FREE_BYTES_NEEDED = 64 << 10
"""Free disk space below which no job is started."""


class Session:
    """Measures a job list.

    Args:
        jobs: validated job list.
        results: file to append to; jobs with a result there are skipped.
        work: folder of the engine cache.
        tree: the board.
        retry_failures: measure failed jobs again.
    """

    def __init__(self, jobs: JobList, results: ResultsFile, work: Path, tree: Tree, retry_failures: bool) -> None:
        self.jobs = jobs
        self.results = results
        self.work = work
        self.tree = tree
        self.retry_failures = retry_failures
        self.stop = StopFlag()
        self.clocks = Clocks(tree)
        self.run_id = binascii.hexlify(os.urandom(6)).decode("ascii")
        self.backend, self.version = "", ""
        self.engines = Engines(work, "none")

    def run(self) -> int:
        """Measure every job without a result, restore the clocks in any case, and return the exit code.

        Raises:
            UserMistake: no backend is usable, the power mode cannot be set, or the reference network cannot be built.
        """
        self.stop.listen()
        atexit.register(self._restore_clocks)
        if self.results.repaired or self.results.damaged:
            say(f"{self.results.path}: a cut line was removed, {self.results.damaged} damaged lines are ignored")
        stopped: Optional[str] = None
        try:
            self._prepare()
            for number, job in enumerate(self.jobs.jobs, 1):
                if self._key(job) not in self.results.finished(self.retry_failures):
                    self._run_job(job, f"[{number}/{len(self.jobs.jobs)}] {job.id}")
        except StopEarly as error:
            stopped = str(error)
        finally:
            self._restore_clocks()
        try:
            self.results.append(
                dict(self._counts(), type="end", stopped=stopped, run_id=self.run_id, ended_at=now_iso())
            )
        except StopEarly as error:
            stopped = stopped or str(error)
        if stopped:
            say(f"stopped early: {stopped}. Nothing measured is lost; run the same command again to go on.", sys.stderr)
            return EXIT_RESUMABLE
        return EXIT_DONE

    def _key(self, job: Job) -> Tuple[Any, ...]:
        return (job.id, job.sha256, self.jobs.precision, self.jobs.power_profile)

    def _counts(self) -> Json:
        finished = self.results.finished(False)
        kinds = [finished.get(self._key(job)) for job in self.jobs.jobs]
        failed = {record["job_id"] for record in self.results.records if record["type"] == "failure"}
        done = [job.id for job, kind in zip(self.jobs.jobs, kinds) if kind == "measurement"]
        lost = [job.id for job in self.jobs.jobs if job.id in failed and job.id not in done]
        return {"done": len(done), "failed": len(lost), "left": len(self.jobs.jobs) - len(done) - len(lost)}

    def _restore_clocks(self) -> None:
        problem = self.clocks.restore()
        if problem:
            say(f"the clocks could not be given back ({problem}); run: paretoseg_agent.pyz restore", sys.stderr)

    def _prepare(self) -> None:
        """Choose the backend, lock the clocks, and append the ``board`` record."""
        leftover = self.clocks.restore()
        if leftover:
            say("clocks that an earlier run locked could not be given back first: " + leftover, sys.stderr)
        self.backend, self.version = self._choose_backend()
        facts = board_facts(self.tree)
        self.engines = Engines(self.work, self.version, {name: facts[name] for name in ("board_model", "l4t", "cuda")})
        self.stop.check()
        self.clocks.lock(self.jobs.power_profile, self.jobs.lock_clocks)
        if self.clocks.note:
            say("clocks are not locked: " + self.clocks.note, sys.stderr)
        self.results.append(self._board_record())

    def _choose_backend(self) -> Tuple[str, str]:
        names = list(BACKENDS) if self.jobs.backend == "auto" else [self.jobs.backend]
        reasons = []
        for name in names:
            answer = run_child("probe", {"backend": name, "root": str(self.tree.root)}, 300, self.stop)
            if answer.value and answer.value.get("ok"):
                return name, str(answer.value.get("version") or "unknown")
            reasons.append("{}: {}".format(name, answer.value["reason"] if answer.value else answer.crash))
        raise UserMistake("no backend can run here ({})".format("; ".join(reasons)))

    def _board_record(self) -> Json:
        facts = board_facts(self.tree)
        locked = self.clocks.held is not None
        clocks = steady_clocks(facts["clocks_now"], locked)
        facts["tensorrt" if self.backend == "trtexec" else self.backend] = self.version
        fingerprint = {
            "device": self.jobs.device,
            "board": facts["board_model"],
            "cpu": facts["cpu"],
            "l4t": facts["l4t"],
            "cuda": facts["cuda"],
            "runtime": f"{self.backend} {self.version}",
            "power_mode": facts["power_mode"],
            "clocks_locked": locked,
        }
        fingerprint.update(clocks)
        if self.backend == "onnxruntime":
            fingerprint["threads"] = self.jobs.threads
        return dict(
            facts,
            type="board",
            format_version=FORMAT_VERSION,
            run_id=self.run_id,
            device=self.jobs.device,
            backend=self.backend,
            backend_version=self.version,
            precision=self.jobs.precision,
            power_profile=self.jobs.power_profile,
            clocks=clocks,
            clocks_locked=locked,
            clocks_note=self.clocks.note,
            threads=self.jobs.threads,
            settings=dict(self.jobs.settings._asdict()),
            fingerprint=fingerprint,
            started_at=now_iso(),
        )

    def _run_job(self, job: Job, label: str) -> None:
        """Measure one job and append its measurement or failure."""
        self.stop.check()
        self._check_disk()
        common = {
            "run_id": self.run_id,
            "job_id": job.id,
            "subject": job.subject,
            "sha256": job.sha256,
            "kind": job.kind,
            "backend": self.backend,
            "backend_version": self.version,
            "precision": self.jobs.precision,
            "power_profile": self.jobs.power_profile,
            "started_at": now_iso(),
        }
        try:
            measured = self._measure(job)
        except JobFailed as failure:
            say(f"{label}: failed, {failure.reason}")
            record = dict(common, type="failure", stage=failure.stage, reason=failure.reason, retry=failure.retry)
            self.results.append(dict(record, log_tail=failure.log_tail, ended_at=now_iso()))
            return
        self.results.append(dict(common, type="measurement", ended_at=now_iso(), **measured))
        marks = "".join(", " + reason for reason in measured["reasons"])
        build = ", engine built in {:.0f} s".format(measured["build_s"]) if measured["build_s"] else ""
        say(
            "{}: {:.3f} ms (p90 {:.3f}){}{}".format(
                label, measured["latency_ms_p50"], measured["latency_ms_p90"], build, marks
            )
        )

    def _check_disk(self) -> None:
        """Check free disk space before a job, deleting engines of measured jobs first.

        Raises:
            StopEarly: the disk is full.
        """
        for folder in (self.work, self.results.path.resolve().parent):
            free = shutil.disk_usage(str(folder)).free
            if free < FREE_BYTES_NEEDED and not self.engines.make_room(self._finished_plans()):
                raise StopEarly(f"disk full: {folder} has {free} bytes free")

    def _measure(self, job: Job) -> Json:
        if not job.onnx.is_file():
            raise JobFailed("file", f"{job.onnx} is missing", "", retry=True)
        if file_sha256(job.onnx) != job.sha256:
            raise JobFailed("file", f"{job.onnx} is not the file of the job list (sha256 differs)", "", retry=True)
        for attempt in (1, 2):
            reference = self._reference_spec()
            engine = self._engine(job)
            spec = self._spec(job)
            spec.update(
                reference=reference,
                settings=dict(self.jobs.settings._asdict()),
                lock=list(self.clocks.held) if self.clocks.held else None,
                kind=job.kind,
            )
            answer = self._child("measure", spec, self._timeout_s())
            if answer.value and answer.value.get("kind") == "stale" and attempt == 1:
                for each in (job, self.jobs.reference):
                    if each is not None:
                        self.engines.forget(self.engines.plan(each))
                continue
            break
        value = self._checked(answer, "measure")
        del value["ok"]
        value["build_s"] = engine["build_s"]
        if job.images is not None:
            value["outputs"] = self._outputs(job, job.images)
            plan = self.engines.plan(job)
            value["plan_bytes"] = plan.stat().st_size if plan.exists() else None
        return value

    def _outputs(self, job: Job, images: Path) -> Json:
        """Run the job's images through its engine; return the facts of the file of logits, or the reason why there is none."""
        target = self.results.path.resolve().parent / OUTPUTS / (job.id + ".f32")
        spec = dict(self._spec(job), images=str(images), outputs=str(target))
        try:
            value = self._checked(self._child("infer", spec, self._timeout_s()), "infer")
        except JobFailed as failure:
            return {"file": None, "reason": failure.reason}
        del value["ok"]
        return value

    def _reference_spec(self) -> Optional[Json]:
        reference = self.jobs.reference
        if reference is None:
            return None
        try:
            self._engine(reference)
        except JobFailed as failure:
            raise UserMistake(
                f"the reference network cannot be built: {failure.reason}\n{failure.log_tail}"
            ) from failure
        spec = self._spec(reference)
        return {name: spec[name] for name in ("onnx", "plan", "precision", "torchscript", "input_shape")}

    def _spec(self, job: Job) -> Json:
        return {
            "backend": self.backend,
            "onnx": str(job.onnx),
            "torchscript": job.torchscript,
            "input_shape": job.input_shape,
            "precision": job.precision,
            "keep_fp32": list(job.keep_fp32),
            "plan": str(self.engines.plan(job)),
            "cache": str(self.engines.cache),
            "workspace_mb": self.jobs.workspace_mb,
            "threads": self.jobs.threads,
            "root": str(self.tree.root),
            "work": str(self.work),
        }

    def _engine(self, job: Job) -> Json:
        """Return the facts of the job's engine, cached or newly built; ``build_s`` is None without a build step."""
        if not BACKENDS[self.backend].needs_build:
            return {"build_s": None}
        plan = self.engines.plan(job)
        kept = self.engines.kept(plan)
        if kept is not None:
            return kept
        answer = self._child("build", self._spec(job), self.jobs.settings.build_timeout_s)
        if answer.value and answer.value.get("kind") == "disk" and self.engines.make_room(self._finished_plans()):
            answer = self._child("build", self._spec(job), self.jobs.settings.build_timeout_s)
        value = self._checked(answer, "build")
        try:
            return self.engines.keep(plan, value["build_s"])
        except OSError as error:
            if is_disk_full(error):
                raise StopEarly(f"disk full: no room for the engine of {job.id}") from error
            raise

    def _finished_plans(self) -> List[Path]:
        finished = self.results.finished(False)
        return [self.engines.plan(job) for job in self.jobs.jobs if self._key(job) in finished]

    def _child(self, task: str, spec: Json, timeout_s: float) -> Answer:
        return run_child(task, spec, timeout_s, self.stop)

    def _checked(self, answer: Answer, stage: str) -> Json:
        """Return the answer of a child.

        Raises:
            JobFailed: the child crashed or reported an error.
            StopEarly: the disk is full.
        """
        value = answer.value
        if value is None:
            raise JobFailed(stage, f"the {stage} {answer.crash}", answer.log_tail)
        if value.get("ok"):
            return value
        if value.get("kind") == "disk":
            raise StopEarly("disk full: {}".format(value["reason"]))
        raise JobFailed(stage, value["reason"], value.get("log") or answer.log_tail, bool(value.get("retry")))

    def _timeout_s(self) -> float:
        settings = self.jobs.settings
        once = settings.max_s + settings.warmup_s + settings.energy_s + settings.cool_down_s
        return 600 + 10 * once * (settings.max_repeats + 1)


class JobFailed(Exception):
    """Failure of one job, stored as a ``failure`` record.

    Args:
        stage: ``file``, ``build`` or ``measure``.
        reason: cause in one sentence.
        log_tail: end of the child's output.
        retry: the job is tried again in the next run.
    """

    def __init__(self, stage: str, reason: str, log_tail: str, retry: bool = False) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason
        self.log_tail = log_tail
        self.retry = retry
