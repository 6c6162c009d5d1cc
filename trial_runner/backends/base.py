"""The interface of an execution backend, and the choice of one by ``compute.backend``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from trial_runner.config.study import ComputeSection

if TYPE_CHECKING:
    from trial_runner.search.driver import StudyDriver


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
    from trial_runner.backends.ray_session import ray_environment

    with ray_environment(compute):
        from trial_runner.backends.ray_tune import RayTuneBackend

    return RayTuneBackend(compute)
