"""The lease that keeps a study to one driver at a time."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from sqlalchemy.exc import SQLAlchemyError

from search_spaces._common.errors import UserError
from trial_runner.stopping import deferred

_LEASE = "driver"
LEASE_S = 20.0


class DriverLease:
    """Context manager that excludes a second driver from a study, by a study attribute renewed every few seconds.

    The lease of a process of this host that has died is taken over at once, one of another host when it has expired.

    Raises:
        UserError: on entering, while another driver holds the lease.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="driver-lease", daemon=True)
        self._mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": _start_time(os.getpid())}

    def __enter__(self) -> DriverLease:
        held = self._study.user_attrs.get(_LEASE)
        if held and held["until"] > time.time() and not self._gone(held):
            raise UserError(
                f"the study {self._study.study_name} is being driven by process {held['pid']} on {held['host']}. "
                "Wait for it or stop it; a driver that died frees the study after "
                f"{LEASE_S:.0f} s."
            )
        try:
            with deferred():
                self._write(time.time() + LEASE_S)
                self._thread.start()
        except KeyboardInterrupt:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with deferred():
            self._stop.set()
            if self._thread.is_alive():
                self._thread.join()
            try:
                self._write(0.0)
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
                optuna.logging.get_logger("paretoseg").warning(
                    "could not give the study free; it is free in %.0f s", LEASE_S
                )

    def _write(self, until: float) -> None:
        self._study.set_user_attr(_LEASE, {**self._mine, "until": until})

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_S / 4):
            try:
                self._write(time.time() + LEASE_S)
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
                continue  # retried at the next turn; a lasting fault is reported by the driver's own writes

    def _gone(self, held: dict[str, Any]) -> bool:
        if held["host"] != self._mine["host"]:
            return False
        return held["pid"] == self._mine["pid"] or _start_time(int(held["pid"])) != str(held["started"])


def _start_time(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since boot; None for a dead or unreadable one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
