import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.store import database as database_module
from proxy.store.copies import take
from proxy.store.database import Database
from proxy.store.errors import DatabaseDamaged, DatabaseUnwritable, LedgerUnavailable, StoreError
from proxy.store.settings import SettingStore

Rows = Callable[..., list[tuple[Any, ...]]]

ENDLESS = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT count(*) FROM numbers
"""


def files(path: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}


async def test_every_file_is_private_whatever_the_umask(path: Path) -> None:
    umask = os.umask(0)
    try:
        database = await Database.open(path)
        await SettingStore(database).set("colour", "blue")
        assert files(path) == {"sluice.db": 0o600, "sluice.db-wal": 0o600, "sluice.db-shm": 0o600}
        take(path, path.with_name("copy"))
        await database.close()
    finally:
        os.umask(umask)
    assert files(path) == {"sluice.db": 0o600, "copy": 0o600}


async def test_a_clean_close_leaves_the_whole_installation_in_one_file(path: Path, tmp_path: Path) -> None:
    database = await Database.open(path)
    await SettingStore(database).set("colour", "blue")
    await database.close()
    await database.close()  # once more does nothing
    assert list(files(path)) == ["sluice.db"]
    elsewhere = tmp_path / "elsewhere.db"
    elsewhere.write_bytes(path.read_bytes())
    database = await Database.open(elsewhere)
    assert await SettingStore(database).get("colour") == "blue"
    await database.close()


@pytest.mark.parametrize(("mode", "number"), [("NORMAL", 1), ("FULL", 2)])
async def test_synchronous_is_as_asked_for(path: Path, mode: str, number: int) -> None:
    database = await Database.open(path, synchronous=mode)
    asked = ("synchronous", "journal_mode", "foreign_keys", "mmap_size")
    statements = ("PRAGMA synchronous", "PRAGMA journal_mode", "PRAGMA foreign_keys", "PRAGMA mmap_size")

    def work(connection: sqlite3.Connection) -> list[Any]:
        return [connection.execute(statement).fetchone()[0] for statement in statements]

    assert dict(zip(asked, await database.writer.submit(work), strict=True)) == {
        "synchronous": number,
        "journal_mode": "wal",
        "foreign_keys": 1,
        "mmap_size": 0,
    }
    await database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO settings VALUES ('a', 'b')",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "VACUUM",
        "DROP TABLE settings",
    ],
)
async def test_readers_cannot_write(database: Database, path: Path, statement: str) -> None:
    await SettingStore(database).set("colour", "blue")
    log = path.with_name("sluice.db-wal")
    size = log.stat().st_size
    with pytest.raises(LedgerUnavailable):
        await database.fetch_all(statement)
    assert log.stat().st_size == size
    assert await SettingStore(database).get("colour") == "blue"


async def test_readers_see_what_was_committed(database: Database) -> None:
    await SettingStore(database).set("colour", "blue")
    row = await database.fetch_one("SELECT name, value FROM settings WHERE name = ?", ("colour",))
    assert row is not None
    assert dict(row) == {"name": "colour", "value": "blue"}
    assert await database.fetch_one("SELECT 1 FROM settings WHERE name = :name", {"name": "taste"}) is None


async def test_a_statement_that_is_wrong_is_our_own_fault(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        await database.fetch_all("SELECT colour")


async def test_a_statement_that_takes_too_long_is_stopped(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_STATEMENT_S", 0.01)
    with pytest.raises(LedgerUnavailable, match="longer than"):
        await database.fetch_all(ENDLESS)
    assert await database.fetch_all("SELECT 1")


async def test_a_caller_that_leaves_takes_no_connection_with_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_STATEMENT_S", 0.05)
    for _ in range(5):
        task = asyncio.create_task(database.fetch_all(ENDLESS))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(await asyncio.gather(*(database.fetch_all("SELECT 1") for _ in range(10)))) == 10


async def test_closing_waits_for_who_still_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_STATEMENT_S", 0.05)
    database = await Database.open(path)
    reading = asyncio.create_task(database.fetch_all(ENDLESS))
    await asyncio.sleep(0)
    await database.close()
    with pytest.raises(LedgerUnavailable, match="longer than"):
        await reading
    with pytest.raises(LedgerUnavailable, match="closed"):
        await database.fetch_all("SELECT 1")
    assert list(files(path)) == ["sluice.db"]


async def test_a_copy_is_of_one_moment_and_can_be_opened(database: Database, path: Path) -> None:
    await SettingStore(database).set("colour", "blue")
    target = path.with_name("copy.db")
    take(path, target)
    await SettingStore(database).set("colour", "red")
    copy = await Database.open(target)
    assert await SettingStore(copy).get("colour") == "blue"
    await copy.close()


async def test_it_is_not_opened_in_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnwritable, match="No such file"):
        await Database.open(tmp_path / "nowhere" / "sluice.db")


async def test_it_is_not_opened_while_another_process_locks_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Database.open(path)).close()
    monkeypatch.setattr(database_module, "_BUSY_S", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseUnwritable, match="locked"):
            await Database.open(path)
    await (await Database.open(path)).close()


async def test_it_is_not_opened_when_it_cannot_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Database.open(path)).close()
    monkeypatch.setattr(
        database_module, "_WRITING", ("PRAGMA query_only = ON",)
    )  # as a read-only disk answers
    with pytest.raises(DatabaseUnwritable, match="readonly"):
        await Database.open(path)
    assert list(files(path)) == ["sluice.db"]


async def test_it_is_not_opened_without_a_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    # A file system without shared memory lets SQLite keep its old kind of journal.
    monkeypatch.setattr(sqlite3, "connect", lambda path, **options: connect(":memory:", **options))
    with pytest.raises(DatabaseUnwritable, match="local disk"):
        await Database.open(path)


async def test_damage_is_not_touched(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(DatabaseDamaged):
        await Database.open(path)
    assert path.read_bytes() == b"not a database" * 100


async def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "OLDEST_SQLITE", (99, 0, 0))
    with pytest.raises(StoreError, match=sqlite3.sqlite_version):
        await Database.open(path)


async def test_readers_that_cannot_be_opened_leave_nothing_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_READING", ("PRAGMA query_only = ON", "nonsense"))
    with pytest.raises(DatabaseUnwritable, match="for reading"):
        await Database.open(path)
    assert list(files(path)) == ["sluice.db"]


async def test_the_foreign_keys_hold(database: Database, rows: Rows) -> None:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO key_secrets VALUES (zeroblob(32), 'nobody', NULL)")

    with pytest.raises(sqlite3.IntegrityError):
        await database.writer.submit(work)
    assert rows("SELECT * FROM key_secrets") == []
