"""Transactions on the one writing connection: all that happens in the writer's thread.

Nothing here knows of the event loop. Works that must not be lost wait here, in their order, while
the database cannot be written. docs/adr/0002-single-writer.md
"""

import asyncio
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Protocol

from proxy.store.errors import FileReplaced, LedgerUnavailable, is_of_the_file
from proxy.store.schema import rewrite_header

logger = logging.getLogger("sluice.store")

#: A transaction takes at most so many works: a long backlog goes in pieces that can succeed alone.
GROUP_WORKS = 1000

#: Works that may wait for a database that cannot be written. As many exchanges as may run at once
#: can end in them, and while it lasts no new ones are admitted.
KEPT_WORKS = 10_000

#: How often the file is looked at, whether it still is the one that was opened.
LOOK_S = 10.0


class Job:
    """One work on its way: a function of the connection, and what came of it.

    `keep` holds it until it is committed. `apart`: it is run between transactions, in its turn, as
    SQLite demands of some settings. `future` is the writer's; here it is only carried.
    """

    __slots__ = ("announced", "apart", "error", "future", "keep", "result", "work")

    def __init__(
        self,
        work: Callable[[sqlite3.Connection], object],
        future: asyncio.Future[Any] | None,
        *,
        keep: bool,
        apart: bool = False,
    ) -> None:
        self.work = work
        self.future = future
        self.keep = keep
        self.apart = apart
        self.result: object = None
        self.error: Exception | None = None
        self.announced = False


class Companion(Protocol):
    """Takes part in every transaction: what its works have in common is written once, at the end."""

    def begin(self) -> None:
        """Forget what an undone transaction may have left."""

    def flush(self, connection: sqlite3.Connection) -> None:
        """Write what the works of this transaction have gathered."""


class Committer:
    """Runs jobs in transactions, and reports each as finished once it is committed or has failed."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, finished: Callable[[Sequence[Job]], None]
    ) -> None:
        self._connection = connection
        self._path = path
        self._file = path.stat()
        self._looked = time.monotonic()
        self._finished = finished
        self._waiting: deque[Job] = deque()
        self._cause: str | None = None
        self.companions: list[Companion] = []

    @property
    def healthy(self) -> bool:
        """Whether the last transaction could be committed."""
        return self._cause is None

    def commit(self, jobs: Sequence[Job]) -> None:
        """Commit what waited and then `jobs`; without any, after a failure, try whether it works again."""
        self._waiting.extend(jobs)
        try:
            self._look()
            while self._waiting:
                self._commit_group()
            if not self.healthy:
                self._prove()
        except Exception as error:  # what a work did wrong went to its own future: this is the database
            self._fail(error)

    def close(self) -> None:
        """Give up what cannot be committed, fold the log into the file, and close it."""
        for job in self._waiting:
            logger.critical("lost, as the database cannot be written: %s", job.work)
            job.error = LedgerUnavailable("The server stopped before the database could be written.")
        self._finished(list(self._waiting))
        self._waiting.clear()
        try:
            if self.healthy:
                (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if busy:
                    logger.warning("%s is being read elsewhere: its -wal file stays", self._path)
        except sqlite3.Error as error:
            logger.warning("the log of %s could not be folded into it: %s", self._path, error)
        finally:
            self._connection.close()

    def _commit_group(self) -> None:
        if self._waiting[0].apart:
            self._run_apart(self._waiting[0])
            return
        group = list(takewhile(lambda job: not job.apart, islice(self._waiting, GROUP_WORKS)))
        error = self._attempt(group)
        if error is None:
            self._finish(group)
            return
        for job in group:  # each alone, so that one's failure undoes no neighbour
            if len(group) > 1:
                error = self._attempt([job])
            if error is not None and is_of_the_file(error):
                raise error
            job.error = error
            self._finish([job])

    def _run_apart(self, job: Job) -> None:
        self._end_transaction()
        try:
            job.result = job.work(self._connection)
        except Exception as error:  # whatever a work raises belongs to whoever submitted it
            if is_of_the_file(error):
                raise
            job.error = error
        self._finish([job])

    def _end_transaction(self) -> None:
        if self._connection.in_transaction:  # a rollback had failed
            self._connection.execute("ROLLBACK")

    def _attempt(self, jobs: Sequence[Job]) -> Exception | None:
        """Run `jobs` in one transaction; return what undid it, None once it is committed.

        Raises:
            sqlite3.Error: no transaction could be begun or undone.
        """
        self._end_transaction()
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for companion in self.companions:
                companion.begin()
            for job in jobs:
                job.result = job.work(connection)
            for companion in self.companions:
                companion.flush(connection)
            connection.execute("COMMIT")
        except Exception as error:  # whatever a work raises belongs to whoever submitted it
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return error
        self._succeed()
        return None

    def _finish(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._waiting.popleft()
            if job.error is not None and (job.keep or job.future is None):
                logger.error("refused for good: %s", job.work, exc_info=job.error)
        self._finished(jobs)

    def _look(self) -> None:
        now = time.monotonic()
        if self.healthy and now - self._looked < LOOK_S:
            return
        self._looked = now
        try:
            there = self._path.stat()
        except FileNotFoundError:
            raise FileReplaced("the file was deleted; stop the server and restore it") from None
        if not os.path.samestat(there, self._file):
            raise FileReplaced("another file took its place; stop the server")

    def _prove(self) -> None:
        error = self._attempt([Job(rewrite_header, None, keep=False)])
        if error is not None:
            raise error

    def _succeed(self) -> None:
        if self._cause is not None:
            self._cause = None
            logger.warning("%s can be written again", self._path)

    def _fail(self, error: Exception) -> None:
        cause = str(error) or type(error).__name__
        if cause != self._cause:
            self._cause = cause
            logger.error("%s cannot be written: %s", self._path, cause)
        kept: deque[Job] = deque()
        refused: list[Job] = []
        for job in self._waiting:
            if job.keep and len(kept) < KEPT_WORKS:
                self._announce(job)
                kept.append(job)
            else:
                if job.keep:
                    logger.critical("lost, as too many wait already: %s", job.work)
                job.error = LedgerUnavailable()
                refused.append(job)
        self._waiting = kept
        self._finished(refused)

    def _announce(self, job: Job) -> None:
        if not job.announced:
            job.announced = True
            logger.error("kept in memory until the database can be written: %s", job.work)
