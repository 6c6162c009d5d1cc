"""Trials one after the other in this process: the same driver and the same trial, and a traceback that is the real one."""

from __future__ import annotations

from search_spaces.errors import UserError
from trial_runner.driver import StudyDriver
from trial_runner.trial_spec import Progress, TrialFailed


def run(driver: StudyDriver) -> None:
    """Run trials until the driver has no more. Exceptions that are not the trial's own come out unchanged."""
    from trial_runner.trial import run_trial

    while (spec := driver.propose()) is not None:
        number = spec.number

        def report(progress: Progress, number: int = number) -> bool:
            return driver.progress(number, progress)

        failure = None
        try:
            run_trial(spec, report)
        except (TrialFailed, UserError) as error:
            failure = str(error)
        driver.finish(number, failure)
