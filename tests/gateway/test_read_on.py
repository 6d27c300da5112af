"""`on_disconnect: drain`: the answer for a client that is gone is read on, within bounds, for its usage."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import UsageRecord
from proxy.gateway import exchange as exchange_module
from proxy.gateway.exchange import Exchange
from proxy.gateway.settlement import Reached
from tests.support import money
from tests.support.asking import eventually
from tests.support.clients import MESSAGES, StreamingClient
from tests.support.descriptors import open_descriptors
from tests.support.gateway import Sluice, gateway
from tests.support.replies import End, Reply, chat, chat_chunk, chat_stream, sse
from tests.support.upstream import Upstream

# 2,000 nanos for each token of input, 8,000 for each of output; the provider reports 100 + 50.
PRICE = {"input": 2, "output": 8, "currency": "USD", "per": "1M"}
REPORTED, REPORTED_COST = (100, 50), 600_000
# "Say hello" is estimated as 9 tokens, "Hello there" as 2.
ESTIMATED, ESTIMATED_COST = (9, 2), 34_000
FUNDS = 10**9
FAR_NS = 10**30

pytestmark = pytest.mark.parametrize("mode", ["track", "prepaid"])


@asynccontextmanager
async def draining(tmp_path: Path, mode: str, **more: Any) -> AsyncIterator[tuple[Upstream, Sluice]]:
    """Run a gateway whose provider is read on; afterwards nothing of any exchange may be left."""
    async with Upstream() as upstream:
        settings: dict[str, Any] = {
            "providers": {"up": {"base_url": upstream.url, "on_disconnect": "drain"}},
            "models": {"m": {"routes": ["up/m"], "price": PRICE}},
            "billing": {"mode": mode},
            **more,
        }
        async with gateway(tmp_path, **settings) as sluice:
            await money.top_up(sluice, FUNDS)
            yield upstream, sluice
            await eventually(lambda: sluice.app.gateway.running == 0 and money.nothing_held(sluice))
            assert sluice.app.gateway.services.read_on == 0
            cost = sum(record.cost_nanos for record in sluice.records)
            assert money.wallet(sluice) == FUNDS - (cost if mode == "prepaid" else 0)
        money.check_books(tmp_path / "sluice.db")


def streamed(*contents: str, usage: tuple[int, int] | None = REPORTED) -> Reply:
    return chat_stream(*(contents or ("Hello there",)), usage=usage).gated()


def exchange_of(sluice: Sluice) -> Exchange:
    (exchange,) = sluice.app.gateway._running
    return exchange


async def see_content(reply: Reply, client: StreamingClient) -> None:
    """Let the client have the role and the first content."""
    for gate in reply.gates[:2]:
        gate.open()
    await client.head()
    seen = b""
    chunks = client.chunks()
    while b"Hello there" not in seen:
        seen += await anext(chunks)


async def leave_in_mid_stream(sluice: Sluice, upstream: Upstream, reply: Reply) -> None:
    """Have a client that goes away after the first content."""
    upstream.reply(reply)
    async with StreamingClient.begun(sluice, model="m") as client:
        await see_content(reply, client)


def reading_on(sluice: Sluice, count: int) -> Callable[[], bool]:
    return lambda: sluice.app.gateway.services.read_on == count


def charge(record: UsageRecord) -> tuple[str, str, tuple[int, int], int]:
    usage = record.usage.input_tokens, record.usage.output_tokens
    return record.billing.value, record.finish.value, usage, record.cost_nanos


SETTLED = ("settled", "client_gone", REPORTED, REPORTED_COST)
AS_CANCELLED = ("estimated", "client_gone", ESTIMATED, ESTIMATED_COST)


# -- how a client leaves


@pytest.mark.parametrize("leave", ["close", "reset", "half_close"])
async def test_however_a_client_goes_its_answer_is_read_on(tmp_path: Path, mode: str, leave: str) -> None:
    async with draining(tmp_path, mode) as (upstream, sluice):
        reply = streamed()
        upstream.reply(reply)
        async with StreamingClient.begun(sluice, model="m") as client:
            await see_content(reply, client)
            {"close": client.writer.close, "reset": client.reset, "half_close": client.half_close}[leave]()
            await eventually(reading_on(sluice, 1))
            if leave == "half_close":
                assert (await client.rest()).strip() == b""  # its connection is closed, without an end
        assert sluice.records == []
        reply.open_all()
        (record,) = await sluice.settled(1)
        assert charge(record) == SETTLED


async def test_a_client_that_took_nothing_any_more(tmp_path: Path, mode: str) -> None:
    """It goes while the gateway waits for it to read: then the rest is read without it."""
    async with draining(tmp_path, mode) as (upstream, sluice):
        piece = "word " * 10_000
        upstream.reply(chat_stream("Hello there", *[piece] * 400, usage=REPORTED))  # 20 MB
        async with StreamingClient.begun(sluice, model="m") as client:
            await client.head()
            exchange = exchange_of(sluice)
            await eventually(lambda: exchange._delivery._is_waiting_for_client)
            client.reset()
            (record,) = await sluice.settled(1)
        assert charge(record) == SETTLED


async def test_one_that_is_gone_before_the_providers_answer_is_not_read_on(tmp_path: Path, mode: str) -> None:
    async with draining(tmp_path, mode) as (upstream, sluice):
        upstream.reply(chat("Hello there").then(End.HANG).cut(0, End.HANG))
        async with StreamingClient.begun(sluice, model="m", stream=False):
            await upstream.received(1)
        (record,) = await sluice.settled(1)
        await upstream.all_closed()
        assert charge(record) == ("void", "client_gone", (0, 0), 0)


async def test_a_client_that_stays_is_served_as_ever(tmp_path: Path, mode: str) -> None:
    async with draining(tmp_path, mode) as (upstream, sluice):
        upstream.reply(chat("Hello there", usage=REPORTED))
        answer = await sluice.http.post("/v1/chat/completions", json={"model": "m", "messages": MESSAGES})
        assert answer.headers["x-sluice-cost"] == "0.000600000"
        assert charge(sluice.records[0]) == ("settled", "ok", REPORTED, REPORTED_COST)


# -- bounds


async def test_it_is_read_on_for_a_minute_at_most(tmp_path: Path, mode: str) -> None:
    async with draining(tmp_path, mode) as (upstream, sluice):
        reply = streamed()
        await leave_in_mid_stream(sluice, upstream, reply)
        await eventually(reading_on(sluice, 1))
        exchange = exchange_of(sluice)
        until_ns = exchange._read_on_until_ns
        assert until_ns is not None
        exchange.tick(until_ns - 1)
        await asyncio.sleep(0)
        assert sluice.records == []
        assert not upstream.links[0].closed.is_set()
        exchange.tick(until_ns)
        (record,) = await sluice.settled(1)
        await upstream.all_closed()
        assert charge(record) == AS_CANCELLED


async def test_only_so_many_are_read_on_at_once(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "MOST_READ_ON", 2)
    async with draining(tmp_path, mode) as (upstream, sluice):
        replies = [streamed() for _ in range(4)]
        for number, reply in enumerate(replies[:3], 1):
            await leave_in_mid_stream(sluice, upstream, reply)
            await eventually(reading_on(sluice, min(number, 2)))
        (cut_short,) = await sluice.settled(1)
        assert charge(cut_short) == AS_CANCELLED
        replies[0].open_all()  # one ends, and there is room for another
        assert charge((await sluice.settled(2))[1]) == SETTLED
        await eventually(reading_on(sluice, 1))
        await leave_in_mid_stream(sluice, upstream, replies[3])
        await eventually(reading_on(sluice, 2))
        for reply in replies:
            reply.open_all()
        assert [charge(record) for record in (await sluice.settled(4))[2:]] == [SETTLED, SETTLED]


# -- what may happen meanwhile


@pytest.mark.parametrize("reported", [False, True])
async def test_a_provider_that_fails_meanwhile(tmp_path: Path, mode: str, reported: bool) -> None:
    """Nobody saw it fail: it is charged as if it had not been read on."""
    async with draining(tmp_path, mode) as (upstream, sluice):
        content = chat_chunk({"content": "Hello there"}, usage=REPORTED if reported else None)
        frames = sse(chat_chunk({"role": "assistant"}), content, chat_chunk({"content": "!"}))
        reply = frames.gated().broken(5, End.CLOSE)
        await leave_in_mid_stream(sluice, upstream, reply)
        await eventually(reading_on(sluice, 1))
        reply.open_all()
        (record,) = await sluice.settled(1)
        await upstream.all_closed()
        expected = ("estimated", "client_gone", REPORTED, REPORTED_COST) if reported else AS_CANCELLED
        assert charge(record) == expected
        assert len(upstream.requests) == 1  # there is no other attempt


@pytest.mark.parametrize("stream", [False, True])
async def test_no_other_deployment_is_asked(tmp_path: Path, mode: str, stream: bool) -> None:
    routes = ["up/m", {"provider": "up", "model": "other", "priority": 2}]
    models = {"m": {"routes": routes, "price": PRICE}}
    async with draining(tmp_path, mode, models=models) as (upstream, sluice):
        whole = sse(chat_chunk({"role": "assistant"})) if stream else chat("Hello there")
        reply = whole.gated().broken(1, End.RESET)
        upstream.reply(reply)
        async with StreamingClient.begun(sluice, model="m", stream=stream):
            await eventually(lambda: sluice.app.gateway.running == 1)
            exchange = exchange_of(sluice)
            await eventually(lambda: exchange._account.reached is Reached.ANSWERED)
        await eventually(reading_on(sluice, 1))
        reply.open_all()
        (record,) = await sluice.settled(1)
        assert charge(record) == ("estimated", "client_gone", (9, 0), 18_000)
        assert len(upstream.requests) == len(record.attempts) == 1


async def test_a_key_that_is_revoked_meanwhile(tmp_path: Path, mode: str) -> None:
    async with draining(tmp_path, mode) as (upstream, sluice):
        await leave_in_mid_stream(sluice, upstream, streamed())
        await eventually(reading_on(sluice, 1))
        id = money.key_state(sluice).key.id
        assert (await sluice.admin.delete(f"/admin/api/keys/{id}")).status_code == 200
        (record,) = await sluice.settled(1)
        await upstream.all_closed()
        assert charge(record) == AS_CANCELLED  # its client had gone first


async def test_a_server_that_stops_meanwhile(tmp_path: Path, mode: str) -> None:
    async with draining(tmp_path, mode, server={"shutdown_grace_s": 20}) as (upstream, sluice):
        await leave_in_mid_stream(sluice, upstream, streamed())
        await eventually(reading_on(sluice, 1))
        sluice.app.gateway.stop()
        await asyncio.sleep(0)
        assert sluice.records == []
        sluice.app.gateway.end_all()
        (record,) = await sluice.settled(1)
        await upstream.all_closed()
        assert charge(record) == AS_CANCELLED


async def test_a_stop_does_not_wait_a_minute(tmp_path: Path, mode: str) -> None:
    async with draining(tmp_path, mode, server={"shutdown_grace_s": 0}) as (upstream, sluice):
        await leave_in_mid_stream(sluice, upstream, streamed())
        await eventually(reading_on(sluice, 1))
        sluice.server.stop()
        (record,) = await sluice.settled(1)
        await upstream.all_closed()
        assert charge(record) == AS_CANCELLED


# -- what is left


async def test_nothing_leaks(tmp_path: Path, mode: str) -> None:
    async with draining(tmp_path, mode) as (upstream, sluice):
        await sluice.http.post("/v1/chat/completions", json={"model": "m", "messages": MESSAGES})
        await sluice.admin.get("/admin/api/usage")
        tasks, files = len(asyncio.all_tasks()), open_descriptors()
        upstream.always(chat_stream("Hello there", usage=REPORTED).in_pieces(200))

        async def leave(number: int) -> None:
            async with StreamingClient.begun(sluice, model="m", stream=bool(number % 3)) as client:
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                if number % 2:
                    client.reset()

        await asyncio.gather(*(leave(number) for number in range(60)))
        await eventually(lambda: sluice.app.gateway.running == 0)
        allowed = {("settled", "client_gone"), ("settled", "ok"), ("void", "client_gone")}
        assert {charge(record)[:2] for record in sluice.records} <= allowed
        assert len({record.id for record in sluice.records}) == len(sluice.records)
        client = sluice.app.gateway.services.client
        await eventually(lambda: client.open_connections == client.idle_connections)
        await eventually(
            lambda: (
                len(asyncio.all_tasks()) <= tasks
                and open_descriptors() <= files + 2 * (client.open_connections - 1)
            )
        )
