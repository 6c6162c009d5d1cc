"""Monitoring of the agent during one batch: results are stored as they arrive, and a dead agent is restarted."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable

from hw_latency_model.board.report import clock_text
from hw_latency_model.board.results import BoardResults, KnownJob
from hw_latency_model.board.session import Batch, BoardSession
from hw_latency_model.board.transport import (
    DONE_EXIT,
    USER_EXIT,
    AgentLink,
    AgentState,
    ConnectionLost,
    Poll,
    RetryPolicy,
)
from search_spaces._common.errors import UserError

FIRST_POLL_S, LONGEST_POLL_S = 0.5, 10.0
HEARTBEAT_S = 60.0
MOST_STARTS = 4
"""Limit on consecutive starts of the agent without a new result."""
GRACE_SHARE = 0.2
"""Share of a job's planned time; a job that needs less than this at the deadline may finish."""


class JobMonitor:
    """Runs one batch on a board.

    Args:
        batch: jobs of the batch.
        session: files of the session.
        link, ask: connection to the board, and its retry policy.
        say: called with lines of progress.
        take_in: stores new results and returns all of them.
        describe: short description of a subject.
        clock: elapsed time as text.
    """

    def __init__(
        self,
        batch: Batch,
        session: BoardSession,
        link: AgentLink,
        ask: RetryPolicy,
        say: Callable[[str], None],
        *,
        take_in: Callable[[], BoardResults],
        describe: Callable[[str], str],
        clock: Callable[[], str],
    ) -> None:
        self.batch, self.session, self.link, self.ask, self.say = batch, session, link, ask, say
        self._take_in, self._describe, self._clock = take_in, describe, clock
        self._seconds = {job.id: seconds for job, seconds in zip(batch.jobs, batch.seconds, strict=True)}
        self._results: BoardResults | None = None
        self._told: set[str] = set()
        self._job_since = time.monotonic()
        self._said = time.monotonic()

    def measure(self, *, deadline: float = math.inf, enough: Callable[[], bool] = lambda: True) -> BoardResults:
        """Send the files missing on the board and ``run`` the batch; kits of finished batches are deleted.

        Raises:
            KeyboardInterrupt: the agent was stopped and restored the clocks; its results are stored.
        """
        kit = self.session.kit_folder(self.batch.number)
        try:
            if kit.is_dir():
                self.ask(lambda: self.link.send(kit))
            results = self.run(deadline=deadline, enough=enough)
        except KeyboardInterrupt:
            self.say("stopping the board; what it measured is kept")
            with contextlib.suppress(ConnectionLost, UserError):
                self.link.stop()
                self.session.append(self.link.poll(self.session.offset).data)
            self._take_in()
            raise
        if self.session.open_batch(results) is None:
            self.session.drop_kits()
        return results

    def run(self, *, deadline: float, enough: Callable[[], bool]) -> BoardResults:
        """Wait until every job of the batch has a result or the deadline has passed.

        Args:
            deadline: by ``time.monotonic``; a job that is nearly done may finish.
            enough: allow an early end.

        Raises:
            UserError: the board needs manual intervention; its results are stored before.
        """
        results = self._take_in()
        self._told = {job.id for job in self.batch.jobs if job.id in results.done}
        if self._left(results):
            self.ask(self.link.start)
        starts, tried_again, pause_s = 1, False, FIRST_POLL_S
        while True:
            poll = self._poll()
            results, news = self._receive(poll)
            if news:
                starts, pause_s = 0, FIRST_POLL_S
            left = self._left(results)
            if poll.state == AgentState.RUNNING:
                if left and time.monotonic() > deadline and enough() and not self._nearly_done(results):
                    self.say(f"[{self._clock()}] the time is spent; the board is told to stop")
                    self.ask(self.link.stop)
                    return self._receive(self._poll())[0]
                self._heartbeat(results)
            elif not left:
                return results
            else:
                if poll.code == DONE_EXIT:
                    if tried_again:
                        return results  # the remaining jobs failed, and failed again after a restart of the agent
                    tried_again = True
                else:
                    self._explain(poll, starts)
                starts += 1
                self.ask(self.link.start)
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, LONGEST_POLL_S)

    def _left(self, results: BoardResults) -> list[KnownJob]:
        return [job for job in self.batch.jobs if job.id not in results.done]

    def _poll(self) -> Poll:
        poll = self.ask(lambda: self.link.poll(self.session.offset))
        if poll.size < self.session.offset:
            self.session.start_over()
            poll = self.ask(lambda: self.link.poll(0))
        return poll

    def _receive(self, poll: Poll) -> tuple[BoardResults, int]:
        before = self.session.offset
        self.session.append(poll.data)
        if self.session.offset == before and self._results is not None:
            return self._results, 0
        results = self._results = self._take_in()
        news = [job for job in self.batch.jobs if job.id in results.done and job.id not in self._told]
        measured = {item.subject: item for item in results.measurements}
        failed = {failure.job_id: failure for failure in results.failures}
        for job in news:
            self._told.add(job.id)
            where = f"[{self._clock()}] {len(self._told)}/{len(self.batch.jobs)}"
            if job.subject in measured and job.id not in failed:
                item = measured[job.subject]
                marks = ", noisy" if item.noisy else ""
                built = f", built in {clock_text(item.build_s)}" if item.build_s and item.build_s >= 1 else ""
                self.say(f"{where} {item.latency_ms_p50:9.3f} ms{marks}  {self._describe(job.subject)}{built}")
            else:
                self.say(f"{where}    failed     {self._describe(job.subject)}: {failed[job.id].reason}")
        if news:
            self._job_since = self._said = time.monotonic()
        return results, len(news)

    def _explain(self, poll: Poll, starts: int) -> None:
        """Report why the agent is not running; raise if restarting it would not help."""
        log = self.ask(self.link.log_tail)
        last = log.splitlines()[-1] if log else ""
        place = self.link.shell.place
        full = self.ask(self.link.full_disk)
        if full is not None or reports_full_disk(log):
            raise full or UserError(
                f"the disk of {place} is full ({last}). Free some space there and run the same command again; nothing that "
                "was measured is lost."
            )
        if poll.state == AgentState.EXIT and poll.code == USER_EXIT:
            raise UserError(f"the agent on {place} cannot go on: {last or 'it does not say why'}")
        ended = (
            f"ended with status {poll.code}"
            if poll.state == AgentState.EXIT
            else "is gone: it was killed, or the board started anew"
        )
        if starts >= MOST_STARTS:
            raise UserError(
                f"the agent on {place} {ended}, {starts} times without a new result ({last or 'it said nothing'}). Look "
                f"at {self.link.folder}/agent.log there and run the same command again; nothing that was measured is lost."
            )
        self.say(f"[{self._clock()}] the agent on {place} {ended}; starting it again, it goes on where it was")

    def _nearly_done(self, results: BoardResults) -> bool:
        planned = self._planned(results)
        worked = time.monotonic() - self._job_since
        return planned > 0 and (1 - GRACE_SHARE) * planned <= worked <= (1 + GRACE_SHARE) * planned

    def _planned(self, results: BoardResults) -> float:
        return next((self._seconds[job.id] for job in self._left(results)), 0.0)

    def _heartbeat(self, results: BoardResults) -> None:
        now = time.monotonic()
        if now - self._said < HEARTBEAT_S:
            return
        self._said = now
        left = self._left(results)
        if left:
            worked = now - self._job_since
            rest = max(0.0, sum(self._seconds[job.id] for job in left) - worked)
            self.say(
                f"[{self._clock()}] {self._describe(left[0].subject)}: {clock_text(worked)} of about "
                f"{clock_text(self._seconds[left[0].id])}; this batch about {clock_text(rest)} more"
            )


def reports_full_disk(log: str) -> bool:
    """True for an agent log that says its disk is full; the exit status is the same as after other early stops."""
    text = log.lower()
    return "disk full" in text or "no space left" in text
