"""The driver that holds a study's lease, as other processes see it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import optuna

from trial_runner.study.lease import LEASE_KEY


@dataclass(frozen=True)
class LeaseHolder:
    """Driver of a study.

    Attributes:
        host: its machine.
        pid: its process there.
        started: start time of the process, in clock ticks since boot.
        until: end of the lease, in seconds since the epoch.
    """

    host: str
    pid: int
    started: str | None
    until: float

    @property
    def alive(self) -> bool:
        """True while the lease has not expired."""
        return self.until > time.time()

    @property
    def is_process_here(self) -> bool:
        """True where ``pid`` is, on this machine, still the process that took the lease; meaningless for another host."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        return fields[0] != "Z" and fields[19] == self.started


def lease_holder(study: optuna.Study) -> LeaseHolder | None:
    """Driver that took a study's lease last and has not given it back; None without one."""
    held = study.user_attrs.get(LEASE_KEY)
    if not held or held["until"] <= 0:
        return None
    return LeaseHolder(held["host"], int(held["pid"]), held.get("started"), float(held["until"]))


def free_lease(study: optuna.Study) -> None:
    """Free a study from a driver that is known to have ended without giving the lease back."""
    held = study.user_attrs.get(LEASE_KEY)
    if held:
        study.set_user_attr(LEASE_KEY, {**held, "until": 0.0})
