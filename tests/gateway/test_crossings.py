"""What goes wrong, or is late, between a client and a provider, in every dialect."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.core.entities import Billing, Finish
from proxy.gateway.delivery import KEEP_ALIVE_NS
from proxy.gateway.exchange import Exchange
from tests.support.clients import MESSAGES
from tests.support.gateway import Sluice, gateway
from tests.support.replies import (
    End,
    Reply,
    chat,
    chat_chunk,
    chat_stream,
    error,
    event_frame,
    json_reply,
    message_stream,
    sse,
)
from tests.support.upstream import Upstream

CHAT: dict[str, Any] = {}
DEEPSEEK = {"preset": "deepseek", "api_key": "sk-up"}
MESSAGES_ONLY = {"protocol": "anthropic", "base_url": "ORIGIN", "api_key": "sk-up"}
RESPONSES = {"responses_base_url": "ORIGIN/v1"}
CALLS = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": MESSAGES, "tools": TOOLS},
    "messages": {"messages": MESSAGES, "max_tokens": 50},
    "responses": {"input": "Hi"},
}
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
ONLY_STREAMS = "This model only support stream mode"
RESPONSE = {"id": "resp_1", "object": "response", "model": "um", "output": [], "metadata": {"a": "b"}}
RESPONSE_EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "sequence_number": 4, "response": {**RESPONSE, "status": "in_progress"}},
    {"type": "response.output_text.delta", "sequence_number": 5, "delta": "Hel"},
    {"type": "response.completed", "sequence_number": 6, "response": {**RESPONSE, "status": "completed"}},
]


@asynccontextmanager
async def running(tmp_path: Path, **provider: Any) -> AsyncIterator[tuple[Upstream, Sluice]]:
    async with Upstream() as upstream:
        settings = {"base_url": upstream.url, **provider}
        for name, value in settings.items():
            settings[name] = value.replace("ORIGIN", upstream.origin) if isinstance(value, str) else value
        models = {"m": {"routes": ["up/um"]}}
        async with gateway(tmp_path, providers={"up": settings}, models=models) as sluice:
            yield upstream, sluice


async def ask(sluice: Sluice, path: str = "chat/completions", **body: Any) -> httpx2.Response:
    return await sluice.http.post(f"/v1/{path}", json={"model": "m", **BODIES[path], **body})


def response_stream() -> Reply:
    return sse(*map(event_frame, RESPONSE_EVENTS))


def be_silent(sluice: Sluice) -> None:
    """Let the time pass after which a stream gets a keep-alive."""
    (exchange,) = sluice.app.gateway._running
    exchange._delivery._last_sent_ns = -KEEP_ALIVE_NS
    exchange.tick(0)


@pytest.mark.parametrize(
    ("path", "provider", "reply", "expected", "last"),
    [
        ("chat/completions", CHAT, chat_stream("Hel", "lo"), b": keep-alive\n\n", b"[DONE]"),
        ("chat/completions", DEEPSEEK, chat_stream("Hel", "lo"), b": keep-alive\n\n", b"[DONE]"),
        ("chat/completions", MESSAGES_ONLY, message_stream("Hel", "lo"), b": keep-alive\n\n", b"[DONE]"),
        ("messages", MESSAGES_ONLY, message_stream("Hel", "lo"), PING, b"message_stop"),
        ("messages", CHAT, chat_stream("Hel", "lo"), PING, b"message_stop"),
        (
            "responses",
            RESPONSES,
            response_stream(),
            b'event: keepalive\ndata: {"type":"keepalive","sequence_number":5}\n\n',
            b"response.completed",
        ),
        (
            "responses",
            CHAT,
            chat_stream("Hel", "lo"),
            b"event: response.in_progress\n",
            b"response.completed",
        ),
    ],
)
async def test_a_silent_provider(
    tmp_path: Path, path: str, provider: dict[str, Any], reply: Reply, expected: bytes, last: bytes
) -> None:
    async with running(tmp_path, **provider) as (upstream, sluice):
        first = next(number for number, part in enumerate(reply.parts) if b"Hel" in part)  # type: ignore[operator]
        reply = reply.gated()
        upstream.reply(reply)
        for gate in reply.gates[: first + 1]:
            gate.open()
        body = {"model": "m", **BODIES[path], "stream": True}
        async with sluice.http.stream("POST", f"/v1/{path}", json=body) as answer:
            chunks = answer.aiter_raw()
            seen = b""
            while b"Hel" not in seen:
                seen += await anext(chunks)
            be_silent(sluice)
            late = b""
            while expected not in late:
                late += await anext(chunks)
            assert late.startswith(expected)
            reply.open_all()
            rest = b"".join([chunk async for chunk in chunks])
        assert last in rest
        assert expected not in rest
        assert sluice.records[0].finish is Finish.OK


async def test_content_after_a_keep_alive_tells_that_the_provider_works(tmp_path: Path) -> None:
    async with running(tmp_path, **CHAT) as (upstream, sluice):
        reply = chat_stream("Hello", "there").gated()
        upstream.reply(reply)
        asking = asyncio.create_task(ask(sluice, stream=True))
        await upstream.received(1)
        exchange: Exchange = next(iter(sluice.app.gateway._running))
        async with asyncio.timeout(20):
            while exchange._delivery._response is None:
                await asyncio.sleep(0)
            be_silent(sluice)
            while not exchange._sink.started:
                await asyncio.sleep(0)
            assert not exchange._delivery._is_answered
            for gate in reply.gates[:2]:  # a role, and the first word
                gate.open()
            while not exchange._delivery._is_answered:
                await asyncio.sleep(0)
        assert not exchange.finished.done()
        reply.open_all()
        assert "[DONE]" in (await asking).text


@pytest.mark.parametrize(
    ("path", "provider", "reply"),
    [("chat/completions", CHAT, chat_stream("Hello")), ("responses", RESPONSES, response_stream())],
)
async def test_a_keep_alive_before_any_content_commits_the_answer(
    tmp_path: Path, path: str, provider: dict[str, Any], reply: Reply
) -> None:
    async with running(tmp_path, **provider) as (upstream, sluice):
        upstream.reply(reply.gated())
        asking = asyncio.create_task(ask(sluice, path, stream=True))
        await upstream.received(1)
        exchange: Exchange = next(iter(sluice.app.gateway._running))
        async with asyncio.timeout(20):
            while exchange._delivery._response is None:
                await asyncio.sleep(0)
            be_silent(sluice)
            while not exchange._sink.started:
                await asyncio.sleep(0)
        upstream.close_links()
        answer = await asking
        assert answer.status_code == 200
        keep_alive, _, failed = answer.text.partition("\n\n")
        assert keep_alive == ": keep-alive"
        assert "upstream_stream_truncated" in failed
        assert sluice.records[0].billing is Billing.VOID


# -- failures in the middle of a stream

OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
NO_BALANCE = {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}
NETWORK = chat_chunk({}, finish="network_error")
SAID = chat_chunk({"content": "Hel"})


def broken(reply: Reply, parts: int, *more: object) -> Reply:
    """Return a stream of so many parts of another, then others."""
    return sse(*reply.parts[:parts], *more)


@pytest.mark.parametrize(
    ("path", "provider", "reply", "code"),
    [
        ("messages", MESSAGES_ONLY, message_stream("Hel").broken(3, End.CLOSE), "upstream_stream_truncated"),
        ("messages", MESSAGES_ONLY, broken(message_stream("Hel"), 3), "upstream_stream_truncated"),
        ("messages", MESSAGES_ONLY, broken(message_stream("Hel"), 3, OVERLOADED), "upstream_error"),
        ("messages", CHAT, sse(SAID, NO_BALANCE), "upstream_quota_exhausted"),
        ("messages", CHAT, sse(SAID, NETWORK), "upstream_error"),
        ("chat/completions", MESSAGES_ONLY, broken(message_stream("Hel"), 3, OVERLOADED), "upstream_error"),
        ("chat/completions", CHAT, sse(SAID, NO_BALANCE), "upstream_quota_exhausted"),
        ("responses", RESPONSES, broken(response_stream(), 2), "upstream_stream_truncated"),
        ("responses", RESPONSES, broken(response_stream(), 2, OVERLOADED), "upstream_error"),
        ("responses", CHAT, sse(SAID, NO_BALANCE), "upstream_quota_exhausted"),
    ],
)
async def test_failures_after_content(
    tmp_path: Path, path: str, provider: dict[str, Any], reply: Reply, code: str
) -> None:
    async with running(tmp_path, **provider) as (upstream, sluice):
        upstream.reply(reply)
        answer = await ask(sluice, path, stream=True)
        assert answer.status_code == 200
        *before, last = answer.text.strip().split("\n\n")
        event = json.loads(last.partition("data: ")[2])
        told = event["response"]["error"] if path == "responses" else event["error"]
        assert told["code"] == code
        assert event.get("type") == {"messages": "error", "responses": "response.failed"}.get(path)
        assert "Hel" in "".join(before)
        assert '"finish_reason":"network_error"' not in answer.text
        (record,) = sluice.records
        assert (record.billing, record.error_code) == (Billing.ESTIMATED, code)
        if provider is RESPONSES:
            assert event["sequence_number"] == 6
            assert event["response"] == {**RESPONSE, "status": "failed", "error": told}


@pytest.mark.parametrize(
    ("path", "provider", "reply", "status"),
    [
        ("messages", MESSAGES_ONLY, sse(event_frame(OVERLOADED)), 502),
        ("messages", CHAT, sse(NO_BALANCE), 503),
        ("chat/completions", MESSAGES_ONLY, sse(event_frame(OVERLOADED)), 502),
        ("responses", RESPONSES, sse(event_frame(OVERLOADED)), 502),
        ("responses", CHAT, sse(NETWORK), 502),
    ],
)
async def test_failures_before_content_have_a_true_status(
    tmp_path: Path, path: str, provider: dict[str, Any], reply: Reply, status: int
) -> None:
    async with running(tmp_path, **provider) as (upstream, sluice):
        upstream.always(reply)
        assert (await ask(sluice, path, stream=True)).status_code == status
        assert sluice.records[0].billing is Billing.VOID


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_cannot_be_translated(tmp_path: Path, stream: bool) -> None:
    async with running(tmp_path) as (upstream, sluice):
        upstream.always(json_reply(["Hello"]))
        answer = await ask(sluice, "messages", stream=stream)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_invalid_response")


async def test_an_end_that_is_not_utf8_is_passed_on(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        end = b'data: {"choices":[{"index":0,"delta":{"content":"\xff"},"finish_reason":"stop"}]}\n\n'
        upstream.reply(sse(SAID, end, "[DONE]"))
        answer = await ask(sluice, stream=True)
        assert answer.content.endswith(end + b"data: [DONE]\n\n")
        assert sluice.records[0].finish is Finish.OK


async def test_half_an_emoji_crosses_a_mended_stream(tmp_path: Path) -> None:
    async with running(tmp_path, repair=["missing_done"]) as (upstream, sluice):
        half = b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n'
        upstream.reply(sse(SAID, half, b"data: nonsense\n\n"))
        answer = await ask(sluice, stream=True)
        assert '"\\ud83d"' in answer.text
        assert "nonsense" not in answer.text
        assert answer.text.endswith("data: [DONE]\n\n")  # what says no end ends here all the same


HALF = (
    rb'{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi \ud83d"},"finish_reason":"stop"}],'
)
HALF += b'"usage":{"prompt_tokens":3,"completion_tokens":4}}'


@pytest.mark.parametrize("repair", [[], ["think_tags"]])
@pytest.mark.parametrize("path", ["chat/completions", "messages"])
async def test_half_an_emoji_crosses_in_a_whole_answer(tmp_path: Path, path: str, repair: list[str]) -> None:
    async with running(tmp_path, repair=repair) as (upstream, sluice):
        upstream.reply(Reply(headers=(("content-type", "application/json"),), parts=(HALF,)))
        answer = await ask(sluice, path)
        assert answer.status_code == 200
        if path == "chat/completions" and not repair:
            assert answer.content == HALF
        else:
            assert "Hi \ufffd" in answer.text
        (record,) = sluice.records
        assert (record.usage.input_tokens, record.usage.output_tokens) == (3, 4)
        assert record.billing is Billing.SETTLED


@pytest.mark.parametrize("end", [["[DONE]"], []])
async def test_what_may_have_been_a_tag_is_not_lost(tmp_path: Path, end: list[str]) -> None:
    async with running(tmp_path, repair=["think_tags", "missing_done"]) as (upstream, sluice):
        upstream.reply(sse(chat_chunk({"content": "<thi"}), *end))
        answer = await ask(sluice, stream=True)
        assert '"content":"<thi"' in answer.text


# -- what is learnt about a provider


@pytest.mark.parametrize(
    ("stream", "refusal"), [(True, "stream_options is not permitted"), (False, ONLY_STREAMS)]
)
async def test_requests_that_are_refused_together_are_asked_again_together(
    tmp_path: Path, stream: bool, refusal: str
) -> None:
    async with running(tmp_path) as (upstream, sluice):
        refusals = [error(400, refusal).gated() for _ in range(2)]
        upstream.reply(*refusals)
        asking = [asyncio.create_task(ask(sluice, stream=stream)) for _ in refusals]
        await upstream.received(2)
        for each in refusals:
            each.open_all()
        assert [(await each).status_code for each in asking] == [200, 200]
        assert len(upstream.requests) == 4


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (chat_stream("Hello").broken(2, End.CLOSE), None),
        (broken(chat_stream("Hello"), 2), "upstream_stream_truncated"),
        (sse(SAID, NO_BALANCE), "upstream_quota_exhausted"),
    ],
)
async def test_a_broken_stream_is_no_whole_answer(tmp_path: Path, reply: Reply, code: str | None) -> None:
    async with running(tmp_path) as (upstream, sluice):
        upstream.reply(error(400, ONLY_STREAMS), reply)
        answer = await ask(sluice)
        assert answer.status_code >= 500
        assert code in (None, answer.json()["error"]["code"])
        assert sluice.records[0].billing is Billing.VOID


async def test_a_messages_stream_is_put_together(tmp_path: Path) -> None:
    async with running(tmp_path, **MESSAGES_ONLY) as (upstream, sluice):
        upstream.reply(error(400, ONLY_STREAMS), message_stream("Hel", "lo"))
        answer = await ask(sluice)
        assert answer.status_code == 200
        assert upstream.requests[-1].json["stream"] is True
        (choice,) = answer.json()["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "stop")
        assert sluice.records[0].billing is Billing.SETTLED


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (chat("Hello"), 200, None),
        (json_reply(NO_BALANCE), 503, "upstream_quota_exhausted"),
        (json_reply([{"error": {"message": "slow", "code": 429}}]), 429, "upstream_rate_limited"),
    ],
)
async def test_json_where_a_stream_was_to_be_put_together(
    tmp_path: Path, reply: Reply, status: int, code: str | None
) -> None:
    async with running(tmp_path) as (upstream, sluice):
        upstream.reply(error(400, ONLY_STREAMS))
        upstream.always(reply)
        answer = await ask(sluice)
        assert answer.json().get("error", {}).get("code") == code
        assert answer.status_code == status
        if code is None:
            assert answer.json()["choices"][0]["message"]["content"] == "Hello"


@pytest.mark.parametrize("way", ["streamed", "put together"])
@pytest.mark.parametrize("demands", [True, False])
async def test_thoughts_in_streams_come_back(tmp_path: Path, way: str, demands: bool) -> None:
    async with running(tmp_path, **(DEEPSEEK if demands else CHAT)) as (upstream, sluice):
        deltas: list[dict[str, object]] = [
            {"reasoning_content": "I need"},
            {"reasoning_content": " f."},
            {"tool_calls": CALLS},
        ]
        reply = sse(*map(chat_chunk, deltas), chat_chunk({}, finish="tool_calls"), "[DONE]")
        if way == "put together":
            upstream.reply(error(400, ONLY_STREAMS), reply)
            await ask(sluice)
        else:
            upstream.reply(reply)
            await ask(sluice, stream=True)
        upstream.always(chat_stream("42") if way == "put together" else chat("42"))
        said = {"role": "assistant", "content": None, "tool_calls": CALLS}
        result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
        assert (await ask(sluice, messages=[*MESSAGES, said, result])).status_code == 200
        sent = upstream.requests[-1].json["messages"][1]
        assert sent.get("reasoning_content") == ("I need f." if demands else None)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (json_reply({"input_tokens": 77}), 200),
        (error(400, "no such block"), 400),
        (error(404, "no such path"), 200),
        (error(429, "slow"), 200),
        (json_reply({"tokens": 1}), 200),
    ],
)
async def test_a_provider_that_counts_tokens(tmp_path: Path, reply: Reply, status: int) -> None:
    async with running(tmp_path, **MESSAGES_ONLY) as (upstream, sluice):
        upstream.reply(reply)
        body = {"model": "m", "messages": MESSAGES}
        answer = await sluice.http.post("/v1/messages/count_tokens", json=body)
        assert answer.status_code == status
        counted = 77 if b"77" in reply.body else 9  # by the estimate
        assert answer.json().get("input_tokens") == (counted if status == 200 else None)
        assert upstream.requests[0].target == "/v1/messages/count_tokens"
        assert upstream.requests[0].json == body | {"model": "um"}
        assert not sluice.records


DOCUMENT = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}


async def test_what_one_route_cannot_be_told_goes_to_the_next(tmp_path: Path) -> None:
    async with Upstream() as upstream:
        providers = {
            "chat": {"base_url": upstream.url},
            "claude": {"protocol": "anthropic", "base_url": upstream.origin, "api_key": "sk-up"},
        }
        models = {"m": {"routes": ["chat/um", "claude/um"]}, "alone": {"routes": ["chat/um"]}}
        async with gateway(tmp_path, providers=providers, models=models) as sluice:
            said = [{"role": "user", "content": [DOCUMENT]}]
            answer = await ask(sluice, "messages", messages=said)
            assert (answer.status_code, answer.headers["x-sluice-provider"]) == (200, "claude")
            assert (await ask(sluice, "messages", messages=said, model="alone")).status_code == 400
            assert len(sluice.records) == 1


@pytest.mark.parametrize(("asked", "budget"), [(64000, 4096), (8193, 4096), (8192, 31999)])
async def test_a_budget_for_thoughts_fits_what_is_left_of_the_length(
    tmp_path: Path, asked: int, budget: int
) -> None:
    async with Upstream() as upstream:
        providers = {"up": {"protocol": "anthropic", "base_url": upstream.origin, "api_key": "sk-up"}}
        models = {"m": {"routes": ["up/um"], "max_output": 8192}}
        async with gateway(tmp_path, providers=providers, models=models) as sluice:
            thinking = {"type": "enabled", "budget_tokens": 31999}
            await ask(sluice, "messages", max_tokens=asked, thinking=thinking)
            sent = upstream.requests[0].json
            assert sent["max_tokens"] == 8192
            assert sent["thinking"]["budget_tokens"] == budget


def call_and_result(path: str, answer: httpx2.Response, *, streamed: bool) -> list[dict[str, Any]]:
    """Return the call in an answer, as a client that keeps no thoughts repeats it, and its result."""
    if not streamed:
        found = answer.json()["content" if path == "messages" else "output"]
    else:
        lines = [line for line in answer.text.splitlines() if line.startswith("data: {")]
        events = [json.loads(line.removeprefix("data: ")) for line in lines]
        found = [event.get("content_block") or event.get("item") or {} for event in events]
    if path == "messages":
        (use,) = [block for block in found if block.get("type") == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": use["id"], "content": "42"}
        return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    call = [item for item in found if item.get("type") == "function_call"][-1]
    return [call, {"type": "function_call_output", "call_id": call["call_id"], "output": "42"}]


@pytest.mark.parametrize("path", ["messages", "responses"])
@pytest.mark.parametrize("way", ["streamed", "whole", "put together"])
@pytest.mark.parametrize("id", ["call_0", "call_Xy12ab", ""])
async def test_thoughts_come_back_for_clients_of_other_dialects(
    tmp_path: Path, path: str, way: str, id: str
) -> None:
    calls = [CALLS[0] | {"id": id}]
    deltas: list[dict[str, object]] = [{"reasoning_content": "I need f."}, {"tool_calls": calls}]
    stream = sse(*map(chat_chunk, deltas), chat_chunk({}, finish="tool_calls"), "[DONE]")
    async with running(tmp_path, **DEEPSEEK) as (upstream, sluice):
        if way == "put together":
            upstream.reply(error(400, ONLY_STREAMS), stream)
        elif way == "streamed":
            upstream.reply(stream)
        else:
            upstream.reply(chat("", finish="tool_calls", reasoning_content="I need f.", tool_calls=calls))
        answer = await ask(sluice, path, stream=way == "streamed")
        assert answer.status_code == 200
        upstream.always(chat_stream("42") if way == "put together" else chat("42"))
        turns = [*MESSAGES, *call_and_result(path, answer, streamed=way == "streamed")]
        again = await ask(sluice, path, **{"input" if path == "responses" else "messages": turns})
        assert again.status_code == 200
        assert upstream.requests[-1].json["messages"][1]["reasoning_content"] == "I need f."


async def test_ids_that_merely_count_do_not_mix_up_the_thoughts_of_a_messages_client(tmp_path: Path) -> None:
    calls = [CALLS[0] | {"id": "call_0"}]
    async with running(tmp_path, **DEEPSEEK) as (upstream, sluice):
        turns: list[dict[str, Any]] = [*MESSAGES]
        for thoughts in ("first", "second"):
            upstream.reply(chat("", finish="tool_calls", reasoning_content=thoughts, tool_calls=calls))
            turns += call_and_result(
                "messages", await ask(sluice, "messages", messages=turns), streamed=False
            )
        upstream.reply(chat("42"))
        await ask(sluice, "messages", messages=turns)
        sent = upstream.requests[-1].json["messages"]
        assert [each["reasoning_content"] for each in sent if each["role"] == "assistant"] == [
            "first",
            "second",
        ]


@pytest.mark.parametrize("path", ["messages", "messages/count_tokens"])
async def test_thoughts_that_nobody_signed_stay_here(tmp_path: Path, path: str) -> None:
    async with running(tmp_path, **MESSAGES_ONLY) as (upstream, sluice):
        thought = {"type": "thinking", "thinking": "hm", "signature": ""}
        text = {"type": "text", "text": "Hi"}
        said = [*MESSAGES, {"role": "assistant", "content": [thought, text]}, *MESSAGES]
        body = {"model": "up/claude-opus-5", "max_tokens": 50, "messages": said}
        await sluice.http.post(f"/v1/{path}", json=body)
        assert upstream.requests[0].json["messages"][1]["content"] == [text]
