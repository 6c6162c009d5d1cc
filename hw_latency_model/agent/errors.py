"""Exit codes and exceptions of the agent."""

import errno

EXIT_DONE = 0
"""Every job has a result."""
EXIT_USER = 2
"""The user has to correct something, named on stderr."""
EXIT_RESUMABLE = 3
"""Stopped early (signal, full disk): the same command resumes the run."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserMistake(Exception):
    """A mistake that the user can correct; the text names the rule, the value and the next step."""


class JobError(Exception):
    """Failure of one job; the other jobs can still be measured.

    Args:
        reason: cause in one sentence.
        retry: the job may succeed in a later run.
        log: end of the failed program's output.
    """

    def __init__(self, reason: str, retry: bool = False, log: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry = retry
        self.log = log


class StaleEngine(Exception):
    """A cached engine that the installed TensorRT rejects; it must be rebuilt."""


class StopEarly(Exception):
    """End of a run that can be resumed later."""


def is_disk_full(error: BaseException) -> bool:
    """Return True for an ``OSError`` caused by a full disk, an exhausted quota or a file size limit."""
    return isinstance(error, OSError) and error.errno in DISK_FULL
