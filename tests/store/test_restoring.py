"""A backup takes the place of the database: whatever fails, and whenever, one of the two is there."""

import asyncio
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from proxy.store import restoring
from proxy.store.copies import examine, take
from proxy.store.database import Database
from proxy.store.errors import DatabaseDamaged, DatabaseUnwritable, SchemaTooNew
from proxy.store.restoring import discard, prepare, put_in_place
from proxy.store.settings import SettingStore

#: What a restore does to files, each of which may be the last.
CALLS = ("link", "rename", "replace", "unlink", "fsync", "open")


class Killed(BaseException):
    """The process ended here: nothing catches it, and nothing is tidied up."""


async def make(path: Path, colour: str) -> Path:
    database = await Database.open(path)
    await SettingStore(database).set("colour", colour)
    await database.close()
    return path


async def crash(path: Path, colour: str) -> None:
    """Leave a database as a killed process does: what was written last is in its log alone."""
    here = path.with_name("running.db")
    database = await Database.open(here)
    await SettingStore(database).set("colour", colour)
    for suffix in ("", "-wal"):
        path.with_name(path.name + suffix).write_bytes(here.with_name(here.name + suffix).read_bytes())
    await database.close()
    here.unlink()


def colour(path: Path) -> str:
    """Return what a database holds, read as SQLite reads it, with whatever stands beside it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((found,),) = connection.execute("SELECT value FROM settings WHERE name = 'colour'").fetchall()
    return str(found)


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


@pytest.fixture
async def backup(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return await make(folder / "backup.db", "new")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder / "sluice.db"


def restore(backup: Path, path: Path) -> Path | None:
    try:
        prepare(backup, path)
        return put_in_place(path)
    finally:
        discard(path)


async def test_where_there_was_none_it_is_put_in_place(backup: Path, path: Path) -> None:
    before = backup.read_bytes()
    assert restore(backup, path) is None
    assert colour(path) == "new"
    assert names(path) == ["sluice.db"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert backup.read_bytes() == before
    assert names(backup) == ["backup.db"]
    await (await Database.open(path)).close()


async def test_what_was_there_is_kept_and_so_is_what_an_earlier_restore_kept(
    backup: Path, path: Path
) -> None:
    for number in range(3):
        await make(path, f"old {number}")
        assert restore(backup, path) == path.with_name("sluice.db.before-restore")
        assert colour(path) == "new"
    assert colour(path.with_name("sluice.db.before-restore")) == "old 2"
    assert colour(path.with_name("sluice.db.before-restore.1")) == "old 0"
    assert colour(path.with_name("sluice.db.before-restore.2")) == "old 1"
    kept = [f"sluice.db.before-restore{number}" for number in ("", ".1", ".2")]
    assert names(path) == ["sluice.db", *kept]
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


async def test_what_was_kept_can_be_restored(backup: Path, path: Path) -> None:
    await make(path, "old")
    kept = restore(backup, path)
    assert kept is not None
    assert restore(kept, path) == kept
    assert colour(path) == "old"
    assert colour(kept) == "new"


async def test_the_log_of_a_crash_is_folded_into_what_is_kept(backup: Path, path: Path) -> None:
    await crash(path, "old")
    kept = restore(backup, path)
    assert kept is not None
    assert names(path) == ["sluice.db", "sluice.db.before-restore"]
    assert colour(kept) == "old"
    assert colour(path) == "new"


async def test_a_damaged_database_is_kept_with_its_log(backup: Path, path: Path) -> None:
    path.write_bytes(b"\xa5" * 8192)
    path.with_name("sluice.db-wal").write_bytes(b"what the log held")
    path.with_name("sluice.db-shm").write_bytes(b"\0" * 4096)
    await asyncio.to_thread(restore, backup, path)
    assert colour(path) == "new"
    assert names(path) == ["sluice.db", "sluice.db.before-restore", "sluice.db.before-restore-wal"]
    assert path.with_name("sluice.db.before-restore").read_bytes() == b"\xa5" * 8192
    assert path.with_name("sluice.db.before-restore-wal").read_bytes() == b"what the log held"
    await make(path, "older")
    restore(backup, path)
    assert path.with_name("sluice.db.before-restore.1-wal").read_bytes() == b"what the log held"
    assert not path.with_name("sluice.db.before-restore-wal").exists()


async def test_a_log_that_was_left_alone_is_never_applied_to_the_new_file(backup: Path, path: Path) -> None:
    await crash(path, "old")
    path.unlink()
    restore(backup, path)
    assert colour(path) == "new"
    assert path.with_name("sluice.db.before-restore-wal").stat().st_size > 0


async def test_an_empty_file_is_worth_nothing(backup: Path, path: Path) -> None:
    path.touch()
    assert restore(backup, path) is None
    assert names(path) == ["sluice.db"]


async def test_a_backup_that_has_its_own_log_is_taken_whole(tmp_path: Path, path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    await crash(other / "crashed.db", "late")
    restore(other / "crashed.db", path)
    assert colour(path) == "late"


async def test_without_links_the_old_one_is_copied(
    backup: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(path, "old")

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    kept = restore(backup, path)
    assert kept is not None
    assert colour(kept) == "old"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert names(path) == ["sluice.db", "sluice.db.before-restore"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
async def test_root_leaves_the_file_to_its_owner(backup: Path, path: Path) -> None:
    await make(path, "old")
    os.chown(path, 12345, 12346)
    restore(backup, path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)
    path.unlink()
    os.chown(path.parent, 2345, 2346)
    restore(backup, path)
    assert (path.stat().st_uid, path.stat().st_gid) == (2345, 2346)


def newer(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("INSERT INTO migrations VALUES (99, 'later', '2027-01-01T00:00:00Z', '9.8.7')")


def corrupt(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[3 * 4096 : 3 * 4096 + 200] = b"\xa5" * 200
    file.write_bytes(content)


def foreign(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA application_id = 1")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: 5 * 4096])


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (newer, SchemaTooNew),
        (corrupt, DatabaseDamaged),
        (foreign, DatabaseDamaged),
        (cut, DatabaseDamaged),
        (lambda file: file.write_text("text"), DatabaseDamaged),
        (lambda file: file.write_bytes(b""), DatabaseDamaged),
        (lambda file: file.unlink(), DatabaseUnwritable),
    ],
    ids=["newer", "corrupt", "foreign", "cut off", "text", "empty", "missing"],
)
async def test_what_cannot_be_used_changes_nothing(
    backup: Path, path: Path, spoil: Callable[[Path], Any], error: type[Exception]
) -> None:
    await crash(path, "old")
    spoil(backup)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(error, match=r"backup\.db"):
        restore(backup, path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


async def test_a_database_that_another_program_reads_is_left(
    backup: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "_BUSY_S", 0.01)
    await crash(path, "old")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM settings").fetchall()
        with closing(sqlite3.connect(path, isolation_level=None)) as writing:
            writing.execute("INSERT INTO settings VALUES ('more', '1')")
            with pytest.raises(DatabaseUnwritable, match="in use by another program"):
                restore(backup, path)
    assert colour(path) == "old"
    assert names(path) == ["sluice.db"]


async def test_a_database_that_another_program_locks_is_left(
    backup: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "_BUSY_S", 0.01)
    await crash(path, "old")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("INSERT INTO settings VALUES ('more', '1')")
        with pytest.raises(DatabaseUnwritable, match="locked"):
            restore(backup, path)
    assert colour(path) == "old"


@contextmanager
def ending_at(number: int, when: str, end: type[BaseException]) -> Iterator[list[str]]:
    """Let the `number`-th call that touches files be the last, with or without its effect."""
    made: list[str] = []
    originals = {name: getattr(os, name) for name in CALLS}

    def instead(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) < number:
                return originals[name](*arguments, **options)
            if len(made) == number and when == "after":
                originals[name](*arguments, **options)
            raise end(5, "the disk failed")

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, instead(name))
        yield made


@pytest.mark.parametrize("before", ["closed", "crashed", "damaged"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("end", [Killed, OSError], ids=["killed", "failing disk"])
async def test_whenever_it_ends_the_old_or_the_new_one_is_there(
    tmp_path: Path, backup: Path, before: str, when: str, end: type[BaseException]
) -> None:
    """Every call in turn, as long as there are any, is the last; then all of it is done again."""
    outcomes = []
    for number in range(1, 100):
        path = tmp_path / str(number) / "sluice.db"
        path.parent.mkdir()
        await (make if before == "closed" else crash)(path, "old")
        if before == "damaged":
            path.with_name("sluice.db-wal").write_bytes(b"what the log held")
            path.write_bytes(b"\xa5" * 8192)
        prepare(backup, path)
        with ending_at(number, when, end) as made:
            with suppress(Killed, OSError, DatabaseUnwritable):
                put_in_place(path)
        if len(made) < number:
            break
        assert path.exists()
        outcomes.append(found(path, damaged=before == "damaged"))
        kept = path.with_name("sluice.db.before-restore")
        if outcomes[-1] == "new":
            assert found(kept, damaged=before == "damaged") == "old"
        restore(backup, path)  # whatever was left is in nobody's way
        assert colour(path) == "new"
        olds = [path.parent / name for name in names(path) if re.search(r"before-restore(\.\d)?$", name)]
        assert any(found(file, damaged=before == "damaged") == "old" for file in olds)
        if before == "damaged":
            logs = [file.read_bytes() for file in path.parent.glob("*-wal")]
            assert b"what the log held" in logs
    assert number > 5
    assert set(outcomes) == {"old", "new"}
    assert outcomes == sorted(outcomes, reverse=True)  # first the old one, then the new one, for good


def found(path: Path, *, damaged: bool) -> str:
    if damaged and path.read_bytes() == b"\xa5" * 8192:
        return "old"
    return colour(path)


async def test_a_disk_that_is_full_changes_nothing(
    backup: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(path, "old")

    def full(*arguments: object, **options: object) -> None:
        take(*arguments, **options)  # type: ignore[arg-type]  # the very arguments it was called with
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(restoring, "take", full)
    with pytest.raises(sqlite3.OperationalError):
        restore(backup, path)
    assert names(path) == ["sluice.db"]
    assert examine(path, path, thoroughly=True).exchanges == 0
    assert colour(path) == "old"
