"""What a provider can do wrong, through a whole gateway: what the client is told, and what is charged.

After each case the gateway runs nothing, holds no funds, has closed its connections, and serves the
next request.
"""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

from proxy.core.entities import Billing, Finish
from proxy.gateway import delivery
from tests.support import money
from tests.support.asking import eventually
from tests.support.clients import MESSAGES
from tests.support.descriptors import open_descriptors
from tests.support.gateway import Sluice, gateway
from tests.support.ports import refusing_port, silent_port
from tests.support.replies import (
    End,
    Reply,
    chat,
    chat_chunk,
    chat_stream,
    error,
    hang,
    hang_up,
    raw,
    redirect,
    sse,
    text,
)
from tests.support.upstream import Upstream

# 2,000 nanos for each token of input, 8,000 for each of output.
PRICE = {"input": 2, "output": 8, "currency": "USD", "per": "1M"}
TIMEOUTS = {"connect_s": 5, "first_byte_s": 5, "idle_s": 5, "total_s": 20}
#: "Say hello" is estimated as 9 tokens of input.
INPUT = 9
KEY = "sk-provider-0123456789abcdefghij"

HEAD = b"HTTP/1.1 200 OK\r\n"
CONTENT = chat_chunk({"content": "Hello there"})  # estimated as 2 tokens
ROLE = chat_chunk({"role": "assistant", "content": ""})
STOP = chat_chunk({}, finish="stop")
MIB = 1024 * 1024


@asynccontextmanager
async def running(
    tmp_path: Path, base_url: str | None = None, **provider: Any
) -> AsyncIterator[tuple[Sluice, Upstream]]:
    """A gateway with prepaid funds, over one provider; at the end its books are proved."""
    async with Upstream() as upstream:
        whole = {"base_url": base_url or upstream.url, "api_key": KEY, "timeouts": TIMEOUTS, **provider}
        settings: dict[str, Any] = {
            "providers": {"up": whole},
            "models": {"m": {"routes": ["up/m"], "price": PRICE}},
            "billing": {"mode": "prepaid", "currency": "USD"},
        }
        async with gateway(tmp_path, **settings) as sluice:
            await money.top_up(sluice, money.DOLLAR)
            yield sluice, upstream
            await eventually(lambda: sluice.app.gateway.running == 0)
            assert money.nothing_held(sluice)
            money.check_books(money.database(sluice))


async def ask(sluice: Sluice, *, stream: bool = False, **body: Any) -> httpx2.Response:
    whole = {"model": "m", "messages": MESSAGES, "stream": stream, **body}
    return await sluice.http.post("/v1/chat/completions", json=whole)


def charged(input_tokens: int, output_tokens: int) -> int:
    return input_tokens * 2_000 + output_tokens * 8_000


def spent(sluice: Sluice) -> int:
    return money.DOLLAR - money.wallet(sluice)


# -- before any content: a true status, and nothing is charged


@dataclass(frozen=True)
class Fault:
    reply: Reply
    status: int
    code: str
    finish: Finish = Finish.UPSTREAM_ERROR
    #: Whether it also befalls streams, and answers that are had whole.
    streams: tuple[bool, ...] = (False, True)


