"""`/admin/api/backup`, over a running gateway."""

import asyncio
import re
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.core.errors import RequestRefused, Unavailable
from proxy.store import backups as backups_module
from proxy.store import copies, schema
from proxy.store.backups import Backups
from proxy.store.copies import examine
from proxy.store.database import Database
from tests.support import money
from tests.support.asking import eventually
from tests.support.clients import MESSAGES
from tests.support.gateway import ADMIN_KEY, Sluice, gateway
from tests.support.raw import RawClient

PATH = "/admin/api/backup"
BODY = {"model": "demo/any", "messages": MESSAGES}
REQUEST = (
    b"POST /admin/api/backup HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\n"
    b"content-length: 0\r\n\r\n" % ADMIN_KEY.encode()
)
# More than the system takes in for a client that reads nothing.
BALLAST_BYTES = 24 << 20


@pytest.fixture
async def sluice(tmp_path: Path) -> AsyncIterator[Sluice]:
    async with gateway(tmp_path, providers={"demo": {"preset": "echo"}}) as sluice:
        yield sluice


def left_behind(sluice: Sluice) -> list[str]:
    """Return the files that belong to neither the configuration nor a database in use."""
    names = {file.name for file in money.database(sluice).parent.iterdir()}
    return sorted(names - {"config.yaml", "sluice.db", "sluice.db-wal", "sluice.db-shm"})


