"""Backups of a database in use, one at a time: a copy in a file beside it, handed out in pieces.

docs/operations.md, "Backup and restore"
"""

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from proxy.core.errors import RequestRefused, Unavailable
from proxy.store.copies import backup_part, remove_parts, take
from proxy.store.errors import CopyStopped, LedgerUnavailable, StoreError
from proxy.store.schema import remove_whole

logger = logging.getLogger("sluice.store")

# Of the file, so much at a time is in memory.
_PIECE_BYTES = 256 * 1024


class Backups:
    """Makes backups of one database. The caller holds its lock."""

    def __init__(self, database: Path) -> None:
        self._database = database.resolve()
        self._current: Backup | None = None
        self._closed = False
        with contextlib.suppress(OSError):  # it is in nobody's way before the next backup
            remove_parts(self._database)  # what a killed process may have left

    async def make(self) -> "Backup":
        """Return the backup as of now; the caller closes it. Cancelled, it is given up.

        Raises:
            RequestRefused: another one is being made or taken (409 backup_running).
            LedgerUnavailable: it cannot be made, as when the disk is full.
            Unavailable: the server is stopping.
        """
        if self._current is not None:
            await self._current.removed()  # where it has just been taken
        if self._closed:
            raise _stopping()
        if self._current is not None:
            raise RequestRefused(
                "backup_running",
                "Another backup is being made, or still downloaded; try again when it is done.",
                status=409,
            )
        backup = self._current = Backup(self._database, self._forget)
        try:
            await backup.write()
        except BaseException as error:
            backup.close()
            if isinstance(error, CopyStopped):
                raise _stopping() from None
            if isinstance(error, OSError | sqlite3.Error | StoreError):
                await backup.removed()
                raise LedgerUnavailable(f"The backup cannot be made: {_reason(error)}.") from error
            raise
        return backup

    async def close(self) -> None:
        """End what runs, and let nothing begin."""
        self._closed = True
        if self._current is not None:
            self._current.close()
            await self._current.removed()

    def _forget(self) -> None:
        self._current = None


class Backup:
    """One backup, in a file of its own until `close`. What touches the file runs in one thread."""

    def __init__(self, database: Path, forget: Callable[[], None]) -> None:
        self._database = database
        self._forget = forget
        self._part = backup_part(database)
        self._file: BinaryIO | None = None
        self._closed = threading.Event()
        self._removing: asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "sluice-backup")
        self._loop = asyncio.get_running_loop()
        self.size_bytes = 0

    async def write(self) -> None:
        """Make the copy. Raises CopyStopped after `close`, and what `copies.take` raises."""
        self.size_bytes = await self._loop.run_in_executor(self._thread, self._write)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the whole file; before the last piece it is closed, so that another one can follow at once.

        Raises Unavailable after `close`, OSError when the file cannot be read on.
        """
        left = self.size_bytes
        while left:
            if self._closed.is_set():
                raise _stopping()
            piece = await self._loop.run_in_executor(self._thread, self._read)
            if not piece:
                raise OSError(f"{self._part} was cut short")
            left -= len(piece)
            if not left:
                self.close()
            yield piece

    def close(self) -> None:
        """Give up what is still done, and remove the file, soon; once is enough."""
        if not self._closed.is_set():
            self._closed.set()
            self._removing = self._loop.run_in_executor(self._thread, self._remove)
            self._removing.add_done_callback(self._ended)
            self._thread.shutdown(wait=False)

    async def removed(self) -> None:
        """Wait for the end of `close`, if that was called."""
        if self._removing is not None:
            await asyncio.wait([self._removing])

    def _ended(self, removing: asyncio.Future[None]) -> None:
        self._forget()
        if error := removing.exception():
            logger.warning("%s could not be removed; the next start will: %s", self._part, error)

    # From here on: in the thread.

    def _write(self) -> int:
        remove_whole(self._part)
        take(self._database, self._part, durably=False, goes_on=lambda: not self._closed.is_set())
        self._file = self._part.open("rb")
        return self._part.stat().st_size

    def _read(self) -> bytes:
        return b"" if self._file is None else self._file.read(_PIECE_BYTES)

    def _remove(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        remove_whole(self._part)


def _stopping() -> Unavailable:
    return Unavailable("shutting_down", "The server is stopping.")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
