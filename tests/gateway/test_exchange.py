"""How exchanges end: what the client sees, what is charged, what is left behind."""

import asyncio
import gc
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.core.entities import Billing, Finish
from proxy.gateway import delivery
from tests.support.clients import MESSAGES, StreamingClient
from tests.support.gateway import Sluice, gateway
from tests.support.ports import refusing_port
from tests.support.replies import (
    End,
    Framing,
    Reply,
    chat,
    chat_stream,
    error,
    hang,
    hang_up,
    json_reply,
    raw,
    redirect,
    reset,
    sse,
    text,
)
from tests.support.upstream import Upstream

QUICK = {"connect_s": 5, "first_byte_s": 0.2, "idle_s": 0.2, "total_s": 5}


def providers(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"up": {"base_url": upstream.url, **more}}


@asynccontextmanager
async def running(
    tmp_path: Path, *, provider: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[Upstream, Sluice]]:
    async with (
        Upstream() as upstream,
        gateway(tmp_path, providers=providers(upstream, **(provider or {})), **settings) as sluice,
    ):
        yield upstream, sluice


async def ask(sluice: Sluice, *, stream: bool = False, **body: Any) -> httpx2.Response:
    whole = {"model": "up/m", "messages": MESSAGES, "stream": stream, **body}
    return await sluice.http.post("/v1/chat/completions", json=whole)


def ended(sluice: Sluice) -> tuple[Billing, Finish]:
    (record,) = sluice.records
    return record.billing, record.finish


def stream_error(answer: httpx2.Response) -> dict[str, Any]:
    """Return the error of the last event of a stream."""
    assert answer.status_code == 200
    *_, last, rest = answer.content.split(b"\n\n")
    assert rest == b""
    assert b"[DONE]" not in answer.content
    told: dict[str, Any] = json.loads(last.removeprefix(b"data: "))["error"]
    return told


def half_stream(end: End) -> Reply:
    """A role, two pieces of content, and then that end."""
    return chat_stream("Hel", "lo", "!").broken(3, end)


