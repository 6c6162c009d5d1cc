"""Trials one after the other in this process: the same driver and the same trial, and a traceback that is the real one."""

from __future__ import annotations

from trial_runner.search.driver import StudyDriver
from trial_runner.training.trial_spec import Progress, TrialFailed


def run(driver: StudyDriver) -> None:
    """Run trials until the driver has no more. Exceptions that are not the trial's own come out unchanged.

    Raises:
        UserError: a trial cannot read its data or write its files; it stays with the study, to be gone on with.
    """
    from trial_runner.training.trial import run_trial

    while (spec := driver.propose()) is not None:
        number = spec.number

        def report(progress: Progress, number: int = number) -> bool:
            return driver.progress(number, progress)

        failure = None
        try:
            run_trial(spec, report)
        except TrialFailed as error:
            failure = str(error)
        driver.finish(number, failure)
