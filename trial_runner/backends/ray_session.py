"""A Ray cluster of one launch: environment, folder, token, start and end. Nothing of it is left behind."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search_spaces._common.errors import UserError
from search_spaces._common.machine import has_ended, own_process
from trial_runner import stopping
from trial_runner.backends.ray_watch import ClusterWatch, end_processes_of, listener
from trial_runner.config.study import ComputeSection
from trial_runner.stopping import StoppedAtOnceError, deferred, wait_for

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",
    "TUNE_WARN_THRESHOLD_S": "60",
}
# Named for other platforms; it binds every service of Ray to 127.0.0.1.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Settings of some other cluster: its address, token, folder. Ray's tuning flags, in lower case, are the user's.
_FOREIGN = re.compile(r"(RAY|TUNE)_[A-Z0-9_]+")
_NO_HOME = "/nonexistent"  # Ray asks for a home folder when it is imported, but needs none
_PREFIX = "pseg-"
_OWNER = "owner"
_INNER = "r"  # Ray opens the folder that it is given to everybody: it is given one inside ours
# Bytes of a path; below it come 64 more, session_DATE_TIME_MICROSECONDS_PID/sockets/plasma_store, and the system's limit is 107.
_LONGEST_BASE = 107 - 64 - len(f"/{_PREFIX}12345678/{_INNER}")
_LEAST_FREE_MB = 50
OBJECT_STORE_BYTES = 100_000_000  # trials exchange a few kB of JSON; Ray demands 75 MiB
_REMOVAL_TRIES = 20
_CONNECT_S = 10.0
_REACTION_S = 3.0
_ABANDON_S = 0.5
_TOKEN = secrets.token_hex(32)  # one a process: Ray keeps the first that it reads


def foreign_variables() -> list[str]:
    """Names of the environment's variables that a launch's own Ray ignores, sorted."""
    return sorted(filter(_FOREIGN.fullmatch, os.environ))


@contextmanager
def ray_environment(compute: ComputeSection) -> Iterator[None]:
    """Set the variables that Ray reads when it is imported and started; put the caller's back afterwards.

    A launch's own cluster ignores the ``RAY_*`` and ``TUNE_*`` variables of the caller, which describe another one.
    """
    own = compute.ray_address is None
    before = dict(os.environ)
    try:
        if own:
            for name in foreign_variables():
                del os.environ[name]
        os.environ.update({**_ENVIRONMENT, **(_LOOPBACK if own else {})})
        if not _has_home():
            os.environ["HOME"] = _NO_HOME
        yield
    finally:
        if "HOME" not in before:
            os.environ.pop("HOME", None)
        for name in foreign_variables():
            if name not in before:
                del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if _FOREIGN.fullmatch(name)})


def cluster_environment(token: Path) -> dict[str, str]:
    """Environment of a Ray process of a cluster of our own, whose processes know each other by the token in a file."""
    kept = {name: value for name, value in os.environ.items() if not _FOREIGN.fullmatch(name)}
    return {"HOME": _NO_HOME, **kept, **_ENVIRONMENT, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def _has_home() -> bool:
    try:
        Path.home()
    except RuntimeError:  # no HOME, and a user without an entry in the system's list, as in containers
        return False
    return True


def make_session_folder() -> Path:
    """Create an empty folder, readable by this user alone, whose path is short enough for Ray's sockets.

    Raises:
        UserError: no temporary folder is short, writable, free enough and able to hold sockets.
    """
    tried = []
    for base in _temporary_folders():
        if len(os.fsencode(base)) > _LONGEST_BASE:
            tried.append(f"{base} is too long")
            continue
        try:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        except OSError as error:
            tried.append(f"{base}: {error.strerror or error}")
            continue
        problem = _problem(folder)
        if problem is None:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        tried.append(f"{base}: {problem}")
    raise UserError(
        f"Ray needs a temporary folder with a path of {_LONGEST_BASE} bytes at most and {_LEAST_FREE_MB} MB "
        f"free, and found none ({'; '.join(tried)}). Set TMPDIR to one, or compute.backend to inprocess."
    )


def remove_dead_folders() -> None:
    """Remove the session folders that killed launches of this user left in the temporary folders of this machine.

    A folder of a living process is kept, and so is one that does not say whose it is.
    """
    for base in _temporary_folders():
        for folder in base.glob(f"{_PREFIX}*"):
            try:
                owned = folder.lstat().st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink()
                owner = (folder / _OWNER).read_text() if owned else ""
            except OSError:
                continue
            if has_ended(owner):
                shutil.rmtree(folder, ignore_errors=True)


def _temporary_folders() -> list[Path]:
    names = [os.environ.get("TMPDIR"), os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp", "/dev/shm"]
    return [folder for folder in map(Path, dict.fromkeys(name for name in names if name)) if folder.is_absolute()]


def _problem(folder: Path) -> str | None:
    """Reason why Ray could not work in a folder; None where it can."""
    try:
        if shutil.disk_usage(folder).free < _LEAST_FREE_MB * 1_000_000:
            return f"less than {_LEAST_FREE_MB} MB free"
        (folder / "probe").write_bytes(b"\0" * 65536)
        (folder / "probe").unlink()
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(folder / "socket"))
        (folder / "socket").unlink()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _require_listener(address: str | None) -> None:
    """Raise OSError where nothing listens at ``HOST:PORT``: Ray itself would try for minutes."""
    found = listener(address)
    if found:
        socket.create_connection(found, timeout=_CONNECT_S).close()


class ClusterDiedError(UserError):
    """The Ray cluster of a launch has died; the trials are back with the study."""

    exit_at_once = True


class RaySession:
    """Context manager that starts Ray on this machine, or joins the cluster of ``compute.ray_address``, and ends it again.

    Ray is started and ended in a thread of its own that lives as long as the session: Ray replaces signal handlers in the thread that
    it is called in, and its processes die with the thread that started them.

    The death of the cluster interrupts the block within seconds. Where the block does not react, because it waits in Ray, which ends
    the whole process after a minute, ``hand_back`` is called in another thread and the process ends with status 2.

    Args:
        hand_back: returns what runs to the study.

    Attributes:
        folder: scratch folder, removed at the end.

    Raises:
        UserError: on entering, where Ray cannot be started or reached; on leaving, where the cluster has died.
    """

    def __init__(
        self, compute: ComputeSection, cores: int, gpus: int, hand_back: Callable[[], None] = lambda: None
    ) -> None:
        self._hand_back, self._left = hand_back, threading.Event()
        self._compute = compute
        self._cores, self._gpus = cores, gpus
        self._thread = threading.Thread(target=self._live, name="ray-session", daemon=True)
        self._started, self._end, self._ended = threading.Event(), threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._watch: ClusterWatch | None = None
        self._lost: UserError | None = None
        self._raylet_socket: str | None = None
        self.folder = Path()

    def __enter__(self) -> RaySession:
        remove_dead_folders()
        with deferred():
            self.folder = make_session_folder()
            (self.folder / _OWNER).write_text(own_process())
        try:
            logging.getLogger("ray").setLevel(logging.ERROR)
            self._thread.start()
            wait_for(self._started, abandon=True)
            if self._failure is not None:
                raise self._explained(self._failure) from self._failure
            self._watch = ClusterWatch(self._compute.ray_address, self._raylet_socket, self._on_death)
            self._watch.start()
        except StoppedAtOnceError:
            self._abandon_start()
            raise
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._left.set()
        if self._watch is not None:
            self._watch.stop()
        self._end.set()
        if self._lost is None:
            wait_for(self._ended)
        else:
            self._abandon()
        self._remove_folder()
        if self._lost is not None:
            stopping.withdraw()  # the interrupt was this session's own request
            raise self._lost

    def _on_death(self, part: str) -> None:
        address = self._compute.ray_address
        text = (
            f"the Ray cluster at {address} has died ({part}), or cannot be reached any more. The study is kept; start the cluster again"
            if address
            else f"Ray's own processes on this machine have died ({part}), most often for want of memory. The study is kept; free some"
        )
        self._lost = ClusterDiedError(f"{text}, then run the same command again.")
        stopping.request()
        if not self._left.wait(_REACTION_S):
            self._end_process(self._lost)

    def _end_process(self, error: UserError) -> None:
        """End the process in place of Ray, whose call the main thread is in; the next launch finds nothing of this one."""
        try:
            self._hand_back()
        except UserError as failure:
            sys.stderr.write(f"paretoseg: {failure}\n")
        sys.stderr.write(f"paretoseg: {error}\n")
        sys.stderr.flush()
        self._abandon()
        self._remove_folder()
        os._exit(error.exit_status)

    def _abandon(self) -> None:
        """End what is left of a dead cluster without Ray's own ends, at exit too, which would wait for it."""
        import ray
        from ray.tune import registry

        for hook in (ray.shutdown, registry._unregister_all):
            atexit.unregister(hook)
        if self._watch is not None:
            self._watch.end_services()

    def _abandon_start(self) -> None:
        """End a start of Ray half-way: its thread at the next step that it takes in Python, and the processes that it has started."""
        ident = self._thread.ident
        if ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))
            self._started.wait(_ABANDON_S)
        end_processes_of(self.folder)
        self._remove_folder()

    def _remove_folder(self) -> None:
        for _ in range(_REMOVAL_TRIES):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                return
            time.sleep(0.1)  # a worker that is about to end still writes its log

    def _live(self) -> None:
        import ray

        try:
            _require_listener(self._compute.ray_address)
            ray.init(**self._arguments())
        except (Exception, SystemExit) as error:  # noqa: BLE001 (Ray raises bare Exceptions; explained in the launch's thread)
            self._failure = error
        node = ray._private.worker._global_node
        self._raylet_socket = None if node is None else node.raylet_socket_name
        self._started.set()
        self._end.wait()
        try:
            if self._lost is None:
                ray.shutdown(wait_for_processes=True)
        except (RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:  # the cluster has gone before
            logging.getLogger("paretoseg").debug("Ray did not shut down cleanly: %s", error)
        finally:
            self._ended.set()

    def _arguments(self) -> dict[str, Any]:
        common = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._compute.ray_address is not None:
            several = self._compute.workers_per_trial > 1
            environment = {"env_vars": {"RAY_TRAIN_V2_ENABLED": "0"}} if several else None
            return {**common, "address": self._compute.ray_address, "runtime_env": environment}
        inner, token = self.folder / _INNER, self.folder / "token"
        inner.mkdir()
        with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_TOKEN)
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
        return {
            **common,
            "address": "local",
            "num_cpus": self._cores,
            "num_gpus": self._gpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": str(inner),
            "_plasma_directory": str(inner),  # /dev/shm may be full, or tiny as in a container
        }

    def _explained(self, failure: BaseException) -> UserError:
        text = str(failure).strip()
        cause = text.splitlines()[0].rstrip(".") if text else type(failure).__name__
        if self._compute.ray_address is not None:
            return UserError(
                f"cannot reach the Ray cluster at {self._compute.ray_address}: {cause}. "
                "Start it with `ray start --head`, or leave compute.ray_address out to use this machine."
            )
        return UserError(
            f"Ray could not be started on this machine: {cause}. Look at `paretoseg doctor`, or set compute.backend to inprocess."
        )
