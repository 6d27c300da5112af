"""Copies of a database: how they are taken and looked at. docs/operations.md, "Backup and restore" """

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from proxy.store.errors import DatabaseDamaged, DatabaseUnwritable, is_of_damage
from proxy.store.schema import (
    APPLICATION_ID,
    check_version,
    copy_into,
    reading_uri,
    remove_whole,
    schema_version,
    shipped_migrations,
)

# What the setting is called: proxy/gateway/installation.py
_CURRENCY = "SELECT value FROM settings WHERE name = 'billing_currency'"


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a copy. `currency` is None before the first start."""

    size_bytes: int
    schema_version: int
    exchanges: int
    currency: str | None


def backup_part(database: Path) -> Path:
    """Return where a running server writes a backup before it sends it."""
    return database.with_name(database.name + ".backup-part")


def restore_part(database: Path) -> Path:
    """Return where a backup is copied and checked before it takes the place of the database."""
    return database.with_name(database.name + ".restore-part")


def kept_part(database: Path) -> Path:
    """Return where the old database is copied to when the file system has no links."""
    return database.with_name(database.name + ".kept-part")


def remove_parts(database: Path) -> None:
    """Remove what backups and restores that were cut off have left; the caller holds the lock."""
    for part in (backup_part(database), restore_part(database), kept_part(database)):
        remove_whole(part)


def take(
    source: Path, target: Path, *, durably: bool = True, goes_on: Callable[[], bool] = lambda: True
) -> None:
    """Copy a database, in use or not, into the new file `target`, mode 0600.

    Raises:
        DatabaseDamaged: it is no database, or not one of this program.
        DatabaseUnwritable: it cannot be opened.
        SchemaTooNew: a newer version of this program made it.
        CopyStopped: it did not go on.
        OSError, sqlite3.Error: the copy cannot be written.
    """
    with closing(_open(source)) as connection:
        _check_origin(connection, source)
        copy_into(connection, target, durably=durably, goes_on=goes_on)


def examine(copy: Path, called: Path, *, thoroughly: bool) -> Contents:
    """Read a copy that nobody else uses, from its first page to its last; `called` is its name in errors.

    `thoroughly` compares indexes and rows, too: that takes some times as long.

    Raises:
        DatabaseDamaged, SchemaTooNew: as `take`.
        DatabaseUnwritable: it cannot be opened.
    """
    check = "PRAGMA integrity_check(1)" if thoroughly else "PRAGMA quick_check(1)"
    try:
        uri = copy.absolute().as_uri() + "?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            _check_origin(connection, called)
            (finding,) = connection.execute(check).fetchone()
            if finding != "ok":
                raise _damaged(called, finding)
            (exchanges,) = connection.execute("SELECT count(*) FROM exchanges").fetchone()
            currency = connection.execute(_CURRENCY).fetchone()
            version = schema_version(connection)
            return Contents(copy.stat().st_size, version, exchanges, currency and currency[0])
    except sqlite3.Error as error:
        raise _unreadable(called, error) from error


def sync(path: Path) -> None:
    """Wait until a file, or what a folder holds, is on the disk."""
    if sys.platform == "win32" and path.is_dir():  # folders cannot be opened there
        return
    fd = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open(path: Path) -> sqlite3.Connection:
    real = path.resolve()  # beside which SQLite has its files
    try:
        return sqlite3.connect(reading_uri(real), uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error


def _check_origin(connection: sqlite3.Connection, path: Path) -> None:
    try:
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        if owner != APPLICATION_ID:
            raise _foreign(path)
        check_version(connection, path, shipped_migrations())
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: sqlite3.Error) -> DatabaseDamaged | DatabaseUnwritable:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return _foreign(path)
    if is_of_damage(error):
        return _damaged(path, str(error))
    return DatabaseUnwritable(f"{path} cannot be read: {error}")


def _foreign(path: Path) -> DatabaseDamaged:
    return DatabaseDamaged(f"{path} is not a database of Sluice")


def _damaged(path: Path, finding: str) -> DatabaseDamaged:
    return DatabaseDamaged(f"{path} is damaged: {finding}")
