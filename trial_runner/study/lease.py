"""The lease that keeps a study to one driver at a time, and the fence that refuses writes of a driver without it."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import optuna
from sqlalchemy.exc import SQLAlchemyError

from objectives.optuna_private import StudyAttribute
from search_spaces._common.errors import UserError
from search_spaces._common.machine import machine_id, start_time
from trial_runner import stopping
from trial_runner.stopping import deferred

LEASE_KEY = "driver"
LEASE_S = 20.0
_POLLS = 20
_ABANDONED_S = 86_400.0
"""A lease of another host that ended this long ago is taken at once: no clock that is set at all is wrong by a day."""
_held_here: set[str] = set()
"""Ids of the leases that this process holds."""

logger = logging.getLogger("paretoseg")


class LeaseLostError(UserError):
    """Another driver has taken the study over; nothing more may be written."""


class DriverLease:
    """Context manager that excludes a second driver from a study, by a study attribute renewed every few seconds.

    The attribute is taken and renewed by compare-and-set. It holds a token, one higher for each driver, and while the lease is held every
    transaction of the study's storage checks that the token is still the stored one.

    A lease of this host is held as long as its process lives, whatever the clock says, and taken over at once when it has died. One of
    another host is taken over once it has expired and no renewal is seen for ``LEASE_S``: clocks of two hosts may differ.

    Attributes:
        token: this driver's; 0 before entering.

    Raises:
        UserError: on entering, while another driver holds the lease.
        LeaseLostError: on leaving, and from every write of the study, once another driver has taken it over.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_stopped, name="driver-lease", daemon=True)
        self._attribute = StudyAttribute(study, LEASE_KEY)
        self._id = secrets.token_hex(8)
        self._mine: dict[str, Any] = {
            "host": socket.gethostname(),
            "machine": machine_id(),
            "pid": os.getpid(),
            "started": start_time(os.getpid()),
            "id": self._id,
        }
        self._unguard: Callable[[], None] = lambda: None
        self._lost: LeaseLostError | None = None
        self.token = 0

    def __enter__(self) -> DriverLease:
        try:
            self._take()
            with deferred():
                self._unguard = self._attribute.guard_writes(self._require_mine)
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
            self._unguard()
            self._unguard = lambda: None
            try:
                if self._id in _held_here:
                    self._renew(0.0)
            except LeaseLostError as lost:
                self._lost = lost
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
                logger.warning("could not give the study free; it is free in %.0f s", LEASE_S)
            _held_here.discard(self._id)
        if self._lost is not None:
            stopping.withdraw()  # the interrupt was this lease's own request
            raise self._lost from error

    @property
    def fence(self) -> str:
        """Token and id of this driver, for `WriteFence`."""
        return f"{self.token} {self._id}"

    def require_held(self) -> None:
        """Raise LeaseLostError where another driver has taken the study over."""
        self._require_mine(self._attribute.read())

    def _take(self) -> None:
        while True:
            stored = self._attribute.read()
            held = json.loads(stored) if stored else None
            if held is not None:
                self._require_free(held, stored)
            self.token = int((held or {}).get("token", 0)) + 1
            with deferred():
                _held_here.add(self._id)
                if self._attribute.replace(stored, self._text(time.time() + LEASE_S)):
                    return
                _held_here.discard(self._id)

    def _require_free(self, held: dict[str, Any], stored: str | None) -> None:
        """Return once the lease ``held`` may be replaced. Raises UserError where its driver is alive, or may be."""
        if held["until"] <= 0.0:
            return
        if held["host"] == self._mine["host"] and held.get("machine", self._mine["machine"]) == self._mine["machine"]:
            if self._alive_here(held):
                raise self._driven(held)
            return
        if held["until"] > time.time():
            raise self._driven(held)
        if held["until"] > time.time() - _ABANDONED_S:
            self._require_no_renewal(held, stored)

    def _require_no_renewal(self, held: dict[str, Any], stored: str | None) -> None:
        logger.warning(
            "the study was driven by process %s on %s, whose lease has expired; watching for %.0f s that it is not renewed",
            held["pid"],
            held["host"],
            LEASE_S,
        )
        end = time.monotonic() + LEASE_S
        while time.monotonic() < end:
            time.sleep(LEASE_S / _POLLS)
            if self._attribute.read() != stored:
                raise self._driven(held)

    def _driven(self, held: dict[str, Any]) -> UserError:
        return UserError(
            f"the study {self._study.study_name} is being driven by process {held['pid']} on {held['host']}. "
            f"Wait for it or stop it; a driver that died frees the study after {LEASE_S:.0f} s."
        )

    def _renew_until_stopped(self) -> None:
        while not self._stop.wait(LEASE_S / 4):
            try:
                self._renew(time.time() + LEASE_S)
            except LeaseLostError as lost:
                self._lost = lost
                stopping.request()
                return
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
                continue  # retried at the next turn; a lasting fault is reported by the driver's own writes

    def _renew(self, until: float) -> None:
        """Store a new end of the lease. Raises LeaseLostError where another driver holds it."""
        while True:
            stored = self._attribute.read()
            self._require_mine(stored)
            if self._attribute.replace(stored, self._text(until)):
                return

    def _require_mine(self, stored: str | None) -> None:
        held = json.loads(stored) if stored else {}
        if held.get("id") == self._id:
            return
        holder = f"process {held['pid']} on {held['host']}" if held else "nobody: its lease was removed"
        raise LeaseLostError(
            f"the study {self._study.study_name} is now driven by {holder}, so this driver ends and writes nothing more. "
            "It had not renewed its lease in time (stopped, suspended, or cut off from the database)."
        )

    def _text(self, until: float) -> str:
        return json.dumps({**self._mine, "token": self.token, "until": until})

    def _alive_here(self, held: dict[str, Any]) -> bool:
        if held["pid"] == self._mine["pid"] and str(held["started"]) == self._mine["started"]:
            return held.get("id") in _held_here
        return start_time(int(held["pid"])) == str(held["started"])
