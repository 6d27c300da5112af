import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy import __version__
from proxy.store import schema
from proxy.store.errors import DatabaseDamaged, DatabaseUnwritable, SchemaTooNew
from proxy.store.schema import (
    APPLICATION_ID,
    Migration,
    create_private,
    inspect,
    migrate,
    rewrite_header,
    schema_version,
    shipped_migrations,
    write_copy,
)

SHIPPED = shipped_migrations()

LATER = Migration(
    SHIPPED[-1].version + 1,
    "later",
    """
    CREATE TABLE later (what TEXT) STRICT;  -- a remark; with a semicolon
    CREATE TRIGGER only_once BEFORE INSERT ON later BEGIN
        SELECT RAISE(ABORT, 'once') WHERE EXISTS (SELECT 1 FROM later);
        SELECT 1;
    END;
    INSERT INTO later VALUES ('a;b');
    -- the end""",
)


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        yield connection


@pytest.fixture
def made(path: Path) -> Path:
    """A database of today's schema, closed cleanly."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, path, SHIPPED)
    return path


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [migration.version for migration in SHIPPED] == list(range(1, len(SHIPPED) + 1))
    assert SHIPPED[0].name == "initial"


def test_an_empty_file_gets_every_migration(connection: sqlite3.Connection, path: Path) -> None:
    assert schema_version(connection) == 0
    migrate(connection, path, SHIPPED)
    assert schema_version(connection) == SHIPPED[-1].version
    records = connection.execute("SELECT version, name, program FROM migrations ORDER BY version").fetchall()
    assert records == [(migration.version, migration.name, __version__) for migration in SHIPPED]
    assert connection.execute("SELECT name, plan, enabled FROM accounts").fetchall() == [("default", None, 1)]
    assert list(path.parent.glob("sluice.db.*")) == []  # nothing was worth a copy


def test_a_second_start_changes_nothing(connection: sqlite3.Connection, path: Path) -> None:
    migrate(connection, path, SHIPPED)
    before = connection.execute("SELECT * FROM migrations").fetchall()
    migrate(connection, path, SHIPPED)
    assert connection.execute("SELECT * FROM migrations").fetchall() == before


def test_our_file_is_known_by_its_header(connection: sqlite3.Connection, path: Path) -> None:
    migrate(connection, path, SHIPPED)
    rewrite_header(connection)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_every_table_is_strict(connection: sqlite3.Connection, path: Path) -> None:
    migrate(connection, path, SHIPPED)
    tables = connection.execute(
        "SELECT name, strict FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    assert len(tables) >= 7
    assert [name for name, strict in tables if not strict] == []


def test_an_older_schema_is_copied_before_it_is_migrated(connection: sqlite3.Connection, path: Path) -> None:
    migrate(connection, path, SHIPPED)
    connection.execute("INSERT INTO settings VALUES ('colour', 'blue')")
    migrate(connection, path, [*SHIPPED, LATER])
    assert connection.execute("SELECT what FROM later").fetchall() == [("a;b",)]
    copy = path.with_name(f"sluice.db.v{SHIPPED[-1].version}")
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as copied:
        assert schema_version(copied) == SHIPPED[-1].version
        assert copied.execute("SELECT value FROM settings").fetchall() == [("blue",)]
    assert sorted(file.name for file in path.parent.iterdir() if file.name.startswith(copy.name)) == [
        copy.name
    ]


@pytest.mark.parametrize(
    "broken",
    ["CREATE TABLE more (a TEXT);\nINSERT INTO nowhere VALUES (1);", "CREATE TABLE more (a TEXT);\nCREATE"],
    ids=["fails", "breaks off"],
)
def test_a_migration_is_applied_whole_or_not_at_all(
    connection: sqlite3.Connection, path: Path, broken: str
) -> None:
    migrate(connection, path, SHIPPED)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, path, [*SHIPPED, Migration(LATER.version, "broken", broken)])
    assert not connection.in_transaction
    assert schema_version(connection) == SHIPPED[-1].version
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'more'").fetchone() == (0,)
    migrate(connection, path, [*SHIPPED, LATER])  # a later start gets on with it
    assert schema_version(connection) == LATER.version


def test_a_migration_that_a_full_disk_rolls_back(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA max_page_count = 3")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        migrate(connection, path, SHIPPED)
    assert schema_version(connection) == 0


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_file_with_nothing_in_it_is_fine(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.write_bytes(content)
    inspect(path, SHIPPED)
    assert path.exists() == (content is not None)


def test_a_good_file_passes_without_a_trace(made: Path) -> None:
    before = made.read_bytes()
    inspect(made, SHIPPED)
    assert made.read_bytes() == before
    assert [file.name for file in made.parent.iterdir()] == ["sluice.db"]


def test_a_file_that_nobody_got_to_fill_passes(path: Path, connection: sqlite3.Connection) -> None:
    inspect(path, SHIPPED)  # a header, and no table yet


def test_a_file_is_seen_with_the_log_that_a_crash_left(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    migrate(connection, path, [*SHIPPED, LATER])  # all of it is in the log still
    with pytest.raises(SchemaTooNew):
        inspect(path, SHIPPED)


def test_a_newer_schema_is_refused_naming_the_version_needed(made: Path) -> None:
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO migrations VALUES (?, 'later', '2027-01-01T00:00:00Z', '9.8.7')", (99,)
        )
    before = made.read_bytes()
    with pytest.raises(SchemaTooNew, match=r"schema 99, which needs version 9\.8\.7"):
        inspect(made, SHIPPED)
    assert made.read_bytes() == before


@pytest.mark.parametrize("content", [b"model: fast\n" * 100, b"\0" * 4096], ids=["text", "zeros"])
def test_what_is_no_database_is_refused_and_left(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DatabaseDamaged, match="restore"):
        inspect(path, SHIPPED)
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["sluice.db"]


def test_another_program_s_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(DatabaseDamaged, match="another program"):
        inspect(path, SHIPPED)


def test_a_corrupt_page_is_found_and_the_file_left(made: Path) -> None:
    content = bytearray(made.read_bytes())
    content[3 * 4096 : 3 * 4096 + 200] = b"\xa5" * 200
    made.write_bytes(content)
    with pytest.raises(DatabaseDamaged, match="damaged"):
        inspect(made, SHIPPED)
    assert made.read_bytes() == content


def test_a_finding_of_the_check_is_named(made: Path) -> None:
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(  # a NULL where there may be none
            "UPDATE sqlite_schema SET sql = replace(sql, 'plan TEXT', 'plan TEXT NOT NULL') "
            "WHERE name = 'accounts'"
        )
    with pytest.raises(DatabaseDamaged, match=r"NULL value in accounts\.plan"):
        inspect(made, SHIPPED)


def test_a_large_file_is_not_read_through(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(made.read_bytes())
    content[3 * 4096 : 3 * 4096 + 200] = b"\xa5" * 200
    made.write_bytes(content)
    monkeypatch.setattr(schema, "_CHECKED_BYTES", len(content) - 1)
    inspect(made, SHIPPED)


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnwritable, match="cannot be opened"):
        inspect(tmp_path, SHIPPED)


def test_a_copy_replaces_an_older_one_at_once(made: Path) -> None:
    target = made.with_name("copy")
    target.write_text("older")
    with closing(sqlite3.connect(made)) as connection:
        write_copy(connection, target)
    assert target.stat().st_mode & 0o777 == 0o600
    inspect(target, SHIPPED)
    assert sorted(file.name for file in made.parent.iterdir()) == ["copy", "sluice.db"]


def test_a_copy_that_fails_leaves_the_older_one(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = made.with_name("copy")
    target.write_text("older")

    class Broken(sqlite3.Connection):
        def backup(self, *args: object, **options: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

    with (
        closing(sqlite3.connect(made, factory=Broken)) as connection,
        pytest.raises(sqlite3.OperationalError),
    ):
        write_copy(connection, target)
    assert target.read_text() == "older"
    assert sorted(file.name for file in made.parent.iterdir()) == ["copy", "sluice.db"]


def test_a_private_file_is_new(path: Path) -> None:
    create_private(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        create_private(path)
