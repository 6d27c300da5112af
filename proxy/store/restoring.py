"""Puts a backup in the place of the database, so that at every moment one of the two is there, whole.

    prepare        copies the backup beside the database, and checks the copy: nothing is changed yet
    put_in_place   1. folds into the database what a crash left in its -wal file
                   2. gives the database its second name, `<database>.before-restore`
                   3. takes away the files beside it, which would be applied to any file of its name
                   4. renames the copy to `<database>`: from here on it is the new one

Up to the fourth step the database is what it was, after it the backup; what was begun can be begun
again. Only from a damaged file, into which nothing can be folded, its -wal file goes to the second name
before. The caller holds the lock, gives the file's real path, and calls `discard` whatever happens.
docs/operations.md, "Backup and restore"
"""

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from itertools import count
from pathlib import Path

from proxy.store.copies import Contents, examine, kept_part, remove_parts, restore_part, sync, take
from proxy.store.errors import DatabaseUnwritable, is_of_damage
from proxy.store.schema import BESIDE, create_private

# Of the files beside a database, those that hold what is nowhere else.
_WITH_CONTENT = ("-wal", "-journal")
# How long SQLite waits for another program's lock.
_BUSY_S = 5.0
_READ = "SELECT count(*) FROM sqlite_schema"


def prepare(backup: Path, database: Path) -> Contents:
    """Copy a backup beside the database, check the copy, and return what is in it.

    Raises:
        DatabaseDamaged: it is corrupt, or not a database of this program.
        DatabaseUnwritable: it cannot be read.
        SchemaTooNew: a newer version of this program made it.
        OSError, sqlite3.Error: it cannot be copied.
    """
    remove_parts(database)
    part = restore_part(database)
    take(backup, part)
    contents = examine(part, backup, thoroughly=True)
    _give_to_owner(part, database if database.exists() else database.parent)
    sync(part)
    return contents


def discard(database: Path) -> None:
    """Remove what `prepare` made, unless it is in place."""
    remove_parts(database)


def put_in_place(database: Path) -> Path | None:
    """Let the copy that `prepare` made take the place of the database; return where that is kept.

    Raises:
        DatabaseUnwritable, OSError: a step failed; the database is what it was.
    """
    _fold(database)
    kept = _keep(database)
    for suffix in BESIDE:
        _beside(database, suffix).unlink(missing_ok=True)
    # The second name, and that nothing is beside the file, are on the disk before the new file is.
    sync(database.parent)
    restore_part(database).replace(database)
    sync(database.parent)
    return kept


def _fold(database: Path) -> None:
    """Bring into the file what stands beside it; from a file that is damaged it stays apart."""
    if not database.exists() or not any(_has_content(_beside(database, end)) for end in _WITH_CONTENT):
        return
    if _is_damaged(database):
        return
    try:
        with closing(sqlite3.connect(database, timeout=_BUSY_S, isolation_level=None)) as connection:
            connection.execute(_READ).fetchone()  # undoes what a -journal file holds
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise DatabaseUnwritable(f"{database} cannot be written: {error}") from error
    if busy:
        raise DatabaseUnwritable(f"{database} is in use by another program, which keeps its -wal file")


def _is_damaged(database: Path) -> bool:
    """Return whether not even its tables can be listed, by a reader, which throws no log away."""
    try:
        with closing(
            sqlite3.connect(database.as_uri() + "?mode=ro", timeout=_BUSY_S, uri=True)
        ) as connection:
            connection.execute(_READ).fetchone()
    except sqlite3.Error as error:
        return is_of_damage(error)
    return False


def _keep(database: Path) -> Path | None:
    """Give the database a second name, with what could not be folded in; None: there is nothing."""
    beside = [suffix for suffix in _WITH_CONTENT if _has_content(_beside(database, suffix))]
    if not beside and not _has_content(database):
        return None
    kept = database.with_name(database.name + ".before-restore")
    _make_room(kept)
    if database.exists():
        _link(database, kept)
    for suffix in beside:
        _beside(database, suffix).rename(_beside(kept, suffix))
    return kept


def _make_room(kept: Path) -> None:
    """Rename what an earlier restore kept: `.before-restore.1`, and so on."""
    names = ("", *_WITH_CONTENT)
    if not any(_beside(kept, suffix).exists() for suffix in names):
        return
    for number in count(1):
        older = kept.with_name(f"{kept.name}.{number}")
        if not any(_beside(older, suffix).exists() for suffix in names):
            break
    for suffix in names:
        if _beside(kept, suffix).exists():
            _beside(kept, suffix).rename(_beside(older, suffix))


def _link(database: Path, kept: Path) -> None:
    try:
        kept.hardlink_to(database)
    except OSError:  # not every file system has links: FAT, some of networks
        part = kept_part(database)
        create_private(part)
        shutil.copyfile(database, part)
        _give_to_owner(part, database)
        sync(part)
        part.rename(kept)


def _give_to_owner(path: Path, model: Path) -> None:
    """Let a file belong to whom another does, when this process may: else root's would lock him out."""
    if sys.platform != "win32" and os.geteuid() == 0:
        owner = model.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _beside(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)
