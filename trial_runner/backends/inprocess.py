"""The in-process backend: trials one after the other, with the same driver and trial code as under Ray, for debugging and tests."""

from __future__ import annotations

from trial_runner.search.driver import StudyDriver
from trial_runner.stopping import check
from trial_runner.training.trial import run_trial
from trial_runner.training.trial_spec import Progress, TrialFailed


class InProcessBackend:
    """Runs each trial in the driver's process; exceptions other than `TrialFailed` come out unchanged."""

    exports_inline = True

    def run(self, driver: StudyDriver) -> None:
        """Run trials until the driver has no more; see `Backend.run`."""
        while (spec := driver.ask()) is not None:
            check()
            number = spec.number

            def report(progress: Progress, number: int = number) -> bool:
                return driver.progress(number, progress)

            failure = None
            try:
                run_trial(spec, report)
            except TrialFailed as error:
                failure = str(error)
            driver.finish(number, failure)
