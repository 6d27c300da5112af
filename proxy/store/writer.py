"""The one writer: hands works to a thread that commits whatever is queued, together.

There is no batching window: while one group is being committed the next one gathers, so that
groups grow with the load, and a lone work waits for nobody. docs/adr/0002-single-writer.md
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from proxy.store.committer import LOOK_S, Committer, Companion, Job
from proxy.store.errors import LedgerUnavailable

logger = logging.getLogger("sluice.store")

T = TypeVar("T")

#: How long a posted work waits for company at most.
POST_S = 0.25

#: The pause between two tries while the database cannot be written.
RETRY_S = 1.0


class Writer:
    """Commits works on the one writing connection. All its methods belong to the event loop."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[list[Job]] = SimpleQueue()
        self._gathered: list[Job] = []
        self._handing_over = False
        self._post_timer: asyncio.TimerHandle | None = None
        self._depth = 0
        self._stopping = threading.Event()
        self._stopped = self._loop.create_future()
        self._committer = Committer(connection, path, self._report)
        # A daemon: a process that is told to end at once does not wait for it, and loses by that
        # no more than by a kill.
        self._thread = threading.Thread(target=self._serve, name="sluice-writer", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the database could be written when last tried; tried each second when not."""
        return self._committer.healthy

    @property
    def depth(self) -> int:
        """How many works are not yet committed."""
        return self._depth + len(self._gathered)

    def join(self, companion: Companion) -> None:
        """Let `companion` take part in every transaction from now on."""
        self._committer.companions.append(companion)

    def submit(
        self, work: Callable[[sqlite3.Connection], T], *, until_committed: bool = False
    ) -> asyncio.Future[T]:
        """Queue `work`; the future resolves after its commit.

        The work runs whole, in the thread, in a transaction shared with whatever else is queued.
        It may run more than once, as after a neighbour's failure, and so must depend on nothing
        but the connection. Cancelling the future does not stop it.

        With `until_committed` the work is kept, in order, as long as the database cannot be
        written, and tried each second: how long to wait for the future is the caller's choice.
        Such a work is described by its `str()` in the log.

        The future fails with what the work raised, or with LedgerUnavailable when the database
        cannot be written, or the writer is closed.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._stopping.is_set():
            if until_committed:
                logger.critical("lost, as the database is closed: %s", work)
            future.set_exception(LedgerUnavailable("The database is closed."))
            return future
        return self._submit(Job(work, future, keep=until_committed), future)

    def submit_apart(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Queue `work`, to be run in its turn outside of any transaction; otherwise as `submit`."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._stopping.is_set():
            future.set_exception(LedgerUnavailable("The database is closed."))
            return future
        return self._submit(Job(work, future, keep=False, apart=True), future)

    def _submit(self, job: Job, future: asyncio.Future[T]) -> asyncio.Future[T]:
        self._gathered.append(job)
        if not self._handing_over:
            # At the end of this turn of the loop: what one turn submits wakes the thread once.
            self._handing_over = True
            self._loop.call_soon(self._hand_over)
        return future

    def post(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Queue `work` for the next group, or for one of its own within 250 ms.

        Nobody waits for it: it is kept like a settlement, and its errors are logged.
        """
        if self._stopping.is_set():
            logger.error("posted after the database was closed: %s", work)
            return
        self._gathered.append(Job(work, None, keep=True))
        if self._post_timer is None:
            self._post_timer = self._loop.call_later(POST_S, self._hand_over)

    async def close(self) -> None:
        """Commit all that is queued, then close the connection. What cannot be committed is logged."""
        if not self._stopping.is_set():
            self._hand_over()
            self._stopping.set()
            self._queue.put([])  # wakes the thread, should it wait already
        await asyncio.shield(self._stopped)
        self._thread.join()

    def _hand_over(self) -> None:
        self._handing_over = False
        if self._post_timer is not None:
            self._post_timer.cancel()
            self._post_timer = None
        self._depth += len(self._gathered)
        self._queue.put(self._gathered)
        self._gathered = []

    def _deliver(self, jobs: Sequence[Job]) -> None:
        self._depth -= len(jobs)
        for job in jobs:
            future = job.future
            if future is None or future.done():  # cancelled: its work is done all the same
                continue
            if job.error is None:
                future.set_result(job.result)
            else:
                future.set_exception(job.error)
                if job.keep:
                    future.exception()  # it is in the log; who submitted it may have stopped waiting

    # From here on: in the thread.

    def _serve(self) -> None:
        while not (self._stopping.is_set() and self._queue.empty()):
            self._committer.commit(self._take())
        self._committer.close()
        self._call(self._stopped.set_result, None)

    def _take(self) -> list[Job]:
        """Wait for work, or until it is time to look at the file, or to try again; take all there is."""
        jobs: list[Job] = []
        if self.healthy:
            try:
                jobs = self._queue.get(timeout=LOOK_S)
            except Empty:
                return []
        else:
            self._stopping.wait(RETRY_S)
        for _ in range(self._queue.qsize()):
            jobs.extend(self._queue.get_nowait())
        return jobs

    def _report(self, jobs: Sequence[Job]) -> None:
        if jobs:
            self._call(self._deliver, jobs)

    def _call(self, callback: Callable[..., object], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:  # the loop was closed before the database: nobody is left to hear it
            logger.warning("the event loop ended before the database was closed")
