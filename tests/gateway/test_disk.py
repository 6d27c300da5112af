"""A disk that fails under a running gateway: full, locked, read-only. Nothing is lost, nothing twice."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.store import writer as writer_module
from tests.support import money
from tests.support.asking import eventually
from tests.support.clients import MESSAGES, StreamingClient
from tests.support.gateway import Sluice, gateway
from tests.support.replies import chat, chat_stream
from tests.support.upstream import Upstream

# "Say hello" is estimated as 9 tokens; with `max_tokens: 2` the hold is what the answer costs.
PRICE = {"input": 2, "output": 8, "currency": "USD", "per": "1M"}
USAGE, COST = (9, 2), 34_000
FUNDS = 10**9
FAR_NS = 10**30
# A row with this name needs pages of its own, so that no disk is full but for what still fits in.
LONG = "m" * 6000


@contextmanager
def full(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    connection.execute("PRAGMA max_page_count = 1")  # as many as there are
    yield
    connection.execute("PRAGMA max_page_count = 1073741823")


@contextmanager
def locked(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    connection.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.close()


@contextmanager
def read_only(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    connection.execute("PRAGMA query_only = ON")
    yield
    connection.execute("PRAGMA query_only = OFF")


Fault = Callable[[sqlite3.Connection, Path], Any]


@pytest.fixture(params=[full, locked, read_only], ids=lambda fault: fault.__name__)
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fault:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.01)
    chosen: Fault = request.param
    return chosen


@asynccontextmanager
async def running(tmp_path: Path, mode: str) -> AsyncIterator[tuple[Upstream, Sluice]]:
    async with Upstream() as upstream:
        upstream.always(chat("hi there", usage=USAGE))
        settings: dict[str, Any] = {
            "providers": {"up": {"base_url": upstream.url}},
            "models": {"mm*": {"routes": ["up/m"], "price": PRICE}},
            "billing": {"mode": mode},
            "plans": {"watched": {"rpd": 100, "tpd": 1000}},
            "limits": {"default_plan": "watched"},
        }
        async with gateway(tmp_path, **settings) as sluice:
            await money.top_up(sluice, FUNDS)
            yield upstream, sluice
        money.check_books(tmp_path / "sluice.db")


def broken(sluice: Sluice, fault: Fault) -> Any:
    """Break the disk until the end of a block."""
    connection = sluice.app._database.writer._committer._connection
    return fault(connection, money.database(sluice))


async def ask(sluice: Sluice, **body: Any) -> httpx2.Response:
    whole = {"model": LONG, "messages": MESSAGES, "max_tokens": 2, **body}
    return await sluice.http.post("/v1/chat/completions", json=whole)


def taken(sluice: Sluice) -> tuple[int, int, int]:
    """Return requests and tokens counted today, and what running requests take of quotas."""
    state, clock = money.key_state(sluice), sluice.app.gateway.services.clock
    left = dict(state.limiter.headers(*clock.instant()))
    requests = 100 - int(left[b"x-ratelimit-remaining-requests"])
    return requests, 1000 - int(left[b"x-ratelimit-remaining-tokens"]), state.spending.running_nanos


async def ready(sluice: Sluice) -> int:
    return (await sluice.admin.get("/readyz")).status_code


@pytest.mark.parametrize("mode", ["track", "prepaid"])
async def test_running_streams_end_and_are_settled_later(tmp_path: Path, fault: Fault, mode: str) -> None:
    async with running(tmp_path, mode) as (upstream, sluice):
        reply = chat_stream("hi", " there", usage=USAGE).gated()
        upstream.always(reply)
        writer = sluice.app._database.writer
        asking = [asyncio.create_task(ask(sluice, stream=True)) for _ in range(4)]
        await upstream.received(4)
        with broken(sluice, fault):
            reply.open_all()
            await eventually(lambda: not writer.healthy)
            await eventually(lambda: all(each._books._commit for each in sluice.app.gateway._running))
            assert not any(task.done() for task in asking)  # the end waits for the disk
            assert await ready(sluice) == 503
            for exchange in list(sluice.app.gateway._running):
                exchange.tick(FAR_NS)  # but not for ever
            answers = await asyncio.gather(*asking)
            assert all(answer.content.endswith(b"data: [DONE]\n\n") for answer in answers)
            assert sluice.app.gateway.running == 0
            if mode == "prepaid":  # the funds stay held until the charge is on disk
                assert money.funds_of(sluice).held_nanos == 4 * COST
            for _ in range(3):
                refused = await ask(sluice)
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] == "ledger_unavailable"
                assert refused.headers["retry-after"] == "1"
            assert len(upstream.requests) == 4
            assert await ready(sluice) == 503
            assert money.wallet(sluice) == FUNDS
            assert taken(sluice) == (4, 44, 0)
        await eventually(lambda: writer.healthy and money.nothing_held(sluice))
        await eventually(lambda: writer.depth == 0)
        assert await ready(sluice) == 200
        upstream.always(chat("hi there", usage=USAGE))
        assert (await ask(sluice)).status_code == 200
        await eventually(lambda: money.nothing_held(sluice))
        counted = money.read(money.database(sluice), money._RECORDS)
        assert counted == [(5, 5 * COST)]
        assert money.wallet(sluice) == FUNDS - (5 * COST if mode == "prepaid" else 0)
        assert len({record.id for record in sluice.records}) == 5


async def test_no_provider_is_called_without_a_hold(tmp_path: Path, fault: Fault) -> None:
    """The first to notice, while the database still counts as sound: everything is given back."""
    async with running(tmp_path, "prepaid") as (upstream, sluice):
        with broken(sluice, fault):
            answers = await asyncio.gather(*(ask(sluice, stream=bool(n % 2)) for n in range(20)))
            for answer in answers:
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "ledger_unavailable"
                assert answer.headers["retry-after"] == "1"
            await eventually(lambda: sluice.app.gateway.running == 0)
            assert upstream.requests == []
            assert taken(sluice) == (0, 0, 0)
            assert money.nothing_held(sluice)
        await eventually(lambda: sluice.app._database.writer.healthy)
        assert sluice.records == []
        assert money.read(money.database(sluice), "SELECT count(*) FROM exchanges") == [(0,)]
        answer = await ask(sluice)
        assert answer.headers["x-sluice-cost"] == "0.000034000"
        assert money.wallet(sluice) == FUNDS - COST


async def test_a_client_that_leaves_while_its_hold_is_written(tmp_path: Path, fault: Fault) -> None:
    """The provider is never called; its record, which says so, comes when the disk is well again."""
    async with running(tmp_path, "prepaid") as (upstream, sluice):
        writer = sluice.app._database.writer
        with broken(sluice, fault):
            refusal = asyncio.create_task(ask(sluice))
            async with StreamingClient.begun(sluice, model=LONG):
                pass
            await refusal
            for exchange in list(sluice.app.gateway._running):
                exchange.tick(FAR_NS)
            await eventually(lambda: sluice.app.gateway.running == 0)
        await eventually(lambda: writer.healthy and writer.depth == 0)
        assert upstream.requests == []
        assert {record.billing.value for record in sluice.records} <= {"void"}
        await eventually(lambda: money.nothing_held(sluice))
        assert money.wallet(sluice) == FUNDS
