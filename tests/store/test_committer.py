"""The writer's thread without a thread: transactions, failures, and what is kept through them."""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from proxy.store import committer as committer_module
from proxy.store.committer import Committer, Job
from proxy.store.errors import LedgerUnavailable
from proxy.store.schema import rewrite_header

Rows = Callable[..., list[tuple[Any, ...]]]


class Bench:
    """A committer on a file with one table, and the jobs it has finished."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("CREATE TABLE notes (note TEXT PRIMARY KEY) STRICT")
        self.finished: list[Job] = []
        self.groups: list[int] = []
        self.committer = Committer(self.connection, path, self._finish)

    def _finish(self, jobs: Sequence[Job]) -> None:
        self.finished.extend(jobs)
        if jobs:
            self.groups.append(len(jobs))

    def commit(self, *jobs: Job) -> None:
        self.committer.commit(jobs)


@pytest.fixture
def bench(path: Path) -> Iterator[Bench]:
    bench = Bench(path)
    yield bench
    bench.connection.close()


def note(text: str, *, keep: bool = False) -> Job:
    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO notes VALUES (?)", (text,))
        return text

    return Job(work, None, keep=keep)


def apart(pragma: str) -> Job:
    def work(connection: sqlite3.Connection) -> tuple[bool, Any]:
        return connection.in_transaction, connection.execute(pragma).fetchone()

    return Job(work, None, keep=False, apart=True)


def boom(error: Exception) -> Job:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('half done')")
        raise error

    return Job(work, None, keep=False)


def read_only(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON")


NOTES = "SELECT note FROM notes ORDER BY rowid"


def test_what_comes_together_is_committed_together(bench: Bench, rows: Rows) -> None:
    bench.commit(note("a"), note("b"), note("c"))
    assert bench.groups == [3]
    assert [job.result for job in bench.finished] == ["a", "b", "c"]
    assert rows(NOTES) == [("a",), ("b",), ("c",)]


def test_a_long_queue_is_committed_in_pieces(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "GROUP_WORKS", 2)
    bench.commit(*(note(str(number)) for number in range(5)))
    assert bench.groups == [2, 2, 1]


@pytest.mark.parametrize(
    "error", [ValueError("no"), sqlite3.IntegrityError("no"), sqlite3.ProgrammingError("no")], ids=repr
)
def test_one_that_fails_undoes_no_neighbour(bench: Bench, rows: Rows, error: Exception) -> None:
    bench.commit(note("a"), boom(error), note("b"))
    assert [job.error for job in bench.finished] == [None, error, None]
    assert rows(NOTES) == [("a",), ("b",)]
    assert bench.committer.healthy


def test_a_constraint_is_the_caller_s_matter(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.commit(note("a"))
    bench.commit(note("a", keep=True))
    assert isinstance(bench.finished[-1].error, sqlite3.IntegrityError)
    assert bench.committer.healthy
    assert "refused for good" in caplog.text


def test_a_statement_that_is_wrong_is_the_caller_s_matter(bench: Bench) -> None:
    bench.commit(Job(lambda connection: connection.execute("SELECT colour"), None, keep=True))
    assert isinstance(bench.finished[-1].error, sqlite3.OperationalError)
    assert bench.committer.healthy


def test_a_database_that_cannot_be_written_fails_what_need_not_wait(bench: Bench, rows: Rows) -> None:
    read_only(bench.connection)
    bench.commit(note("a"))
    assert isinstance(bench.finished[-1].error, LedgerUnavailable)
    assert not bench.committer.healthy
    assert rows(NOTES) == []


def test_what_must_not_be_lost_is_kept_in_its_order(bench: Bench, rows: Rows) -> None:
    read_only(bench.connection)
    bench.commit(note("a", keep=True), note("b"), note("c", keep=True))
    bench.commit(note("d", keep=True))
    assert [job.result for job in bench.finished if job.error is None] == []
    bench.connection.execute("PRAGMA query_only = OFF")
    bench.commit()
    assert bench.committer.healthy
    assert rows(NOTES) == [("a",), ("c",), ("d",)]


def test_each_kept_work_is_announced_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Named:
        def __call__(self, connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO notes VALUES ('named')")

        def __str__(self) -> str:
            return "the named one"

    read_only(bench.connection)
    bench.commit(Job(Named(), None, keep=True))
    bench.commit()
    bench.commit()
    said = [message for message in caplog.messages if "the named one" in message]
    assert len(said) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * len(caplog.records)
    assert {record.name for record in caplog.records} == {"sluice.store"}


def test_a_cause_is_logged_once_and_so_is_its_end(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    read_only(bench.connection)
    bench.commit()  # nothing to write: nothing is known
    assert bench.committer.healthy
    for _ in range(3):
        bench.commit(note("a"))
        bench.commit()
    bench.connection.execute("PRAGMA query_only = OFF")
    bench.commit()
    bench.commit()
    assert [message.partition(" ")[2] for message in caplog.messages] == [
        "cannot be written: attempt to write a readonly database",
        "can be written again",
    ]


def test_no_more_is_kept_than_there_is_room_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(committer_module, "KEPT_WORKS", 2)
    read_only(bench.connection)
    bench.commit(*(note(str(number), keep=True) for number in range(3)))
    (refused,) = bench.finished
    assert isinstance(refused.error, LedgerUnavailable)
    assert any(record.levelno == logging.CRITICAL for record in caplog.records)


def test_a_locked_database_is_not_asked_for_each_work(bench: Bench, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    begun: list[str] = []
    bench.connection.set_trace_callback(begun.append)
    bench.commit(note("a", keep=True), note("b", keep=True))
    assert begun.count("BEGIN IMMEDIATE") == 1
    other.close()
    bench.commit()
    assert [job.result for job in bench.finished] == ["a", "b"]


def test_a_full_disk_takes_what_still_fits(bench: Bench, rows: Rows) -> None:
    (pages,) = bench.connection.execute("PRAGMA page_count").fetchone()
    bench.connection.execute(f"PRAGMA max_page_count = {pages}")
    bench.commit(note("small", keep=True), note("large" * 4000, keep=True), note("later", keep=True))
    assert rows(NOTES) == [("small",)]  # the group as a whole did not fit
    assert not bench.committer.healthy
    bench.connection.execute("PRAGMA max_page_count = 1000")
    bench.commit()
    assert rows("SELECT substr(note, 1, 5) FROM notes ORDER BY rowid") == [("small",), ("large",), ("later",)]


@pytest.mark.parametrize("wrong", [MemoryError(), sqlite3.OperationalError("disk I/O error")])
def test_trouble_of_the_system_is_not_the_work_s(bench: Bench, wrong: Exception) -> None:
    if isinstance(wrong, sqlite3.OperationalError):
        wrong.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    troubled = [wrong, wrong]

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('once')")
        if troubled:
            raise troubled.pop()

    bench.commit(Job(work, None, keep=True))
    assert not bench.committer.healthy
    bench.commit()
    assert not bench.committer.healthy
    bench.commit()
    assert bench.committer.healthy
    assert [job.error for job in bench.finished] == [None]


def test_a_rollback_that_failed_is_made_up_for(bench: Bench, rows: Rows) -> None:
    bench.connection.execute("BEGIN IMMEDIATE")
    bench.connection.execute("INSERT INTO notes VALUES ('left behind')")
    bench.commit(note("a"))
    assert rows(NOTES) == [("a",)]


@pytest.mark.parametrize("gone", ["deleted", "replaced"])
def test_a_file_that_is_no_longer_there_is_not_written(
    bench: Bench, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, gone: str
) -> None:
    monkeypatch.setattr(committer_module, "LOOK_S", 0)
    aside = path.with_name("aside")
    path.rename(aside)
    if gone == "replaced":
        path.touch()
    bench.commit()  # what the idle thread does from time to time
    assert not bench.committer.healthy
    bench.commit(note("a"), note("b", keep=True))
    assert isinstance(bench.finished[-1].error, LedgerUnavailable)
    assert path.exists() == (gone == "replaced")  # no new file was made
    assert ("the file was deleted" if gone == "deleted" else "another file took its place") in caplog.text
    aside.rename(path)
    bench.commit()
    assert bench.committer.healthy
    assert bench.finished[-1].result == "b"


def test_the_proof_of_writing_writes(bench: Bench, path: Path) -> None:
    log = path.with_name("sluice.db-wal")
    bench.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert log.stat().st_size == 0
    rewrite_header(bench.connection)
    rewrite_header(bench.connection)  # as it was
    assert log.stat().st_size > 2 * 4096


def test_closing_leaves_one_file(bench: Bench, path: Path) -> None:
    bench.commit(note("a"))
    bench.committer.close()
    assert [file.name for file in path.parent.iterdir()] == ["sluice.db"]


def test_closing_says_what_is_lost(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    read_only(bench.connection)
    bench.commit(note("a", keep=True))
    bench.committer.close()
    assert isinstance(bench.finished[-1].error, LedgerUnavailable)
    assert caplog.records[-1].levelno == logging.CRITICAL


def test_closing_while_another_process_reads_keeps_the_log(
    bench: Bench, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute(NOTES).fetchall()
    bench.commit(note("a"))
    bench.committer.close()
    assert "is being read elsewhere" in caplog.text
    reader.close()


def test_a_log_that_cannot_be_folded_in_is_reported(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.commit(note("a"))
    bench.connection.execute("BEGIN")
    bench.connection.execute(NOTES).fetchall()  # a checkpoint within a transaction is refused
    bench.committer.close()
    assert "could not be folded" in caplog.text


def test_companions_write_once_for_all_works_of_a_transaction(bench: Bench, rows: Rows) -> None:
    class Count:
        def __init__(self) -> None:
            self.works = 0

        def begin(self) -> None:
            self.works = 0

        def flush(self, connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO notes VALUES (?)", (f"{self.works} works",))

    count = Count()

    def work(connection: sqlite3.Connection) -> None:
        count.works += 1

    bench.committer.companions.append(count)
    bench.commit(Job(work, None, keep=False), Job(work, None, keep=False))
    assert rows(NOTES) == [("2 works",)]
    bench.commit(Job(work, None, keep=False), boom(ValueError()))
    assert rows(NOTES) == [("2 works",), ("1 works",)]


class TestApart:
    def test_it_runs_in_its_turn_between_transactions(self, bench: Bench, rows: Rows) -> None:
        full, what = apart("PRAGMA synchronous = FULL"), apart("PRAGMA synchronous")
        bench.commit(note("a"), note("b"), full, what, note("c"))
        assert bench.groups == [2, 1, 1, 1]
        assert (full.result, what.result) == ((False, None), (False, (2,)))
        assert rows(NOTES) == [("a",), ("b",), ("c",)]

    def test_its_mistake_is_its_own(self, bench: Bench) -> None:
        wrong = apart("PRAGMA no such thing")
        bench.commit(note("a"), wrong, note("b"))
        assert isinstance(wrong.error, sqlite3.OperationalError)
        assert bench.groups == [1, 1, 1]
        assert bench.committer.healthy

    def test_it_is_refused_when_the_file_fails(self, bench: Bench) -> None:
        def fail(connection: sqlite3.Connection) -> None:
            raise MemoryError

        job = Job(fail, None, keep=False, apart=True)
        bench.commit(job)
        assert isinstance(job.error, LedgerUnavailable)
        assert not bench.committer.healthy
        bench.commit()
        assert bench.committer.healthy

    def test_it_takes_no_part_in_a_transaction_that_could_not_be_undone(self, bench: Bench) -> None:
        bench.connection.execute("BEGIN")
        what = apart("PRAGMA synchronous")
        bench.commit(what)
        assert what.result[0] is False
