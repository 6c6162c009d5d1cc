"""The studies under test with all that they run on: a database server, a Ray cluster, a small disk, and the launches."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.chaos import invariants
from benchmarks.chaos.invariants import Ledger, Violation
from benchmarks.chaos.postgres import Server
from benchmarks.chaos.processes import MARK, kill_tree, marked
from benchmarks.chaos.ray_cluster import RayCluster
from objectives.trial_record import TrialRecord, read_study
from search_spaces._common.errors import UserError
from trial_runner.study.lease import LEASE_KEY
from trial_runner.study.paths import StudyPaths
from trial_runner.study.storage import open_study

STACKS = signal.SIGRTMIN + 3
"""Signal on which a launch writes the stacks of its threads."""
TRIALS, EPOCHS = 8, 5
PATIENCE_S = 20.0
_POLL_S = 0.4
_DISK_MB = 600
_END_S = 60.0
_LINGER_S = 30.0
_BEGAN = "Ctrl-C stops it"

# The command, which writes the stacks of its threads on a signal: a launch that hangs shows where.
_PROGRAM = (
    "import faulthandler, signal, sys; faulthandler.register(signal.SIGRTMIN + 3); "
    "from trial_runner.cli.main import main; sys.exit(main())"
)
_STUDY = """
study: {{name: {name}, storage: "{url}", output_dir: "{out}", seed: {seed}}}
data: {{kind: synthetic, train_images: 60, val_images: 8, image_height_px: 32, image_width_px: 64}}
space:
  name: encoder_decoder
  families: [lcnet, mobilenetv3_small, resnet10t]
  widths: [0.25, 0.5]
  resolutions_px: [[32, 64]]
  prune_ratios: [0.0, 0.5]
  learning_rate: {{low: 0.05, high: 0.1}}
device: {{name: jetson-nano, latency_model: none/latency_model.json, latency_budget_ms: 1000.0, measure_front: false}}
training: {{epochs: {epochs}, batch_size: 4}}
search:
  trials: {trials}
  startup_trials: 4
  sampler: nsga2
  early_stopping: {{rungs_epochs: [2], reduction_factor: 2.0, min_trials: 3}}
