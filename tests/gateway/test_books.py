"""What an exchange writes when it begins and when it ends, whatever becomes of those who wait."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.config.schema import Config
from proxy.core.entities import EntryKind, Finish, UsageRecord
from proxy.core.funding import Funds
from proxy.gateway import admission
from proxy.gateway.admission import Admitted
from proxy.gateway.attempts import AttemptLog
from proxy.gateway.books import COMMIT_PATIENCE_NS, Books
from proxy.gateway.keyring import new_secret
from proxy.gateway.management import blank_key
from proxy.gateway.request import CHAT, read_json
from proxy.gateway.settlement import Accounting, Reached
from proxy.gateway.snapshot import Snapshot
from proxy.store import ledger, records
from proxy.store import writer as writer_module
from proxy.store.errors import LedgerUnavailable
from proxy.store.funds import MoneyCall
from proxy.store.ledger import Cause
from tests.support.configuration import configuration
from tests.support.keys import NOW_MS, Installation, installed, settings_of

TEXT = """
billing: {mode: prepaid}
providers: {up: {base_url: "https://up.example/v1"}}
models: {fast: {routes: [up/m], price: {input: 0, output: 0, per_request: 0.000000002, per: 1M}}}
"""
BODY = b'{"model":"fast","messages":[{"role":"user","content":"hello"}],"max_tokens":5}'


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installed(settings_of(tmp_path)) as here:
        cause = Cause("default", NOW_MS, EntryKind.TOPUP, "admin")
        await here.treasury.change(
            "default",
            MoneyCall("k", "r", NOW_MS),
            lambda connection: ledger.top_up(connection, cause, 9),
            lambda funds, entries: "",
        )
        yield here


async def admit(here: Installation, config: Config | None = None) -> Admitted:
    key = await here.keyring.add(blank_key(NOW_MS), new_secret())
    snapshot = Snapshot.build(config or configuration(TEXT))
    admitted = admission.check(read_json(CHAT, [], BODY), key, snapshot, here.clock, "req_1")
    admitted.take()
    return admitted


def finished(here: Installation, admitted: Admitted) -> UsageRecord:
    """Return its record, as that of a whole answer for which nothing was reported."""
    account = Accounting(admitted, AttemptLog(here.clock), here.clock)
    account.reached = Reached.COMPLETE
    return account.close(Finish.OK, 200, None)


async def written(here: Installation) -> list[tuple[str | None, bool]]:
    """Return of each exchange on disk how it finished, and whether it holds funds."""
    rows = await here.database.fetch_all("SELECT finish, hold IS NOT NULL AS held FROM exchanges")
    return [(row["finish"], bool(row["held"])) for row in rows]


class Gate:
    """Keeps the writer busy until it is opened."""

    def __init__(self, here: Installation) -> None:
        self._opened = threading.Event()
        here.database.writer.submit(lambda connection: self._opened.wait())

    def open(self) -> None:
        self._opened.set()


async def test_funds_are_held_on_disk_and_then_charged(here: Installation) -> None:
    admitted = await admit(here)
    books, funds = Books(admitted, here.usage, here.clock), here.treasury.of("default")
    opening = books.open()
    assert opening is not None
    await opening
    assert await written(here) == [(None, True)]
    assert (funds.held_nanos, funds.available_nanos(NOW_MS)) == (2, 7)
    await books.close(finished(here, admitted))
    assert await written(here) == [("ok", False)]
    assert (funds.held_nanos, funds.left) == (0, Funds(wallet_nanos=7))


async def test_where_billing_only_tracks_nothing_is_waited_for_or_paid(here: Installation) -> None:
    admitted = await admit(here, configuration(TEXT.replace("prepaid", "track")))
    books = Books(admitted, here.usage, here.clock)
    assert books.open() is None
    await books.close(finished(here, admitted))
    assert await written(here) == [("ok", False)]
    assert here.treasury.of("default").left == Funds(wallet_nanos=9)
    record = await here.usage.get("req_1")
    assert record is not None
    assert (record.cost_nanos, record.paid_wallet_nanos) == (2, 0)


async def test_a_hold_that_cannot_be_written_says_so(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
    admitted = await admit(here)
    await here.database.writer.submit(lambda connection: connection.execute("PRAGMA query_only = ON"))
    opening = Books(admitted, here.usage, here.clock).open()
    assert opening is not None
    with pytest.raises(LedgerUnavailable):
        await opening
    admitted.give_back(here.clock.monotonic_ns())
    assert here.treasury.of("default").held_nanos == 0
    assert await written(here) == []


async def test_patience_ends_and_the_record_is_committed_all_the_same(here: Installation) -> None:
    admitted = await admit(here)
    books, funds = Books(admitted, here.usage, here.clock), here.treasury.of("default")
    books.tick(1 << 62)  # nothing is waited for yet
    gate = Gate(here)
    closing = asyncio.ensure_future(books.close(finished(here, admitted)))
    await asyncio.sleep(0)
    books.tick(here.clock.monotonic_ns() + COMMIT_PATIENCE_NS - 1)
    await asyncio.sleep(0)
    assert not closing.done()
    books.tick(here.clock.monotonic_ns() + COMMIT_PATIENCE_NS)
    await closing
    assert (await written(here), funds.held_nanos) == ([], 2)
    gate.open()
    await here.database.writer.submit(lambda connection: None)
    assert (await written(here), funds.held_nanos) == ([("ok", False)], 0)
    books.tick(1 << 62)  # nothing is waited for any more


async def test_who_is_cancelled_while_waiting_is_cancelled(here: Installation) -> None:
    admitted = await admit(here)
    gate = Gate(here)
    closing = asyncio.ensure_future(Books(admitted, here.usage, here.clock).close(finished(here, admitted)))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    gate.open()
    await here.database.writer.submit(lambda connection: None)
    assert await written(here) == [("ok", False)]
    assert here.treasury.of("default").held_nanos == 0


async def test_a_record_that_the_database_refuses_does_not_spoil_the_answer(
    here: Installation, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection: sqlite3.Connection, record: UsageRecord) -> bool:
        raise sqlite3.IntegrityError("a bad record")

    admitted = await admit(here)
    monkeypatch.setattr(records, "write", refuse)
    await Books(admitted, here.usage, here.clock).close(finished(here, admitted))
    assert "a usage record was refused by the database" in caplog.text
    assert "refused for good: usage record" in caplog.text
    funds = here.treasury.of("default")
    assert (funds.left.wallet_nanos, funds.held_nanos) == (9, 2)  # its money stays where it is


async def test_only_the_first_end_of_an_exchange_counts(here: Installation) -> None:
    admitted = await admit(here)
    key = admitted.key
    account = Accounting(admitted, AttemptLog(here.clock), here.clock)
    account.reached = Reached.COMPLETE
    assert (account.closed, key.spending.running_nanos) == (False, 2)
    first = account.close(Finish.OK, 200, None)
    assert account.close(Finish.TIMEOUT, 504, "late") is first
    assert account.closed
    assert (first.finish, first.status, first.cost_nanos) == (Finish.OK, 200, 2)
    day = here.clock.today().name
    assert (key.spending.running_nanos, key.spending.spent("day", day)) == (0, 2)
