"""The import that was kept."""

from pathlib import Path

from proxy.store.database import Database
from proxy.store.prices import PriceImport, PriceStore, imported_into

FIRST, SECOND = PriceImport("a.json", 1, "[1]"), PriceImport("b.json", 2, "[2]")


async def test_a_new_import_replaces_the_last_one_whole(database: Database) -> None:
    store = PriceStore(database)
    assert await store.load() is None
    await store.replace(FIRST)
    await store.replace(SECOND)
    assert await store.load() == SECOND
    await store.clear()
    assert await store.load() is None


async def test_a_look_from_outside(path: Path) -> None:
    assert imported_into(path) is None
    assert not path.exists()
    database = await Database.open(path)
    assert imported_into(path) is None
    await PriceStore(database).replace(FIRST)
    assert imported_into(path) == FIRST  # in use
    await database.close()
    before = path.read_bytes()
    assert imported_into(path) == FIRST
    assert (path.read_bytes(), list(path.parent.iterdir())) == (before, [path])


def test_another_file_has_no_imports(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)
    assert imported_into(path) is None
