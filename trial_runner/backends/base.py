"""The interface of an execution backend, and the choice of one by ``compute.backend``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from trial_runner.config.study import ComputeSection

if TYPE_CHECKING:
    from trial_runner.search.driver import StudyDriver

_RAY_ENVIRONMENT = {
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
_RAY_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class Backend(Protocol):
    """Executes the trials that a `StudyDriver` orders.

    Attributes:
        exports_inline: export in the driver's own process, not in a helper process.
    """

    exports_inline: bool

    def run(self, driver: StudyDriver) -> None:
        """Run trials until the driver has no more.

        `StudyDriver.ask` gives each trial, `StudyDriver.progress` receives every report and may stop it, `StudyDriver.finish`
        receives its end.

        Raises:
            UserError: something that concerns all trials; those that run stay with the study.
            KeyboardInterrupt: passed on, once everything that the backend started has ended.
        """


def make_backend(compute: ComputeSection) -> Backend:
    """Return the backend of a study. Ray is imported here, for a study that uses it, after its environment is set."""
    if compute.backend == "inprocess":
        from trial_runner.backends.inprocess import InProcessBackend

        return InProcessBackend()
    local = _RAY_ON_LOOPBACK if compute.ray_address is None else {}
    for key, value in {**_RAY_ENVIRONMENT, **local}.items():
        os.environ.setdefault(key, value)
    from trial_runner.backends.ray_tune import RayTuneBackend

    return RayTuneBackend(compute)