compute: {{backend: {backend}, max_failures: 100{address}}}
export: {{parity_images: 2}}
storage: {{patience_s: {patience_s}}}
"""


@dataclass
class Launch:
    """A launch of the study in a process of its own.

    Attributes:
        process: leader of its session.
        log: its output.
        mark: of all its processes.
        explained: statuses other than 0 that its end may have, because of the faults that it met.
    """

    process: subprocess.Popen[bytes]
    log: Path
    mark: str
    explained: set[int] = field(default_factory=set)

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self.process.poll()

    @property
    def text(self) -> str:
        """Its output so far."""
        return self.log.read_text(errors="replace")

    @property
    def begun(self) -> bool:
        """True once it has the study and starts trials."""
        return _BEGAN in self.text


class World:
    """A server, a cluster and a disk of their own, and the rounds of studies that run on them.

    Args:
        logs: folder that keeps the output of all launches.
        backend: ``ray`` or ``inprocess``.
        nodes: of the Ray cluster.
        seed: of the studies.

    Attributes:
        server: the database server.
        cluster: Ray; None in process.
        launch: the latest launch that may drive the study.
        ledger: all that this round's study has acknowledged.
        violations: found and not yet taken.
        disk: mount point of the small disk with the output folders; None where it could not be mounted.
    """

    def __init__(self, logs: Path, backend: str, nodes: int, seed: int) -> None:
        self._logs, self._backend, self._nodes, self._seed = logs, backend, nodes, seed
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
        self._folder.chmod(0o755)
        self._launches = 0
        self._study: optuna.Study | None = None
        self._round, self._paths, self._yaml = "", StudyPaths(self._folder), self._folder / "study.yaml"
        self.cluster: RayCluster | None = None
        self.disk: Path | None = None
        self.launch: Launch | None = None
        self.ledger = Ledger()
        self.violations: list[Violation] = []

    def __enter__(self) -> World:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        folder = self._folder / "pg"
        folder.mkdir()
        self.server = Server(folder)
        self.server.start()
        self.url = self.server.create_database("chaos")
        disk = self._folder / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode == 0:
            self.disk = disk
        if self._backend == "ray":
            self.cluster = RayCluster(self._folder, self._nodes)
            self.cluster.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in marked(f"{self._folder.name}-"):
            kill_tree(pid)
        if self.cluster is not None:
            self.cluster.stop()
        self._forget_study()
        if hasattr(self, "server"):
            self.server.go_on()
            self.server.stop(signal.SIGQUIT)
        if self.disk is not None:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=False, capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def begin_round(self, number: int) -> None:
        """Write the YAML of a new study, and launch it."""
        self._forget_study()
        self._round = f"round_{number:04d}"
        self._paths = StudyPaths((self.disk or self._folder) / self._round)
        self._logs.joinpath(self._round).mkdir(parents=True, exist_ok=True)
        self.ledger, self._launches = Ledger(), 0
        self._write_yaml(number)
        self.launch = self.start()

    def _write_yaml(self, number: int = 0) -> None:
        self._yaml = self._folder / f"{self._round}.yaml"
        address = "" if self.cluster is None else f', ray_address: "{self.cluster.address}"'
        text = _STUDY.format(
            name=self._round,
            url=self.url,
            out=self._paths.root,
            seed=self._seed * 1000 + number,
            epochs=EPOCHS,
            trials=TRIALS,
            backend=self._backend,
            address=address,
            patience_s=PATIENCE_S,
        )
        self._yaml.write_text(text)

    def restart_cluster(self) -> None:
        """End what is left of the Ray cluster and start it again, at another address, which the study's YAML gets."""
        if self.cluster is None:
            return
        old = self.cluster.address
        self.cluster.stop()
        self.cluster.start()
        self._yaml.write_text(self._yaml.read_text().replace(old, self.cluster.address))

    def start(self, *, elsewhere: bool = False) -> Launch:
        """Start a launch of the study.

        Args:
            elsewhere: on a machine of another host name, as others see it.
        """
        self._launches += 1
        mark = f"{self._folder.name}-{self._round}-{self._launches:02d}"
        path = self._logs / self._round / f"launch-{self._launches:02d}.log"
        command = [sys.executable, "-c", _PROGRAM, "launch", str(self._yaml)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", MARK: mark}
        if self.cluster is not None:
            environment |= self.cluster.environment
        with path.open("wb") as output:
            process = subprocess.Popen(
                [*(OTHER_HOST if elsewhere else ()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        return Launch(process, path, mark)

    @property
    def driver(self) -> Launch:
        """The launch that drives the study, or last did."""
        assert self.launch is not None, "no round has begun"
        return self.launch

    def look(self) -> list[TrialRecord] | None:
        """Read the study and compare it with all earlier readings; None while it cannot be read."""
        try:
            if self._study is None:
                self._study = open_study(self.url, self._round, create=False)
            records = read_study(self._study)
            lease = self._study.user_attrs.get(LEASE_KEY)
        except (UserError, OptunaError, SQLAlchemyError):
            return None
        self.violations += self.ledger.note(records) + self.ledger.note_lease(lease)
        return records

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Watch the study for some seconds, or until a condition holds; return True where it does."""
        deadline = time.monotonic() + seconds
        while True:
            self.look()
            if until():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_POLL_S, left))

    def ends(self, launch: Launch, seconds: float = _END_S) -> bool:
        """Wait for the end of a launch; return True where it ended in time."""
        return self.wait(seconds, lambda: launch.status is not None)

    def judge(self, launch: Launch) -> None:
        """Check what a launch that has ended left behind: its log, and no RUNNING row after an end in good order."""
        self.violations += invariants.log(f"{self._round}/{launch.log.name}", launch.text)
        if launch.status == 0 or launch.status == 130:
            records = self.look() or []
            self.violations += invariants.running_rows(records, f"exit status {launch.status}")

    def judge_round(self) -> int:
        """Check the study after its last launch has ended with status 0; return its number of trained trials."""
        records = self.look()
        if records is None:
            self.violations.append(Violation("study lost", f"{self._round} cannot be read after its end"))
            return 0
        self.wait(_LINGER_S, lambda: not self._left_over())
        found = invariants.finished_study(records, TRIALS, EPOCHS)
        found += invariants.checkpoints(records, self._paths)
        found += invariants.bundles(read_study(self._opened(), self._paths.root), self._paths)
        found += invariants.hidden_files(self._paths)
        text = self._paths.launch_log.read_text(errors="replace")
        found += invariants.finished_twice(text)
        found += invariants.left_over(self._left_over(), self._round)
        self.violations += found
        shutil.copy(self._paths.launch_log, self._logs / self._round / "launch.log")
        if not found:
            shutil.rmtree(self._paths.root, ignore_errors=True)
        return sum(record.outcome in ("finished", "stopped") for record in records)

    def abandon_round(self) -> None:
        """End the launches of a round that does not go on."""
        for pid in marked(f"{self._folder.name}-{self._round}"):
            kill_tree(pid)
        self.driver.process.wait(_END_S)

    def _opened(self) -> optuna.Study:
        assert self._study is not None
        return self._study

    def _left_over(self) -> dict[int, str]:
        found = marked(f"{self._folder.name}-{self._round}")
        if self.cluster is not None:
            found |= dict.fromkeys(self.cluster.workers(), "a worker of Ray that trains a trial")
        return found

    @property
    def study_name(self) -> str:
        """Name of this round's study."""
        return self._round

    @property
    def output(self) -> Path:
        """Output folder of this round's study."""
        return self._paths.root

    def _forget_study(self) -> None:
        if self._study is not None:
            optuna.storages.get_storage(self._study._storage)._backend.engine.dispose()  # type: ignore[attr-defined]
        self._study = None


def _other_host() -> tuple[str, ...]:
    """Return the words before a command that give its process another host name; none where that is not possible."""
    rights = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    words = ("unshare", *rights, "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")
    if shutil.which("unshare") is None:
        return ()
    tried = subprocess.run([*words, "hostname"], capture_output=True, text=True)
    return words if tried.stdout.strip() == "elsewhere" else ()


OTHER_HOST = _other_host()
