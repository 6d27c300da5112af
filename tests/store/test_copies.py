import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from proxy.store import schema
from proxy.store.copies import backup_part, examine, kept_part, remove_parts, restore_part, take
from proxy.store.database import Database
from proxy.store.errors import CopyStopped, DatabaseDamaged, DatabaseUnwritable, SchemaTooNew
from proxy.store.settings import SettingStore
from proxy.store.usage import UsageStore
from tests.support import money
from tests.support.records import record


@pytest.fixture
async def made(path: Path) -> Path:
    """A database with three exchanges, closed cleanly."""
    database = await Database.open(path)
    usage = UsageStore(database)
    await asyncio.gather(*(usage.settle(record(number)) for number in range(3)))
    await SettingStore(database).set("billing_currency", "CNY")
    await database.close()
    return path


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


async def test_what_is_in_a_copy(made: Path) -> None:
    copy = made.with_name("copy.db")
    take(made, copy)
    contents = examine(copy, copy, thoroughly=True)
    assert contents == examine(copy, copy, thoroughly=False)
    assert (contents.exchanges, contents.currency) == (3, "CNY")
    assert contents.schema_version == schema.shipped_migrations()[-1].version
    assert contents.size_bytes == copy.stat().st_size == made.stat().st_size
    assert copy.stat().st_mode & 0o777 == 0o600
    assert names(made) == ["copy.db", "sluice.db"]


async def test_a_copy_of_a_fresh_database_has_no_currency(database: Database, path: Path) -> None:
    copy = path.with_name("copy.db")
    take(path, copy)
    assert examine(copy, copy, thoroughly=True).currency is None


async def test_a_copy_has_what_only_the_log_of_a_crash_holds(database: Database, path: Path) -> None:
    await SettingStore(database).set("billing_currency", "EUR")
    crashed = path.with_name("crashed.db")
    for suffix in ("", "-wal"):
        crashed.with_name(crashed.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    copy = path.with_name("copy.db")
    take(crashed, copy)
    assert examine(copy, copy, thoroughly=True).currency == "EUR"


async def test_a_symbolic_link_leads_to_the_file_and_its_log(database: Database, path: Path) -> None:
    await SettingStore(database).set("billing_currency", "EUR")
    link = path.with_name("folder") / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    copy = path.with_name("copy.db")
    take(link, copy)
    assert examine(copy, copy, thoroughly=True).currency == "EUR"


async def test_a_copy_is_of_one_moment_while_others_commit(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece waits for a commit: the writer never waits for the copy, nor the copy for an end of them."""
    monkeypatch.setattr(schema, "_COPIED_PAGES", 1)
    usage = UsageStore(database)
    for number in range(5):
        await usage.settle(record(number))
    loop = asyncio.get_running_loop()
    settled = 5

    async def settle_one() -> None:
        nonlocal settled
        await usage.settle(record(settled))
        settled += 1

    def commit_between() -> bool:
        asyncio.run_coroutine_threadsafe(settle_one(), loop).result(20)
        return True

    copy = path.with_name("copy.db")
    await asyncio.to_thread(take, path, copy, goes_on=commit_between)
    pages = path.stat().st_size // 4096
    assert settled > 5 + pages // 2
    assert examine(copy, copy, thoroughly=True).exchanges == 5
    money.check_books(copy)


async def test_a_copy_can_be_given_up(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_COPIED_PAGES", 1)
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(CopyStopped):
        take(made, made.with_name("copy.db"), goes_on=lambda: not stopped.is_set())


async def test_a_copy_is_never_written_over_a_file(made: Path) -> None:
    made.with_name("copy.db").write_text("mine")
    with pytest.raises(FileExistsError):
        take(made, made.with_name("copy.db"))
    assert made.with_name("copy.db").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"model: fast\n" * 400], ids=["empty", "text"])
def test_what_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DatabaseDamaged, match="is not a database of Sluice"):
        take(path, path.with_name("copy.db"))
    with pytest.raises(DatabaseDamaged, match="other is not a database of Sluice"):
        examine(path, Path("other"), thoroughly=False)
    assert names(path) == ["sluice.db"]


def test_another_program_s_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(DatabaseDamaged, match="is not a database of Sluice"):
        take(path, path.with_name("copy.db"))


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(DatabaseUnwritable, match=r"sluice\.db cannot be read"):
        take(path, path.with_name("copy.db"))


async def test_a_newer_schema_is_refused_naming_the_version(made: Path) -> None:
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO migrations VALUES (99, 'later', '2027-01-01T00:00:00Z', '9.8.7')",
        )
    with pytest.raises(SchemaTooNew, match=r"9\.8\.7"):
        take(made, made.with_name("copy.db"))


@pytest.mark.parametrize("thoroughly", [False, True])
async def test_damage_is_found(made: Path, thoroughly: bool) -> None:
    content = bytearray(made.read_bytes())
    content[3 * 4096 : 3 * 4096 + 200] = b"\xa5" * 200
    made.write_bytes(content)
    with pytest.raises(DatabaseDamaged, match="is damaged"):
        examine(made, made, thoroughly=thoroughly)


async def test_an_index_that_is_wrong_is_found_thoroughly(made: Path) -> None:
    content = made.read_bytes()
    assert b"key_1req_" in content  # a row's entry in the index by key
    made.write_bytes(content.replace(b"key_1req_", b"key_0req_", 1))
    assert examine(made, made, thoroughly=False).exchanges == 3
    with pytest.raises(DatabaseDamaged, match="index"):
        examine(made, made, thoroughly=True)


async def test_tables_that_are_missing_are_told(made: Path) -> None:
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("DROP TABLE settings")
    with pytest.raises(DatabaseUnwritable, match="settings"):
        examine(made, made, thoroughly=False)


def test_only_parts_are_removed(path: Path) -> None:
    mine = ["sluice.db", "sluice.db.backup", "sluice.db.before-restore", "sluice.db.part", "sluice.db.v1"]
    for name in mine:
        path.with_name(name).touch()
    for part in (backup_part(path), restore_part(path), kept_part(path)):
        part.touch()
        part.with_name(part.name + "-journal").touch()
    remove_parts(path)
    remove_parts(path)
    assert names(path) == mine