def load(sluice: Sluice) -> None:
    """Make the database large."""
    with closing(sqlite3.connect(money.database(sluice), isolation_level=None)) as connection:
        connection.execute("INSERT INTO settings VALUES ('ballast', hex(zeroblob(?)))", (BALLAST_BYTES // 2,))


@asynccontextmanager
async def asking(sluice: Sluice, request: bytes = REQUEST, **options: Any) -> AsyncIterator[RawClient]:
    """A client that asked for a backup, and takes it as the test does."""
    url = httpx2.URL(sluice.url)
    async with RawClient((url.host, url.port or 80), **options) as client:
        client.send(request)
        yield client


class Gate:
    """Holds up every copy after its first piece, until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def take(self, source: Path, target: Path, *, durably: bool, goes_on: Callable[[], bool]) -> None:
        def wait() -> bool:
            self.reached.set()
            while not self._open.wait(0.001):
                if not goes_on():
                    return False
            return goes_on()

        copies.take(source, target, durably=durably, goes_on=wait)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(schema, "_COPIED_PAGES", 1)
    gate = Gate()
    monkeypatch.setattr(backups_module, "take", gate.take)
    return gate


async def test_it_answers_the_whole_database_as_one_file(sluice: Sluice, tmp_path: Path) -> None:
    assert (await sluice.http.post("/v1/chat/completions", json=BODY)).status_code == 200
    answer = await sluice.admin.post(PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/vnd.sqlite3"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert re.fullmatch(
        r'attachment; filename="sluice-\d{8}T\d{6}Z\.db"', answer.headers["content-disposition"]
    )
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["cache-control"] == "no-store"
    await eventually(lambda: not left_behind(sluice))
    copy = tmp_path / "copy.db"
    copy.write_bytes(answer.content)
    contents = examine(copy, copy, thoroughly=True)
    assert (contents.exchanges, contents.size_bytes) == (1, len(answer.content))
    money.check_books(copy)
    for secret in (ADMIN_KEY, sluice.http.headers["authorization"].removeprefix("Bearer ")):
        assert secret.encode() not in answer.content


async def test_it_takes_the_admin_key_and_nothing_else(sluice: Sluice) -> None:
    assert (await sluice.http.post(PATH)).status_code == 401
    wrong = [
        await sluice.admin.get(PATH),
        await sluice.admin.post(PATH, json={"path": "/etc/passwd"}),
        await sluice.admin.post(f"{PATH}?path=x"),
        await sluice.admin.post(PATH, content=b"{}" + b" " * 2000),
    ]
    assert [answer.status_code for answer in wrong] == [405, 400, 400, 413]
    assert (await sluice.admin.post(PATH, json={})).status_code == 200


@pytest.mark.parametrize("mode", ["track", "prepaid"])
async def test_copies_under_load_are_each_of_one_moment(tmp_path: Path, mode: str) -> None:
    settings: dict[str, Any] = {
        "providers": {"demo": {"preset": "echo"}},
        "models": {"paid": {"routes": ["demo/x"], "price": {"input": 2, "output": 8, "per": "1M"}}},
        "billing": {"mode": mode},
    }
    async with gateway(tmp_path, **settings) as sluice:
        await money.top_up(sluice, 10**12)
        done = False

        async def client() -> None:
            while not done:
                answer = await sluice.http.post("/v1/chat/completions", json={**BODY, "model": "paid"})
                assert answer.status_code == 200

        clients = [asyncio.create_task(client()) for _ in range(4)]
        counts = [0]
        for number in range(6):
            await sluice.settled(10 * number)
            before = len(sluice.records)
            answer = await sluice.admin.post(PATH)
            after = len(sluice.records) + len(clients)  # theirs may be committed and not yet told
            copy = tmp_path / f"{number}.db"
            copy.write_bytes(answer.content)
            proved = money.proof._prove(copy, threading.Event())
            assert proved.ok, proved.differences
            ((settled,),) = money.read(copy, "SELECT count(*) FROM exchanges WHERE finish IS NOT NULL")
            assert before <= settled <= after
            assert examine(copy, copy, thoroughly=True).exchanges >= settled
            counts.append(settled)
        assert counts == sorted(counts)
        done = True
        await asyncio.gather(*clients)
    money.check_books(tmp_path / "sluice.db")


async def test_requests_are_settled_while_a_copy_is_made(sluice: Sluice, gate: Gate, tmp_path: Path) -> None:
    asked = asyncio.create_task(sluice.admin.post(PATH))
    await asyncio.to_thread(gate.reached.wait)
    for _ in range(20):
        assert (await sluice.http.post("/v1/chat/completions", json=BODY)).status_code == 200
    assert (await sluice.admin.post("/admin/api/keys", json={"name": "meanwhile"})).status_code == 201
    assert len(sluice.records) == 20
    assert not asked.done()
    assert (tmp_path / "sluice.db.backup-part").stat().st_mode & 0o777 == 0o600
    gate.open()
    copy = tmp_path / "copy.db"
    copy.write_bytes((await asked).content)
    assert examine(copy, copy, thoroughly=True).exchanges == 0  # as of the moment when it was begun
    money.check_books(copy)


async def test_there_is_one_at_a_time(sluice: Sluice, gate: Gate) -> None:
    first = asyncio.create_task(sluice.admin.post(PATH))
    await asyncio.to_thread(gate.reached.wait)
    refused = await sluice.admin.post(PATH)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "backup_running")
    gate.open()
    assert (await first).status_code == 200
    await eventually(lambda: not left_behind(sluice))
    assert (await sluice.admin.post(PATH)).status_code == 200


async def test_a_backup_that_is_downloaded_slowly_is_running_still(sluice: Sluice) -> None:
    load(sluice)
    async with asking(sluice, receive_buffer=4096) as client:
        status, headers = await client.head()
        assert status == 200
        assert int(headers["content-length"]) > BALLAST_BYTES
        assert (await sluice.admin.post(PATH)).status_code == 409
        assert left_behind(sluice) == ["sluice.db.backup-part"]
        assert (await sluice.http.post("/v1/chat/completions", json=BODY)).status_code == 200
        size = int(headers["content-length"])
        received = await client.read(size)
        assert received[:16] == b"SQLite format 3\0"
    await eventually(lambda: not left_behind(sluice))


@pytest.mark.parametrize("end", ["reset", "half_close"])
async def test_a_client_that_leaves_leaves_nothing_behind(sluice: Sluice, end: str) -> None:
    load(sluice)
    async with asking(sluice, receive_buffer=4096) as client:
        await client.head()
        assert left_behind(sluice) == ["sluice.db.backup-part"]
        getattr(client, end)()
        await eventually(lambda: not left_behind(sluice))
    assert (await sluice.admin.post(PATH)).status_code == 200


async def test_a_client_that_leaves_while_its_copy_is_made(sluice: Sluice, gate: Gate) -> None:
    async with asking(sluice) as client:
        await asyncio.to_thread(gate.reached.wait)
        client.reset()
        await eventually(lambda: not left_behind(sluice))
    gate.open()
    assert (await sluice.admin.post(PATH)).status_code == 200


@pytest.mark.parametrize("stage", ["copied", "sent"])
async def test_the_server_stops_while_one_runs(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    if stage == "copied":
        monkeypatch.setattr(schema, "_COPIED_PAGES", 1)
        monkeypatch.setattr(backups_module, "take", gate.take)
    settings = {"providers": {"demo": {"preset": "echo"}}, "server": {"shutdown_grace_s": 0}}
    monkeypatch.setattr("proxy.web.server.AFTER_GRACE_S", 0.1)
    async with gateway(tmp_path, **settings) as sluice:
        load(sluice)
        async with asking(sluice, receive_buffer=4096) as client:
            if stage == "copied":
                await asyncio.to_thread(gate.reached.wait)
            else:
                await client.head()
            sluice.server.stop()
            await client.rest()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.yaml", "sluice.db"]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no backup grow beyond five pages."""
    connect = sqlite3.connect

    def limited(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(database, *arguments, **options)
        if str(database).endswith(".backup-part"):
            connection.execute("PRAGMA max_page_count = 5")
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)


@pytest.mark.usefixtures("full_disk")
async def test_a_disk_that_is_full(sluice: Sluice) -> None:
    for _ in range(2):
        answer = await sluice.admin.post(PATH)
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "ledger_unavailable"
        assert error["message"] == "The backup cannot be made: database or disk is full."
        assert left_behind(sluice) == []
    assert (await sluice.http.post("/v1/chat/completions", json=BODY)).status_code == 200


async def test_a_folder_that_cannot_be_written(sluice: Sluice, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(schema, "create_private", refuse)
    answer = await sluice.admin.post(PATH)
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "The backup cannot be made: Permission denied."
    assert left_behind(sluice) == []


@pytest.mark.parametrize("cut", [True, False], ids=["cut short", "unreadable"])
async def test_a_file_that_cannot_be_read_on_breaks_the_answer_off(
    sluice: Sluice, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    pieces = iter([b"SQLite format 3\0"])

    def read(self: Any) -> bytes:
        if not cut:
            raise OSError(5, "Input/output error")
        return next(pieces, b"")

    monkeypatch.setattr(backups_module.Backup, "_read", read)
    async with asking(sluice) as client:
        status, headers = await client.head()
        assert status == 200
        assert len(await client.rest()) < int(headers["content-length"])
    await eventually(lambda: not left_behind(sluice))


async def test_one_follows_the_other_at_once(sluice: Sluice) -> None:
    for _ in range(20):
        assert (await sluice.admin.post(PATH)).status_code == 200


async def test_what_a_killed_process_left_is_removed_at_the_start(tmp_path: Path) -> None:
    for name in ("sluice.db.backup-part", "sluice.db.backup-part-journal", "sluice.db.restore-part"):
        (tmp_path / name).write_text("left")
    (tmp_path / "sluice.db.backup").write_text("mine")
    async with gateway(tmp_path, providers={"demo": {"preset": "echo"}}) as sluice:
        assert left_behind(sluice) == ["sluice.db.backup"]


async def test_what_was_left_is_in_no_backup_s_way(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "sluice.db.backup-part").write_text("left")
    (tmp_path / "sluice.db.backup-part-journal").write_text("left")
    assert (await sluice.admin.post(PATH)).status_code == 200
    await eventually(lambda: not left_behind(sluice))


class TestBackups:
    """What no request reaches."""

    @pytest.fixture
    async def backups(self, tmp_path: Path) -> AsyncIterator[Backups]:
        database = await Database.open(tmp_path / "sluice.db")
        yield Backups(database.path)
        await database.close()

    async def test_after_the_end_there_are_none(self, backups: Backups) -> None:
        await backups.close()
        await backups.close()
        with pytest.raises(Unavailable):
            await backups.make()

    async def test_the_end_stops_one_that_is_made(self, backups: Backups, gate: Gate, tmp_path: Path) -> None:
        making = asyncio.create_task(backups.make())
        await asyncio.to_thread(gate.reached.wait)
        with pytest.raises(RequestRefused):
            await backups.make()
        await backups.close()
        with pytest.raises(Unavailable):
            await making
        assert not list(tmp_path.glob("*part*"))

    async def test_the_end_stops_one_that_is_taken(
        self, backups: Backups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backups_module, "_PIECE_BYTES", 4096)
        backup = await backups.make()
        pieces = backup.pieces()
        assert (await anext(pieces))[:6] == b"SQLite"
        await backups.close()
        with pytest.raises(Unavailable):
            await anext(pieces)
        backup.close()
        assert not list(tmp_path.glob("*part*"))

    async def test_one_that_is_given_up(self, backups: Backups, gate: Gate, tmp_path: Path) -> None:
        making = asyncio.create_task(backups.make())
        await asyncio.to_thread(gate.reached.wait)
        making.cancel()
        await asyncio.wait([making])
        await eventually(lambda: backups._current is None)
        assert not list(tmp_path.glob("*part*"))

    async def test_what_cannot_be_removed_is_logged(
        self, backups: Backups, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        backup = await backups.make()

        def fail(path: Path) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(backups_module, "remove_whole", fail)
        backup.close()
        await eventually(lambda: backups._current is None)
        assert "could not be removed" in caplog.text