# -- before any content: a true status, and nothing is charged


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "status", "code", "finish"),
    [
        (hang_up(), 502, "upstream_reset", "upstream_error"),
        (reset(), 502, "upstream_reset", "upstream_error"),
        (raw(b"nonsense\r\n\r\n", end=End.CLOSE), 502, "upstream_invalid_response", "upstream_error"),
        (hang(), 504, "upstream_first_byte_timeout", "timeout"),
        (error(500, "boom"), 502, "upstream_error", "upstream_error"),
        (error(503, "overloaded"), 502, "upstream_error", "upstream_error"),
        (error(429, "slow down"), 429, "upstream_rate_limited", "upstream_error"),
        (error(400, "bad", code="odd"), 400, "odd", "upstream_error"),
        (error(402, "no money"), 503, "upstream_quota_exhausted", "upstream_error"),
        (redirect("http://127.0.0.1:9/"), 502, "upstream_error", "upstream_error"),
        (json_reply({"error": {"message": "late"}}), 502, "upstream_error", "upstream_error"),
        (
            json_reply({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
            503,
            "upstream_quota_exhausted",
            "upstream_error",
        ),
        (text("<html>oops</html>"), 502, None, "upstream_error"),
        (text(""), 502, None, None),
        (chat("hello").framed(Framing.LENGTH).cut(150, End.CLOSE), 502, None, None),
    ],
)
async def test_failures_before_content(
    tmp_path: Path, reply: Reply, status: int, code: str | None, finish: str | None, stream: bool
) -> None:
    async with running(tmp_path, provider={"timeouts": QUICK}) as (upstream, sluice):
        upstream.handler = lambda request: reply
        answer = await ask(sluice, stream=stream)
        told = answer.json()["error"]
        assert answer.status_code == status
        assert code in (None, told["code"])
        assert told["request_id"] == answer.headers["x-request-id"]
        (record,) = sluice.records
        assert (record.billing, record.cost_nanos, record.usage.total_tokens) == (Billing.VOID, 0, 0)
        assert finish in (None, record.finish)
        assert record.error_code == told["code"]
        assert record.attempts[-1].error == told["code"]
        await upstream.all_closed() if status == 504 else None


async def test_a_refused_connection(tmp_path: Path) -> None:
    with refusing_port() as port:
        url = f"http://127.0.0.1:{port}/v1"
        async with gateway(tmp_path, providers={"up": {"base_url": url}}) as sluice:
            answer = await ask(sluice)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_connect_failed")
            assert ended(sluice) == (Billing.VOID, Finish.UPSTREAM_ERROR)


async def test_an_error_in_the_first_event(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        upstream.reply(sse({"error": {"message": "no capacity", "code": 503}}))
        answer = await ask(sluice, stream=True)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
        assert ended(sluice) == (Billing.VOID, Finish.UPSTREAM_ERROR)


async def test_an_empty_stream(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        upstream.reply(sse())
        answer = await ask(sluice, stream=True)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_stream_truncated")
        assert ended(sluice) == (Billing.VOID, Finish.TRUNCATED)


async def test_a_second_deployment_answers_for_one_that_fails(tmp_path: Path) -> None:
    with refusing_port() as port:
        async with Upstream() as upstream:
            settings: dict[str, Any] = {
                "providers": {
                    "down": {"base_url": f"http://127.0.0.1:{port}/v1"},
                    "up": {"base_url": upstream.url},
                },
                "models": {"m": {"routes": ["down/a", {"provider": "up", "model": "b", "priority": 2}]}},
            }
            async with gateway(tmp_path, **settings) as sluice:
                answer = await ask(sluice, model="m")
                assert answer.status_code == 200
                assert answer.headers["x-sluice-attempts"] == "2"
                assert answer.headers["x-sluice-provider"] == "up"
                attempts = (await sluice.receipt(answer))["attempts"]
                assert [attempt["error"] for attempt in attempts] == ["upstream_connect_failed", None]


# -- after content: an event, and what was received is charged


@pytest.mark.parametrize(
    ("reply", "code", "finish"),
    [
        (half_stream(End.CLOSE), "upstream_stream_truncated", Finish.TRUNCATED),
        (half_stream(End.RESET), "upstream_reset", Finish.TRUNCATED),
        (half_stream(End.HANG), "upstream_idle_timeout", Finish.TIMEOUT),
        (
            sse(
                {"choices": [{"index": 0, "delta": {"content": "Hello"}}]},
                {"error": {"message": "it broke", "code": 500}},
            ),
            "upstream_error",
            Finish.UPSTREAM_ERROR,
        ),
        (
            sse(
                {"choices": [{"index": 0, "delta": {"content": "Hello"}}]},
                {"choices": [{"index": 0, "delta": {}, "finish_reason": "network_error"}]},
            ),
            "upstream_error",
            Finish.UPSTREAM_ERROR,
        ),
    ],
)
async def test_failures_after_content(tmp_path: Path, reply: Reply, code: str, finish: Finish) -> None:
    async with running(tmp_path, provider={"timeouts": QUICK}) as (upstream, sluice):
        upstream.reply(reply)
        answer = await ask(sluice, stream=True)
        told = stream_error(answer)
        assert told["code"] == code
        assert told["request_id"] == answer.headers["x-request-id"]
        assert ended(sluice) == (Billing.ESTIMATED, finish)
        (record,) = sluice.records
        assert record.usage.input_tokens > 0
        assert record.usage.output_tokens in (1, 2)
        assert len(upstream.requests) == 1  # never a second attempt


async def test_a_complete_stream_may_end_anyhow(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        complete = chat_stream("Hello", usage=None)
        upstream.reply(complete.broken(len(complete.parts) - 1, End.RESET))
        answer = await ask(sluice, stream=True)
        assert answer.content.endswith(b"data: [DONE]\n\n")
        assert ended(sluice) == (Billing.ESTIMATED, Finish.OK)


# -- the client goes away


@pytest.mark.parametrize("leave", ["close", "reset", "half_close"])
async def test_a_client_that_leaves_in_mid_stream(tmp_path: Path, leave: str) -> None:
    async with running(tmp_path) as (upstream, sluice):
        reply = chat_stream("Hello there", " and more").gated()
        upstream.reply(reply)
        async with StreamingClient.begun(sluice) as client:
            reply.gates[0].open()
            reply.gates[1].open()
            await client.head()
            async for chunk in client.chunks():
                if b"Hello" in chunk:
                    break
            if leave == "reset":
                client.reset()
            elif leave == "half_close":
                client.half_close()
            else:
                client.writer.close()
            await sluice.settled(1)
        await upstream.all_closed()
        assert ended(sluice) == (Billing.ESTIMATED, Finish.CLIENT_GONE)
        (record,) = sluice.records
        assert record.usage.output_tokens == 2
        assert sluice.app.gateway.running == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_providers_answer(tmp_path: Path, stream: bool) -> None:
    async with running(tmp_path) as (upstream, sluice):
        upstream.reply(hang())
        async with StreamingClient.begun(sluice, stream=stream):
            await upstream.received(1)
        await sluice.settled(1)
        await upstream.all_closed()
        assert ended(sluice) == (Billing.VOID, Finish.CLIENT_GONE)


async def test_a_client_that_leaves_before_the_first_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "HELD_NS", 0)
    async with running(tmp_path) as (upstream, sluice):
        reply = chat_stream("Hello").gated()
        upstream.reply(reply)
        reply.gates[0].open()  # the role
        async with StreamingClient.begun(sluice) as client:
            await client.head()
        await sluice.settled(1)
        assert ended(sluice) == (Billing.ESTIMATED, Finish.CLIENT_GONE)
        (record,) = sluice.records
        assert record.usage.input_tokens > 0
        assert record.usage.output_tokens == 0


# -- keys and the server end


async def test_revoking_a_key_ends_its_streams(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        made = (await sluice.admin.post("/admin/api/keys", json={"name": "short-lived"})).json()
        reply = chat_stream("Hello there", " and more").gated()
        upstream.reply(reply)
        reply.gates[0].open()
        reply.gates[1].open()
        sluice.http.headers["authorization"] = f"Bearer {made['key']}"
        asking = asyncio.create_task(ask(sluice, stream=True))
        await upstream.received(1)
        revoked = await sluice.admin.delete(f"/admin/api/keys/{made['id']}")
        assert revoked.status_code == 200
        answer = await asking
        if answer.status_code == 200:
            assert stream_error(answer)["code"] == "revoked_api_key"
        else:  # revoked before the first event arrived
            assert answer.json()["error"]["code"] == "revoked_api_key"
        assert sluice.records[0].finish is Finish.REVOKED
        await upstream.all_closed()
        again = await ask(sluice)
        assert (again.status_code, again.json()["error"]["code"]) == (401, "revoked_api_key")


async def test_stopping_lets_streams_finish(tmp_path: Path) -> None:
    async with running(tmp_path, server={"shutdown_grace_s": 20}) as (upstream, sluice):
        reply = chat_stream("Hello").gated()
        upstream.reply(reply)
        asking = asyncio.create_task(ask(sluice, stream=True))
        await upstream.received(1)
        sluice.server.stop()
        while not sluice.app.gateway.stopping:
            await asyncio.sleep(0)
        reply.open_all()
        answer = await asking
        assert answer.content.endswith(b"data: [DONE]\n\n")
        assert ended(sluice) == (Billing.SETTLED, Finish.OK)


async def test_streams_that_run_past_the_grace_are_ended_and_recorded(tmp_path: Path) -> None:
    async with running(tmp_path, server={"shutdown_grace_s": 0}) as (upstream, sluice):
        reply = chat_stream("Hello there", " and more").gated()
        upstream.reply(reply)
        reply.gates[0].open()
        reply.gates[1].open()
        async with StreamingClient.begun(sluice) as client:
            await client.head()
            seen = b""
            chunks = client.chunks()
            while b"Hello" not in seen:
                seen += await anext(chunks)
            sluice.server.stop()
            async for chunk in chunks:
                seen += chunk
        assert b'"code":"shutting_down"' in seen
        assert b"[DONE]" not in seen
        assert ended(sluice) == (Billing.ESTIMATED, Finish.SHUTDOWN)


# -- slow clients


async def test_a_slow_client_slows_the_provider(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        piece = "x" * 50_000
        upstream.reply(chat_stream(*[piece] * 400))  # 20 MB
        async with StreamingClient.begun(sluice) as client:
            await client.head()
            (exchange,) = sluice.app.gateway._running
            before = -1
            while before != (now := upstream.requests[0].link.sent_bytes):
                before = now
                for _ in range(200):
                    await asyncio.sleep(0)
            assert before < 12_000_000  # what fits into sockets, far from all of it
            assert not exchange.finished.done()
            received = 0
            async for chunk in client.chunks():
                received += len(chunk)
            assert received > 20_000_000
        assert ended(sluice)[1] is Finish.OK


async def test_a_client_does_not_wait_for_ever_for_a_disk(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        upstream.always(chat("Hello"))
        with closing(sqlite3.connect(sluice.app.gateway.config().database)) as other:
            other.execute("BEGIN IMMEDIATE")
            asking = asyncio.create_task(ask(sluice))
            async with asyncio.timeout(20):
                while not any(exchange._books._commit for exchange in sluice.app.gateway._running):
                    await asyncio.sleep(0)
            (exchange,) = sluice.app.gateway._running
            exchange.tick(0)
            await asyncio.sleep(0)
            assert not asking.done()
            exchange.tick(10**30)
            answer = await asking
            assert answer.status_code == 200
        async with asyncio.timeout(20):  # the record is written as soon as that can be done
            while (
                await sluice.admin.get(f"/admin/api/requests/{answer.headers['x-request-id']}")
            ).status_code != 200:
                await asyncio.sleep(0)


async def test_an_exchange_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    async with running(tmp_path, billing={"mode": "prepaid", "unpriced": "free"}) as (upstream, sluice):
        upstream.always(chat_stream("Hello"))
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(5):
                assert "[DONE]" in (await ask(sluice, stream=True)).text
            upstream.always(chat("Hello"))
            for _ in range(5):
                assert (await ask(sluice)).status_code == 200
            gc.collect()
            kinds = {type(found) for found in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
        assert not [kind for kind in kinds if kind.__module__.startswith("proxy.")]
