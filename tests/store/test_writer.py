import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.store import committer as committer_module
from proxy.store import writer as writer_module
from proxy.store.errors import LedgerUnavailable
from proxy.store.writer import Writer

Rows = Callable[..., list[tuple[Any, ...]]]

NOTES = "SELECT note FROM notes ORDER BY rowid"


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE notes (note TEXT) STRICT")
    return connection


@pytest.fixture
def connection(path: Path) -> sqlite3.Connection:
    """The writing connection, for what its file or disk would do to it."""
    return connect(path)


@pytest.fixture
async def writer(
    connection: sqlite3.Connection, path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Writer]:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
    writer = Writer(connection, path)
    yield writer
    await writer.close()


def note(text: str) -> Callable[[sqlite3.Connection], str]:
    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO notes VALUES (?)", (text,))
        return text

    return work


class Gate:
    """A work that stops the thread until it is opened, so that what is queued meanwhile is known."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        self.reached.set()
        assert self.open.wait(30)


def transactions(into: list[str]) -> Callable[[sqlite3.Connection], None]:
    return lambda connection: connection.set_trace_callback(into.append)


async def test_a_future_resolves_after_the_commit(writer: Writer, rows: Rows) -> None:
    assert await writer.submit(note("a")) == "a"
    assert rows(NOTES) == [("a",)]
    assert writer.depth == 0
    assert writer.healthy


async def test_what_one_turn_of_the_loop_submits_is_one_group(writer: Writer) -> None:
    statements: list[str] = []
    await writer.submit(transactions(statements))
    await asyncio.gather(*(writer.submit(note(str(number))) for number in range(20)))
    assert statements.count("COMMIT") == 2  # the first is that of transactions() itself


async def test_what_comes_during_a_commit_is_the_next_group(writer: Writer) -> None:
    statements: list[str] = []
    gate = Gate()
    gated = writer.submit(gate)
    await asyncio.to_thread(gate.reached.wait)
    queued: list[asyncio.Future[Any]] = [writer.submit(transactions(statements))]
    for number in range(20):
        queued.append(writer.submit(note(str(number))))
        await asyncio.sleep(0)  # each in a turn of its own
    assert writer.depth == 22  # the gate's, too
    gate.open.set()
    await asyncio.gather(gated, *queued)
    assert statements.count("COMMIT") == 1
    assert writer.depth == 0


async def test_works_run_in_their_order(writer: Writer, rows: Rows) -> None:
    numbers = [str(number) for number in range(200)]
    for number in numbers[:-1]:
        writer.post(note(number))
        await asyncio.sleep(0)
    await writer.submit(note(numbers[-1]))
    assert [text for (text,) in rows(NOTES)] == numbers


async def test_one_that_fails_undoes_no_neighbour(writer: Writer, rows: Rows) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('half done')")
        raise LookupError("no such thing")

    outcomes = await asyncio.gather(
        writer.submit(note("a")), writer.submit(fails), writer.submit(note("b")), return_exceptions=True
    )
    assert outcomes[0] == "a"
    assert isinstance(outcomes[1], LookupError)
    assert outcomes[2] == "b"
    assert rows(NOTES) == [("a",), ("b",)]


async def test_a_cancelled_await_commits_all_the_same(writer: Writer, rows: Rows) -> None:
    gate = Gate()
    gated = writer.submit(gate)
    await asyncio.to_thread(gate.reached.wait)

    async def give_up() -> None:
        await writer.submit(note("a"))

    task = asyncio.create_task(give_up())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.open.set()
    await gated
    await writer.submit(note("b"))
    assert rows(NOTES) == [("a",), ("b",)]


async def test_closing_commits_what_is_queued(path: Path, rows: Rows) -> None:
    writer = Writer(connect(path), path)
    gate = Gate()
    gated = writer.submit(gate)
    await asyncio.to_thread(gate.reached.wait)
    futures = [writer.submit(note(str(number))) for number in range(50)]
    writer.post(note("posted"))
    closing_down = asyncio.ensure_future(writer.close())
    await asyncio.sleep(0)
    gate.open.set()
    await closing_down
    await gated
    assert [await future for future in futures] == [str(number) for number in range(50)]
    assert rows("SELECT count(*) FROM notes") == [(51,)]
    await writer.close()  # once more does nothing


async def test_closing_a_writer_that_never_wrote(path: Path) -> None:
    await Writer(connect(path), path).close()
    assert [file.name for file in path.parent.iterdir()] == ["sluice.db"]


async def test_nothing_is_taken_after_the_close(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = Writer(connect(path), path)
    await writer.close()
    with pytest.raises(LedgerUnavailable):
        await writer.submit(note("late"))
    assert caplog.text == ""
    with pytest.raises(LedgerUnavailable):
        await writer.submit(note("late"), until_committed=True)
    assert "lost" in caplog.text
    writer.post(note("late"))
    assert "after the database was closed" in caplog.text


async def test_an_idle_writer_notices_that_its_file_is_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (writer_module, committer_module):
        monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
    writer = Writer(connect(path), path)
    aside = path.rename(path.with_name("aside"))
    while writer.healthy:
        await asyncio.sleep(0)
    aside.rename(path)
    while not writer.healthy:
        await asyncio.sleep(0)
    await writer.close()


async def test_a_posted_work_is_committed_though_nobody_submits(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "POST_S", 0)
    done = threading.Event()
    writer.post(lambda connection: done.set())
    assert await asyncio.to_thread(done.wait, 30)


async def test_a_posted_work_does_not_wake_the_thread(writer: Writer) -> None:
    ran: list[str] = []
    writer.post(lambda connection: ran.append("posted"))
    assert writer.depth == 1
    await asyncio.sleep(0)
    assert writer.depth == 1
    await writer.submit(lambda connection: ran.append("submitted"))
    assert ran == ["posted", "submitted"]


async def test_a_posted_work_that_fails_is_logged(writer: Writer, caplog: pytest.LogCaptureFixture) -> None:
    writer.post(lambda connection: connection.execute("SELECT colour"))
    await writer.submit(note("a"))
    assert "refused for good" in caplog.text


async def test_a_database_that_another_process_locks(
    writer: Writer, connection: sqlite3.Connection, path: Path, rows: Rows
) -> None:
    connection.execute("PRAGMA busy_timeout = 20")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        kept = writer.submit(note("kept"), until_committed=True)
        with pytest.raises(LedgerUnavailable):
            await writer.submit(note("refused"))
        assert not writer.healthy
        assert not kept.done()
        other.execute("COMMIT")
    assert await kept == "kept"
    assert writer.healthy
    assert rows(NOTES) == [("kept",)]


async def test_a_short_lock_is_waited_for(writer: Writer, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        waiting = writer.submit(note("a"))
        await asyncio.sleep(0)
        other.execute("COMMIT")
        assert await waiting == "a"


async def test_a_disk_that_is_full_for_a_while_loses_nothing(
    writer: Writer, connection: sqlite3.Connection, rows: Rows
) -> None:
    texts = [f"{number:03d}" + "x" * 1000 for number in range(40)]
    connection.execute("PRAGMA max_page_count = 4")
    futures = [writer.submit(note(text), until_committed=True) for text in texts]
    with pytest.raises(LedgerUnavailable):
        await writer.submit(note("an admission"))
    assert not writer.healthy
    assert writer.depth > 30  # a few fitted
    connection.execute("PRAGMA max_page_count = 1000")
    assert [await future for future in futures] == texts
    assert [text for (text,) in rows(NOTES)] == texts
    assert writer.healthy


async def test_it_finds_by_itself_that_it_can_write_again(
    writer: Writer, connection: sqlite3.Connection
) -> None:
    connection.execute("PRAGMA query_only = ON")
    with pytest.raises(LedgerUnavailable):
        await writer.submit(note("a"))
    assert not writer.healthy
    connection.execute("PRAGMA query_only = OFF")
    while not writer.healthy:
        await asyncio.sleep(0)


async def test_closing_gives_up_what_cannot_be_written(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    connection = connect(path)
    connection.execute("PRAGMA query_only = ON")
    writer = Writer(connection, path)
    kept = writer.submit(note("a"), until_committed=True)
    await writer.close()
    with pytest.raises(LedgerUnavailable):
        await kept
    assert "lost" in caplog.text


def test_a_loop_that_ends_first_does_not_stop_the_thread(
    path: Path, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()

    async def main() -> Writer:
        writer = Writer(connect(path), path)
        writer.submit(gate)
        writer.submit(note("a"))
        await asyncio.to_thread(gate.reached.wait)
        return writer

    writer = asyncio.run(main())
    gate.open.set()
    writer._stopping.set()
    writer._queue.put([])
    writer._thread.join()
    assert rows(NOTES) == [("a",)]
    assert "the event loop ended before" in caplog.text
