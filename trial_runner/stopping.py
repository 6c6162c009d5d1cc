"""Stop signals: SIGINT, SIGTERM and SIGHUP end a command at any point by one `KeyboardInterrupt`, but never its cleaning up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INSIST_S = 10.0
_POLL_S = 0.02
# An interrupt in the middle of a transaction leaves its lock behind, which the stop itself would then wait for.
_TRANSACTIONS = ("sqlalchemy.", "optuna.storages.")
_TRANSACTION_S = 2.0


class StoppedAtOnceError(KeyboardInterrupt):
    """Stop that leaves a library's thread in the middle of its work: a command ends its process without Python's own exit."""


class _StopState:
    def __init__(self) -> None:
        self.ends_process = False
        self.previous: dict[signal.Signals, Any] = {}
        self.requested_s: float | None = None
        self.raised = False
        self.deferred = 0


_state = _StopState()


@contextmanager
def stoppable(*, ends_process: bool = False) -> Iterator[None]:
    """Turn the first stop signal in the block into a `KeyboardInterrupt`; ignore further ones for ten seconds, while it cleans up.

    A signal that was ignored before (SIGHUP under nohup, SIGINT in a background job) stays ignored. Nested blocks are one block.
    Outside the main thread, where Python takes no signals, it does nothing.

    Args:
        ends_process: the process ends after the block, at once after a `StoppedAtOnceError`.
    """
    if _state.previous or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.requested_s, _state.raised, _state.deferred = None, False, 0
    _state.ends_process = ends_process
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    _state.previous = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}
    on_alarm = signal.signal(signal.SIGALRM, _on_alarm)
    reinstall()
    try:
        yield
    except Exception as error:
        if _state.raised:  # native code, pydantic for one, turns an interrupt in its callbacks into an error of its own
            raise KeyboardInterrupt from error
        raise
    finally:
        previous, _state.previous = _state.previous, {}
        signal.setitimer(signal.ITIMER_REAL, 0.0)  # one that is still set would end the process
        signal.signal(signal.SIGALRM, on_alarm)
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def deferred() -> Iterator[None]:
    """Keep a stop signal waiting until the end of the block; one that is repeated ten seconds later gets through."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.deferred += 1
    try:
        yield
    finally:
        _state.deferred -= 1
    if _state.requested_s is not None and not _state.raised:
        check()


def check() -> None:
    """Raise `KeyboardInterrupt` where a stop was requested: between two steps, for a library may have caught the first one."""
    if _state.previous and _state.requested_s is not None and not _state.deferred:
        _state.raised = True
        raise KeyboardInterrupt


def request() -> None:
    """Request a stop from another thread, as a stop signal does; nothing outside a `stoppable` block."""
    if not _state.previous or _state.requested_s is not None:
        return
    _state.requested_s = time.monotonic()
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGALRM)


def withdraw() -> None:
    """Forget the stop that was requested: the command ends with an error that says more."""
    _state.requested_s, _state.raised = None, False


def reinstall() -> None:
    """Install the handlers of a `stoppable` block anew: Ray resets SIGTERM behind Python's back."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _state.previous:
        signal.signal(number, _on_signal)


def wait_for(event: threading.Event, *, abandon: bool = False) -> None:
    """Wait for work of another thread that may reset signal handlers; a stop signal is raised after it, see `deferred`.

    Args:
        abandon: raise a stop signal at once, before the work has ended, where the process ends after the `stoppable` block.

    Raises:
        StoppedAtOnceError: the work was abandoned.
    """
    with deferred():
        while not event.wait(_POLL_S):
            reinstall()
            if abandon and _state.ends_process and _state.previous and _state.requested_s is not None:
                _state.raised = True
                raise StoppedAtOnceError
    reinstall()


def _on_signal(signum: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _state.requested_s is None:
        _state.requested_s = now
        _raise_when_safe(frame)
    elif now - _state.requested_s >= _INSIST_S:
        _state.raised = True
        raise KeyboardInterrupt


def _on_alarm(signum: int, frame: FrameType | None) -> None:
    _raise_when_safe(frame)


def _raise_when_safe(frame: FrameType | None) -> None:
    """Raise the interrupt, or try again soon where the main thread is in a transaction, for two seconds at most."""
    if _state.deferred or _state.raised or _state.requested_s is None:
        return
    if _in_transaction(frame) and time.monotonic() - _state.requested_s < _TRANSACTION_S:
        signal.setitimer(signal.ITIMER_REAL, _POLL_S)
        return
    _state.raised = True
    raise KeyboardInterrupt


def _in_transaction(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(_TRANSACTIONS):
            return True
        frame = frame.f_back
    return False
