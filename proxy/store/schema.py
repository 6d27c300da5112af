"""The database file: whether it can be used, its copies, and its migrations.

Migrations are the numbered files of `proxy/store/migrations/`, only ever added to. docs/operations.md
"""

import importlib.resources
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from proxy import __version__
from proxy.store.errors import CopyStopped, DatabaseDamaged, DatabaseUnwritable, SchemaTooNew

#: What the first migration writes into the file's header.
APPLICATION_ID = 0x534C4345

# quick_check reads the whole file: 400 MiB a second from the cache, 90 from the disk, measured.
# Up to this size it hardly delays the start. A larger file is not read through: damage that it has
# is found when it is met, and then nothing is served.
_CHECKED_BYTES = 16 << 20

# 4 MiB: some milliseconds.
_COPIED_PAGES = 1024

#: What SQLite may keep beside a file, by the end of its name: what was committed last, what undoes a
#: transaction that was cut off, and what processes share.
BESIDE = ("-wal", "-journal", "-shm")


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str


def shipped_migrations() -> list[Migration]:
    """Return the migrations of this program, oldest first."""
    folder = importlib.resources.files("proxy.store") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name)
    return [_migration(file.name, file.read_text(encoding="utf-8")) for file in files]


def _migration(file_name: str, sql: str) -> Migration:
    number, _, name = file_name.removesuffix(".sql").partition("_")
    return Migration(int(number), name, sql)


def inspect(path: Path, migrations: Sequence[Migration], *, whole: bool = False) -> None:
    """Look at an existing file, without changing it, before anything is done to it.

    A large one is read through only if the `whole` is wanted.

    Raises:
        DatabaseDamaged: it is corrupt, not a database, or another program's.
        DatabaseUnwritable: it cannot even be opened.
        SchemaTooNew: this program cannot read it.
    """
    if not path.exists() or not path.stat().st_size:
        return
    try:
        with closing(_connect_unchanging(path)) as connection:
            _check_owner(connection, path)
            check_version(connection, path, migrations)
            if whole or path.stat().st_size <= _CHECKED_BYTES:
                _check_pages(connection, path)
    except sqlite3.OperationalError as error:
        raise DatabaseUnwritable(f"{path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        raise DatabaseDamaged(_damage(path, str(error))) from error


def _connect_unchanging(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(reading_uri(path), uri=True, isolation_level=None)


def reading_uri(path: Path) -> str:
    """Return the URI under which SQLite reads a file, in use or not, and leaves nothing behind."""
    # After a clean stop there is no log beside the file, and an immutable connection makes none;
    # while it is in use, or after a crash, the log holds what was committed last, and has to be read.
    log = path.with_name(path.name + "-wal")
    return path.absolute().as_uri() + "?mode=ro" + ("" if log.exists() else "&immutable=1")


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if objects and owner != APPLICATION_ID:
        raise DatabaseDamaged(f"{path} is a database of another program; set `database` to another file")


def check_version(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Raise SchemaTooNew for a schema that this program does not know."""
    version = schema_version(connection)
    if version > migrations[-1].version:
        (program,) = connection.execute(
            "SELECT program FROM migrations WHERE version = ?", (version,)
        ).fetchone()
        raise SchemaTooNew(
            f"{path} has schema {version}, which needs version {program} of this program or newer; "
            f"this is {__version__}, which knows schema {migrations[-1].version}"
        )


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise DatabaseDamaged(_damage(path, finding))


def _damage(path: Path, finding: str) -> str:
    return (
        f"{path} is damaged ({finding}); nothing was changed. "
        "Bring a backup back with `python -m proxy restore FILE`: it keeps what is here"
    )


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the version of the newest migration applied, 0 for an empty file."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migrations'").fetchone():
        return 0
    (version,) = connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()
    return int(version)


def rewrite_header(connection: sqlite3.Connection) -> None:
    """Write the file's header again, unchanged: the smallest proof that the file can be written."""
    connection.execute("PRAGMA application_id = 0x534C4345")  # SQLite takes no parameter here


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Apply what is missing, each migration whole or not at all.

    A file with an older schema is first copied to `<path>.vN`, N being that schema.
    """
    current = schema_version(connection)
    missing = [migration for migration in migrations if migration.version > current]
    if current and missing:
        write_copy(connection, path.with_name(f"{path.name}.v{current}"))
    for migration in missing:
        _apply(connection, migration)


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(migration.sql):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO migrations (version, name, applied_at, program) VALUES (?, ?, ?, ?)",
            (migration.version, migration.name, datetime.now(UTC).isoformat(timespec="seconds"), __version__),
        )
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Split a script, in which a statement ends at the end of a line.

    executescript() would commit first, so that what it does could not be undone.
    """
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    yield statement


def write_copy(connection: sqlite3.Connection, target: Path) -> None:
    """Write a consistent copy of the database to `target`, mode 0600; an existing file is replaced.

    The copy appears under its name only once it is complete. It is as of one moment, and writers
    are not kept waiting.

    Raises:
        OSError, sqlite3.Error: it cannot be written; then `target` is as it was.
    """
    part = target.with_name(target.name + ".part")
    remove_whole(part)
    try:
        copy_into(connection, part)
        part.replace(target)
    finally:
        remove_whole(part)


def copy_into(
    connection: sqlite3.Connection,
    target: Path,
    *,
    durably: bool = True,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Write the database as of this moment into a new file, mode 0600, while others may write it.

    Unless `durably`, the copy is not waited for until it is on the disk. Whether it `goes_on` is
    asked every few MiB.

    Raises:
        CopyStopped: it does not go on. A part of the copy is there then, as after any error.
        OSError, sqlite3.Error: it cannot be written.
    """

    def look(status: int, remaining: int, total: int) -> None:
        if not goes_on():
            raise CopyStopped

    create_private(target)
    with closing(sqlite3.connect(target, isolation_level=None)) as copied:
        if not durably:
            copied.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")  # otherwise a commit between two pieces would begin the copy anew
        try:
            connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
            connection.backup(copied, pages=_COPIED_PAGES, progress=look)
        finally:
            connection.rollback()
        copied.execute("PRAGMA journal_mode = DELETE")  # one file, wherever it is taken


def remove_whole(path: Path) -> None:
    """Remove a database that nobody needs, and whatever SQLite left beside it; it may be missing."""
    for suffix in ("", *BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def create_private(path: Path) -> None:
    """Create an empty file that only this user can read; SQLite gives its -wal the same mode.

    Raises:
        FileExistsError, OSError: it cannot be created.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
