"""Signal handling of tests and their child processes, the same in a terminal, a background job, under nohup and cron."""

from __future__ import annotations

import signal


def restore_interrupt() -> None:
    """Handle SIGINT in this process where it is ignored, as in background jobs: child processes would inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def default_signals() -> None:
    """Undo what nohup and background jobs ignore; a ``preexec_fn`` for a process that a test sends signals to."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
