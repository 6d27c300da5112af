"""The database: opens it, reads it, and owns the writer."""

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiosqlite

from proxy.store.errors import DatabaseUnwritable, LedgerUnavailable, StoreError, is_of_the_file
from proxy.store.schema import (
    create_private,
    inspect,
    migrate,
    rewrite_header,
    shipped_migrations,
)
from proxy.store.writer import Writer

Parameters = Sequence[object] | Mapping[str, object]

#: STRICT tables came with this one.
OLDEST_SQLITE = (3, 37, 0)

#: How long SQLite waits for another process's lock.
_BUSY_S = 5.0

#: A statement that reads may take so long; a longer one would keep the log from being reused.
_STATEMENT_S = 2.0

#: The deadline is looked at each so many steps of SQLite's machine, some 0.1 ms.
_STEPS = 10_000

#: So that a slow report does not hold up a receipt.
_READERS = 2

# FULL waits for the disk at each commit; NORMAL leaves that to the checkpoints: a power loss, but
# no crash of the process, may then take the last commits back. On macOS the first needs more.
_SYNCHRONOUS = {
    "NORMAL": ("PRAGMA synchronous = NORMAL", "PRAGMA fullfsync = OFF"),
    "FULL": ("PRAGMA synchronous = FULL", "PRAGMA fullfsync = ON"),
}

_WRITING = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA mmap_size = 0",  # a failed read is then an error, not a signal that ends the process
    "PRAGMA wal_autocheckpoint = 1000",  # pages of 4 KiB: few enough that one takes milliseconds
    "PRAGMA journal_size_limit = 67108864",  # what a long read let it grow to is given back
)

_READING = (
    "PRAGMA query_only = ON",
    "PRAGMA mmap_size = 0",
    "PRAGMA temp_store = MEMORY",
)


class Database:
    """One SQLite file: a writer, and a few connections that can only read."""

    def __init__(self, path: Path, writer: Writer, readers: Sequence["_Reader"]) -> None:
        self.path = path
        self.writer = writer
        self._readers = readers
        self._idle: asyncio.Queue[_Reader] = asyncio.Queue()
        self._closed = False
        for reader in readers:
            self._idle.put_nowait(reader)

    @classmethod
    async def open(cls, path: Path, *, synchronous: str = "NORMAL") -> "Database":
        """Open the file, made with mode 0600 when missing, and bring its schema up to date.

        The caller holds the InstanceLock. `synchronous` is NORMAL or FULL.

        Raises:
            DatabaseDamaged: corrupt, or not a database of this program; it is left as it was.
            SchemaTooNew: made by a newer version; it is left as it was.
            DatabaseUnwritable: it cannot be created, opened, migrated or written.
        """
        connection = await asyncio.to_thread(_open_writing, path, synchronous)
        writer = Writer(connection, path)
        readers: list[_Reader] = []
        try:
            while len(readers) < _READERS:
                readers.append(await _Reader.open(path))
        except BaseException as error:
            await cls(path, writer, readers).close()
            if isinstance(error, sqlite3.Error):
                raise DatabaseUnwritable(f"{path} cannot be opened for reading: {error}") from error
            raise
        return cls(path, writer, readers)

    async def fetch_all(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """Return all rows; a statement gets 2 s.

        Raises:
            LedgerUnavailable: it took longer, or the file cannot be read.
        """
        if self._closed:
            raise LedgerUnavailable("The database is closed.")
        reader = await self._idle.get()
        query = asyncio.ensure_future(reader.fetch_all(sql, parameters))
        # A cancelled caller leaves; the statement goes on, and its connection is not free before.
        query.add_done_callback(lambda _: self._idle.put_nowait(reader))
        return await asyncio.shield(query)

    async def fetch_one(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """Return the first row, None without any; otherwise as `fetch_all`."""
        rows = await self.fetch_all(sql, parameters)
        return rows[0] if rows else None

    async def set_synchronous(self, synchronous: str) -> None:
        """Commit with NORMAL or FULL from now on: what is submitted later already is.

        Raises:
            LedgerUnavailable: the database cannot be written.
        """

        def work(connection: sqlite3.Connection) -> None:
            for pragma in _SYNCHRONOUS[synchronous]:
                connection.execute(pragma)

        await self.writer.submit_apart(work)

    async def close(self) -> None:
        """Commit all that is queued and close: one file remains."""
        if not self._closed:
            self._closed = True
            for _ in self._readers:  # each as soon as its statement has ended
                await (await self._idle.get()).close()
        await self.writer.close()  # last, so that it is the one that folds the log into the file


class _Reader:
    """One connection that cannot write, used by one caller at a time."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._deadline = 0.0

    @classmethod
    async def open(cls, path: Path) -> "_Reader":
        connection = await aiosqlite.connect(_read_only(path), uri=True, isolation_level=None)
        connection.row_factory = sqlite3.Row
        reader = cls(connection)
        try:
            for pragma in _READING:
                await connection.execute_fetchall(pragma)
            await connection.set_progress_handler(reader._is_late, _STEPS)
        except BaseException:
            await connection.close()  # its thread would keep the process from ending
            raise
        return reader

    async def fetch_all(self, sql: str, parameters: Parameters) -> list[sqlite3.Row]:
        self._deadline = time.monotonic() + _STATEMENT_S
        try:
            return list(await self._connection.execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            if time.monotonic() > self._deadline:
                raise LedgerUnavailable("The query took longer than 2 s; ask for less.") from error
            if is_of_the_file(error):
                raise LedgerUnavailable("The database cannot be read.") from error
            raise

    async def close(self) -> None:
        await self._connection.close()

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline


def _open_writing(path: Path, synchronous: str) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(f"SQLite 3.37 or newer is needed; this Python has {sqlite3.sqlite_version}")
    migrations = shipped_migrations()
    try:
        inspect(path, migrations)
        if not path.exists():
            create_private(path)
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseUnwritable(f"{path} cannot be opened: {error}") from error
    try:
        _prepare(connection, path, synchronous)
        migrate(connection, path, migrations)
        rewrite_header(connection)
    except BaseException as error:
        connection.close()
        if isinstance(error, (OSError, sqlite3.Error)):
            raise DatabaseUnwritable(f"{path} cannot be written: {error}") from error
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, synchronous: str) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise DatabaseUnwritable(f"{path}: the file system lacks shared memory; use a local disk")
    for pragma in (*_WRITING, *_SYNCHRONOUS[synchronous]):
        connection.execute(pragma)


def _read_only(path: Path) -> str:
    return path.absolute().as_uri() + "?mode=ro"