INVALID = (502, "upstream_invalid_response")
TRUNCATED = (502, "upstream_stream_truncated", Finish.TRUNCATED)
FAULTS = {
    "headers cut": Fault(chat().cut(40, End.CLOSE), *INVALID),
    "garbage": Fault(raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", end=End.CLOSE), *INVALID),
    "http 0.9": Fault(raw(b"hello", end=End.CLOSE), *INVALID),
    "status 999": Fault(raw(b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n"), *INVALID),
    "one header of a megabyte": Fault(raw(HEAD + b"x-a: " + b"a" * MIB, end=End.HANG), *INVALID),
    "10,000 headers": Fault(raw(HEAD + b"x-a: b\r\n" * 10_000 + b"\r\n", end=End.HANG), *INVALID),
    "nul in a header": Fault(raw(HEAD + b"x-a: b\0c\r\ncontent-length: 0\r\n\r\n"), *INVALID),
    "eleven interim answers": Fault(chat().interim(*[103] * 11), *INVALID),
    "two lengths": Fault(raw(HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello"), *INVALID),
    "length and chunked": Fault(
        raw(HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), *INVALID
    ),
    "length too large": Fault(
        text(b'{"id":', content_type="application/json")
        .with_headers(("content-length", "900"))
        .then(End.CLOSE),
        *TRUNCATED,
        streams=(False,),
    ),
    "JSON cut": Fault(text(chat().body[:60], content_type="application/json"), *INVALID, streams=(False,)),
    "HTML": Fault(text("<html><h1>Welcome</h1></html>", content_type="text/html"), *INVALID),
    "nothing": Fault(text(b"", content_type="application/json"), *INVALID, streams=(False,)),
    "a stream of nothing": Fault(text(b"", content_type="text/event-stream"), *TRUNCATED, streams=(True,)),
    "a whole answer for a stream": Fault(chat("Hello"), *INVALID, streams=(True,)),
    "no gzip": Fault(
        text("not gzip").with_headers(("content-encoding", "gzip")), *INVALID
    ),
    "gzip that ends early": Fault(
        text(gzip.compress(chat().body)[:-9]).with_headers(("content-encoding", "gzip")),
        *INVALID,
        streams=(False,),
    ),
    "an unknown encoding": Fault(chat().with_headers(("content-encoding", "br")), *INVALID),
    "a bomb": Fault(
        text(bytes(80 * MIB), content_type="application/json").compressed(), *INVALID, streams=(False,)
    ),
    "one line without an end": Fault(
        sse(ROLE, b"data: " + b"x" * (17 * MIB)).then(End.HANG), *INVALID, streams=(True,)
    ),
    "a role, and a reset": Fault(
        sse(ROLE, "").broken(1, End.RESET), 502, "upstream_reset", Finish.TRUNCATED, streams=(True,)
    ),
    "500": Fault(error(500), 502, "upstream_error"),
    "529": Fault(error(529), 502, "upstream_error"),
    "a redirect": Fault(redirect("https://elsewhere.example/v1"), 502, "upstream_error"),
}  # fmt: skip
CASES = [(name, stream) for name, fault in FAULTS.items() for stream in fault.streams]


@pytest.mark.parametrize(
    ("name", "stream"), CASES, ids=lambda value: value if isinstance(value, str) else None
)
async def test_a_fault_before_content(tmp_path: Path, name: str, stream: bool) -> None:
    fault = FAULTS[name]
    async with running(tmp_path) as (sluice, upstream):
        upstream.reply(fault.reply)
        answer = await ask(sluice, stream=stream)
        told = answer.json()["error"]
        assert (answer.status_code, told["code"]) == (fault.status, fault.code)
        assert told["request_id"] == answer.headers["x-request-id"]
        assert "traceback" not in answer.text.lower()
        (record,) = sluice.records
        assert (record.billing, record.finish, record.cost_nanos) == (Billing.VOID, fault.finish, 0)
        assert spent(sluice) == 0
        assert len(upstream.requests) == 1
        again = await ask(sluice)
        assert again.json()["choices"][0]["message"]["content"] == "Hello"
        await upstream.until(lambda: upstream.open_connections <= 1)
        assert spent(sluice) == charged(3, 5)


# -- no connection


@asynccontextmanager
async def tls_of(certificate: trustme.LeafCert) -> AsyncIterator[Upstream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    async with Upstream(tls=context) as upstream:
        yield upstream


@pytest.mark.parametrize("stream", [False, True])
async def test_a_name_that_cannot_be_resolved(tmp_path: Path, stream: bool) -> None:
    async with running(tmp_path, "http://no-such-host.invalid/v1") as (sluice, _):
        await unreachable(sluice, 502, "upstream_connect_failed", stream=stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_connection_that_is_refused(tmp_path: Path, stream: bool) -> None:
    with refusing_port() as port:
        async with running(tmp_path, f"http://127.0.0.1:{port}/v1") as (sluice, _):
            await unreachable(sluice, 502, "upstream_connect_failed", stream=stream)


async def test_a_connection_that_is_never_accepted(tmp_path: Path) -> None:
    with silent_port() as port:
        url = f"http://127.0.0.1:{port}/v1"
        async with running(tmp_path, url, timeouts={"connect_s": 0.1}) as (sluice, _):
            await unreachable(sluice, 504, "upstream_connect_timeout", Finish.TIMEOUT)


async def unreachable(
    sluice: Sluice,
    status: int,
    code: str,
    finish: Finish = Finish.UPSTREAM_ERROR,
    *,
    stream: bool = False,
) -> None:
    answer = await ask(sluice, stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-should-retry"] == "true"
    (record,) = sluice.records
    assert (record.billing, record.finish, record.cost_nanos) == (Billing.VOID, finish, 0)
    assert sluice.app.gateway.services.client.open_connections == 0


@pytest.mark.parametrize("fault", ["expired", "another name", "unknown authority"])
async def test_a_certificate_that_cannot_be_trusted(tmp_path: Path, fault: str) -> None:
    authority, ca_file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    until = datetime.now(UTC) + timedelta(days=-1 if fault == "expired" else 1)
    name = "other.example" if fault == "another name" else "127.0.0.1"
    signer = trustme.CA() if fault == "unknown authority" else authority
    async with tls_of(signer.issue_cert(name, not_after=until)) as secure:
        async with running(tmp_path, secure.url, ca_file=str(ca_file)) as (sluice, _):
            await unreachable(sluice, 502, "upstream_connect_failed")
        assert secure.requests == []


# -- connections that are kept


async def test_a_connection_that_was_closed_meanwhile_is_replaced_silently(tmp_path: Path) -> None:
    async with running(tmp_path) as (sluice, upstream):
        await ask(sluice)
        upstream.reply(hang_up())  # as one does that closes in the moment of the request
        answer = await ask(sluice)
        assert (answer.status_code, answer.headers["x-sluice-attempts"]) == (200, "1")
        assert [len(link.requests) for link in upstream.links] == [2, 1]
        assert len((await sluice.receipt(answer))["attempts"]) == 1
        assert spent(sluice) == 2 * charged(3, 5)
        upstream.reply(hang_up(), hang_up())
        answer = await ask(sluice)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_reset")
        assert len(upstream.requests) == 5
        assert spent(sluice) == 2 * charged(3, 5)


async def test_more_than_the_length_says_is_thrown_away(tmp_path: Path) -> None:
    async with running(tmp_path) as (sluice, upstream):
        body = chat("Hello").body
        head = HEAD + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        upstream.reply(raw(head + body + b"HTTP/1.1 200 OK\r\n\r\nsmuggled"))
        answer = await ask(sluice)
        assert answer.content == body
        assert b"smuggled" not in (await ask(sluice)).content
        assert len(upstream.links) == 2


async def test_interim_answers_are_passed_over(tmp_path: Path) -> None:
    async with running(tmp_path) as (sluice, upstream):
        upstream.reply(chat("Hello").interim(100, 103, 103))
        answer = await ask(sluice)
        assert (answer.status_code, answer.content) == (200, chat("Hello").body)
        assert "x-interim" not in answer.headers


async def test_a_redirect_takes_no_key_anywhere(tmp_path: Path) -> None:
    async with Upstream() as thief, running(tmp_path) as (sluice, upstream):
        for status in (301, 302, 303, 307, 308):
            upstream.reply(redirect(thief.url + "/chat/completions", status))
            answer = await ask(sluice)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
            assert KEY not in answer.text
        assert thief.links == []


# -- what is passed on


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_compression_that_nobody_asked_for(tmp_path: Path, encoding: str) -> None:
    async with running(tmp_path) as (sluice, upstream):
        upstream.reply(chat("Hello").compressed(encoding), chat_stream("Hel", "lo").compressed(encoding))
        answer = await ask(sluice)
        assert (answer.content, "content-encoding" in answer.headers) == (chat("Hello").body, False)
        answer = await ask(sluice, stream=True, stream_options={"include_usage": True})
        assert answer.content == chat_stream("Hel", "lo").body
        assert "content-encoding" not in answer.headers
        assert {request.header("accept-encoding") for request in upstream.requests} == {"identity"}
        assert spent(sluice) == 2 * charged(3, 5)


async def test_a_refusal_keeps_its_words_but_no_secret_and_not_all_of_them(tmp_path: Path) -> None:
    async with running(tmp_path) as (sluice, upstream):
        words = f"temperature is wrong for {KEY} and sk-abcdefghijklmnopqrstuvwxyz0123456789; " + "x" * 5000
        upstream.reply(error(400, words, code="odd_value"))
        answer = await ask(sluice)
        told = answer.json()["error"]
        assert (answer.status_code, told["code"]) == (400, "odd_value")
        assert told["message"].startswith("temperature is wrong for ")
        assert len(told["message"]) <= 2048
        assert KEY not in answer.text
        assert "sk-abcdefghij" not in answer.text
        assert told["upstream"]["provider"] == "up"
        assert (len(upstream.requests), spent(sluice)) == (1, 0)


async def test_an_answer_may_name_anything_but_its_headers_stay(tmp_path: Path) -> None:
    async with running(tmp_path) as (sluice, upstream):
        reply = chat("Hello", model="another-model", tool_calls=[{"id": "x" * 100_000}]).with_headers(
            ("set-cookie", "session=1"),
            ("x-ratelimit-remaining-requests", "7"),
            ("openai-organization", "ours"),
            ("x-request-id", "req-theirs"),
            ("server", "theirs"),
        )
        upstream.reply(reply)
        answer = await ask(sluice)
        assert answer.content == reply.body
        for name in ("set-cookie", "x-ratelimit-remaining-requests", "openai-organization"):
            assert name not in answer.headers
        assert answer.headers["x-upstream-request-id"] == "req-theirs"
        assert answer.headers["x-request-id"] != "req-theirs"
        assert "theirs" not in answer.headers.get("server", "")


# -- after content: an event that tells of it, and what was received is charged


ESTIMATE = charged(INPUT, 2)
LATE = {
    "closed": (sse(ROLE, CONTENT, "").broken(2, End.CLOSE), "upstream_stream_truncated", Finish.TRUNCATED),
    "reset": (sse(ROLE, CONTENT, "").broken(2, End.RESET), "upstream_reset", Finish.TRUNCATED),
    "an error event": (
        sse(ROLE, CONTENT, {"error": {"message": f"boom {KEY}", "code": 500}}), "upstream_error",
        Finish.UPSTREAM_ERROR,
    ),
    "one line without an end": (
        sse(ROLE, CONTENT, b"data: " + b"x" * (17 * MIB)).then(End.HANG), "upstream_invalid_response",
        Finish.UPSTREAM_ERROR,
    ),
    "a bad chunk": (
        raw(
            HEAD + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            b"%x\r\n%b\r\n" % (len(sse(CONTENT).body), sse(CONTENT).body),
            b"zz\r\n",
            end=End.HANG,
        ),
        "upstream_invalid_response", Finish.UPSTREAM_ERROR,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "code", "finish"), LATE.values(), ids=LATE.keys())
async def test_a_fault_after_content(tmp_path: Path, reply: Reply, code: str, finish: Finish) -> None:
    async with running(tmp_path) as (sluice, upstream):
        upstream.reply(reply)
        answer = await ask(sluice, stream=True)
        assert answer.status_code == 200
        assert b"Hello there" in answer.content
        assert b'"code":"%b"' % code.encode() in answer.content
        assert b"[DONE]" not in answer.content
        assert KEY.encode() not in answer.content
        (record,) = sluice.records
        assert (record.billing, record.finish) == (Billing.ESTIMATED, finish)
        assert spent(sluice) == ESTIMATE
        assert len(upstream.requests) == 1
        assert (await ask(sluice)).status_code == 200
        await upstream.until(lambda: upstream.open_connections <= 1)


async def test_endless_comments_end_with_the_whole_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MOST_HELD", 10_000)
    async with running(tmp_path, timeouts=TIMEOUTS | {"total_s": 0.3}) as (sluice, upstream):
        upstream.reply(sse(*[b": " + b"x" * 10_000 + b"\n\n"] * 100).broken(100, End.HANG))
        answer = await ask(sluice, stream=True)
        assert answer.status_code == 200
        assert b'"code":"upstream_total_timeout"' in answer.content
        (record,) = sluice.records
        assert (record.billing, record.finish, spent(sluice)) == (Billing.VOID, Finish.TIMEOUT, 0)
        await upstream.all_closed()


# -- complete, however odd


ODD: dict[str, tuple[tuple[object, ...], int]] = {
    "data that is no JSON": (
        (ROLE, "{broken", CONTENT, STOP, chat_chunk(usage=(100, 50)), "[DONE]"), charged(100, 50)
    ),
    "no usage": ((ROLE, CONTENT, STOP, "[DONE]"), ESTIMATE),
    "no end after the finish reason": ((ROLE, CONTENT, STOP), ESTIMATE),
    "usage in every chunk": (
        (
            ROLE,
            *(chat_chunk({"content": "Hello there"}, usage=(100, count)) for count in (10, 20, 50)),
            STOP,
            "[DONE]",
        ),
        charged(100, 50),
    ),
    "usage twice": ((CONTENT, STOP, *[chat_chunk(usage=(100, 50))] * 2, "[DONE]"), charged(100, 50)),
    "more output than was asked for": (
        (CONTENT, STOP, chat_chunk(usage=(100, 9000)), "[DONE]"), charged(100, 9000)
    ),
    "negative usage": ((CONTENT, STOP, chat_chunk(usage=(100, -50)), "[DONE]"), ESTIMATE),
    "usage of a quintillion": ((CONTENT, STOP, chat_chunk(usage=(100, 10**18)), "[DONE]"), ESTIMATE),
    "usage as text": (
        (CONTENT, STOP, chat_chunk(usage={"prompt_tokens": "9e9", "completion_tokens": None}), "[DONE]"),
        ESTIMATE,
    ),
    "fractional usage": (
        (CONTENT, STOP, chat_chunk(usage={"prompt_tokens": 1.5, "completion_tokens": 2}), "[DONE]"), ESTIMATE,
    ),
    "usage that is no number": (
        (CONTENT, STOP, b'data: {"choices":[],"usage":{"prompt_tokens":NaN,"completion_tokens":2}}\n\n'),
        ESTIMATE,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("frames", "cost"), ODD.values(), ids=ODD.keys())
async def test_a_stream_that_is_odd_but_complete(
    tmp_path: Path, frames: tuple[object, ...], cost: int
) -> None:
    async with running(tmp_path) as (sluice, upstream):
        upstream.reply(sse(*frames))
        answer = await ask(sluice, stream=True, max_tokens=100)
        assert (answer.status_code, b'"error"' in answer.content) == (200, False)
        assert answer.content.endswith(b"data: [DONE]\n\n")
        assert answer.content.count(b"[DONE]") == 1
        (record,) = sluice.records
        assert record.finish is Finish.OK
        assert record.billing is (Billing.ESTIMATED if cost == ESTIMATE else Billing.SETTLED)
        assert spent(sluice) == cost
        if "{broken" in frames:
            assert b"data: {broken\n\n" in answer.content


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1000, "completion_tokens": 5},
        {"prompt_tokens": 3, "completion_tokens": -(10**12)},
        {"prompt_tokens": 3, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": -7}},
        {"prompt_tokens": 10**18, "completion_tokens": 5},
        [1, 2],
    ],
    ids=["input", "output", "cached", "huge", "a list"],
)
async def test_no_report_puts_money_into_a_wallet(tmp_path: Path, usage: Any) -> None:
    async with running(tmp_path) as (sluice, upstream):
        answer = chat("Hello there", usage=None)
        body = (
            answer.body[:-1] + b', "usage": ' + httpx2.Request("POST", "http://x", json=usage).content + b"}"
        )
        upstream.reply(text(body, content_type="application/json"))
        assert (await ask(sluice)).status_code == 200
        assert sluice.records[0].billing is Billing.ESTIMATED
        assert spent(sluice) == ESTIMATE


# -- time


SLOW = {
    "no answer": (hang(), "upstream_first_byte_timeout", {"first_byte_s": 0.1}),
    "half of the headers": (chat().cut(40, End.HANG), "upstream_first_byte_timeout", {"first_byte_s": 0.1}),
    "half of the body": (chat().cut(150, End.HANG), "upstream_idle_timeout", {"idle_s": 0.1}),
    "too long": (hang(), "upstream_total_timeout", {"total_s": 0.1}),
}


@pytest.mark.parametrize(("reply", "code", "seconds"), SLOW.values(), ids=SLOW.keys())
async def test_a_provider_that_is_silent(
    tmp_path: Path, reply: Reply, code: str, seconds: dict[str, float]
) -> None:
    async with running(tmp_path, timeouts=TIMEOUTS | seconds) as (sluice, upstream):
        upstream.reply(reply)
        answer = await ask(sluice)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, code)
        (record,) = sluice.records
        assert (record.billing, record.finish, spent(sluice)) == (Billing.VOID, Finish.TIMEOUT, 0)
        assert len(upstream.requests) == 1
        await upstream.all_closed()


# -- nothing is left behind


async def test_faults_leave_neither_tasks_nor_descriptors(tmp_path: Path) -> None:
    async with running(tmp_path) as (sluice, upstream):
        # Breakers would spare the provider; each round is to reach it.
        providers = sluice.app.gateway.services.router.fleet
        replies = [FAULTS[name].reply for name in ("garbage", "JSON cut", "headers cut", "nothing", "500")]
        replies += [half for half, _, _ in LATE.values() if half.end is not End.HANG]

        async def round_of_faults() -> None:
            for stream in (False, True):
                for reply in replies:
                    providers.reset("up")
                    upstream.reply(reply)
                    await ask(sluice, stream=stream)
            await ask(sluice)

        await round_of_faults()
        tasks, descriptors = len(asyncio.all_tasks()), open_descriptors()
        for _ in range(3):
            await round_of_faults()
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        await upstream.until(lambda: upstream.open_connections <= 1)
        await eventually(lambda: open_descriptors() <= descriptors)
        assert sluice.app.gateway.services.client.open_connections <= 1
