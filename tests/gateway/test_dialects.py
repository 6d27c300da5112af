"""Every client dialect against every kind of provider, through a whole gateway, with the official SDKs."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from proxy.core.entities import Billing, Finish
from tests.support.clients import MESSAGES
from tests.support.gateway import API_KEY, Sluice, gateway
from tests.support.replies import (
    End,
    chat,
    chat_stream,
    error,
    event_frame,
    json_reply,
    message,
    message_stream,
    sse,
)
from tests.support.upstream import Upstream

PRICE = {"input": 2, "output": 8, "cached_input": 0.2, "per": "1M"}


@asynccontextmanager
async def running(tmp_path: Path, **provider: Any) -> AsyncIterator[tuple[Upstream, Sluice]]:
    """Run a gateway whose model `m` is served by one provider; by default it speaks chat alone."""
    async with Upstream() as upstream:
        settings: dict[str, Any] = {"base_url": upstream.url, **provider}
        for name, value in list(settings.items()):
            if isinstance(value, str):
                settings[name] = value.replace("ORIGIN", upstream.origin)
        async with gateway(
            tmp_path, providers={"up": settings}, models={"m": {"routes": ["up/um"], "price": PRICE}}
        ) as sluice:
            yield upstream, sluice


CHAT: dict[str, Any] = {}
MESSAGES_ONLY = {"protocol": "anthropic", "base_url": "ORIGIN", "api_key": "sk-up"}
BOTH = {"messages_base_url": "ORIGIN"}
RESPONSES = {"responses_base_url": "ORIGIN/v1"}


def claude(sluice: Sluice) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=sluice.url, api_key=API_KEY, max_retries=0)


def gpt(sluice: Sluice) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=sluice.url + "/v1", api_key=API_KEY, max_retries=0)


def receipt(sluice: Sluice) -> tuple[Billing, Finish, int, int]:
    (record,) = sluice.records
    return record.billing, record.finish, record.usage.input_tokens, record.usage.output_tokens


SETTLED = (Billing.SETTLED, Finish.OK, 3, 5)


# -- Messages clients


@pytest.mark.parametrize("provider", [CHAT, MESSAGES_ONLY, BOTH], ids=["chat", "messages", "both"])
async def test_messages(tmp_path: Path, provider: dict[str, Any]) -> None:
    async with running(tmp_path, **provider) as (upstream, sluice), claude(sluice) as client:
        answer = await client.messages.create(model="m", max_tokens=50, messages=MESSAGES)  # type: ignore[arg-type]
        assert answer.content[0].text == "Hello"  # type: ignore[union-attr]
        assert (answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens) == (
            "end_turn",
            3,
            5,
        )
        assert receipt(sluice) == SETTLED
        native = upstream.requests[0].target.startswith("/v1/messages")
        assert native == (provider is not CHAT)
        assert answer.model == ("upstream-model" if native else "m")


@pytest.mark.parametrize("provider", [CHAT, MESSAGES_ONLY], ids=["chat", "messages"])
async def test_messages_streamed(tmp_path: Path, provider: dict[str, Any]) -> None:
    async with running(tmp_path, **provider) as (_, sluice), claude(sluice) as client:
        async with client.messages.stream(model="m", max_tokens=50, messages=MESSAGES) as stream:  # type: ignore[arg-type]
            text = "".join([piece async for piece in stream.text_stream])
            final = await stream.get_final_message()
        assert text == "Hello"
        assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 3, 5)
        assert receipt(sluice) == SETTLED


async def test_a_native_messages_stream_passes_byte_for_byte(tmp_path: Path) -> None:
    async with running(tmp_path, **MESSAGES_ONLY) as (upstream, sluice):
        reply = message_stream("Hel", "lo \u2028")
        upstream.reply(reply)
        body = (
            b'{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hi"}],'
            b'"thinking":{"type":"adaptive"},"x_new":[1, 2.0]}'
        )
        answer = await sluice.http.post(
            "/v1/messages?beta=true",
            content=body,
            headers={
                "content-type": "application/json",
                "anthropic-version": "2026-10-21",
                "anthropic-beta": "a-1,b-2",
                "x-other": "x",
            },
        )
        assert answer.content == reply.body
        request = upstream.requests[0]
        assert request.body == body.replace(b'"model":"m"', b'"model":"um"')
        assert request.target == "/v1/messages?beta=true"
        assert request.header("anthropic-version") == "2026-10-21"
        assert request.header("anthropic-beta") == "a-1,b-2"
        assert request.header("x-api-key") == "sk-up"
        assert request.header("x-other") is None


async def test_messages_tools_over_chat(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice), claude(sluice) as client:
        calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
        upstream.reply(chat("", finish="tool_calls", tool_calls=calls))
        tools: list[Any] = [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]
        first = await client.messages.create(model="m", max_tokens=50, messages=MESSAGES, tools=tools)  # type: ignore[arg-type]
        (call,) = first.content
        assert (call.type, call.name, call.input) == ("tool_use", "f", {"a": 1})  # type: ignore[union-attr]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "42"}  # type: ignore[union-attr]
        messages: list[Any] = [
            *MESSAGES,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ]
        upstream.reply(chat("It is 42"))
        second = await client.messages.create(model="m", max_tokens=50, messages=messages, tools=tools)
        assert second.content[0].text == "It is 42"  # type: ignore[union-attr]
        sent = upstream.requests[1].json["messages"]
        assert [item["role"] for item in sent] == ["user", "assistant", "tool"]
        assert sent[2] == {"role": "tool", "tool_call_id": sent[1]["tool_calls"][0]["id"], "content": "42"}


@pytest.mark.parametrize("provider", [CHAT, MESSAGES_ONLY], ids=["chat", "messages"])
async def test_count_tokens_is_free(tmp_path: Path, provider: dict[str, Any]) -> None:
    async with running(tmp_path, **provider) as (upstream, sluice), claude(sluice) as client:
        upstream.always(json_reply({"input_tokens": 77}))
        counted = await client.messages.count_tokens(model="m", messages=MESSAGES)  # type: ignore[arg-type]
        assert counted.input_tokens == 77 if provider else counted.input_tokens in range(3, 20)
        assert not sluice.records


async def test_messages_errors_are_anthropics(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice), claude(sluice) as client:
        with pytest.raises(anthropic.NotFoundError, match="There is no model"):
            await client.messages.create(model="nothing", max_tokens=5, messages=MESSAGES)  # type: ignore[arg-type]
        upstream.reply(error(400, "temperature is too hot"))
        with pytest.raises(anthropic.BadRequestError, match="too hot"):
            await client.messages.create(model="m", max_tokens=5, messages=MESSAGES)  # type: ignore[arg-type]
        upstream.reply(chat_stream("Hel", "lo").broken(2, End.CLOSE))
        with pytest.raises(anthropic.APIStatusError, match="closed"):
            async with client.messages.stream(model="m", max_tokens=5, messages=MESSAGES) as stream:  # type: ignore[arg-type]
                _ = [piece async for piece in stream.text_stream]


# -- Responses clients


@pytest.mark.parametrize("provider", [CHAT, MESSAGES_ONLY], ids=["chat", "messages"])
async def test_responses(tmp_path: Path, provider: dict[str, Any]) -> None:
    async with running(tmp_path, **provider) as (_, sluice), gpt(sluice) as client:
        answer = await client.responses.create(model="m", input="Say hello", instructions="Be brief")
        assert (answer.output_text, answer.status, answer.model) == ("Hello", "completed", "m")
        assert answer.usage is not None
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 5)
        assert receipt(sluice) == SETTLED


@pytest.mark.parametrize("provider", [CHAT, MESSAGES_ONLY], ids=["chat", "messages"])
async def test_responses_streamed(tmp_path: Path, provider: dict[str, Any]) -> None:
    async with running(tmp_path, **provider) as (_, sluice), gpt(sluice) as client:
        async with client.responses.stream(model="m", input="Say hello") as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        assert final.output_text == "Hello"
        assert events[-1].type == "response.completed"
        assert receipt(sluice) == SETTLED


async def test_native_responses(tmp_path: Path) -> None:
    async with running(tmp_path, **RESPONSES) as (upstream, sluice):
        response = {
            "id": "resp_1",
            "object": "response",
            "status": "completed",
            "output": [],
            "usage": {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8},
        }
        events = [
            {
                "type": "response.created",
                "sequence_number": 0,
                "response": {**response, "status": "in_progress"},
            },
            {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Hello"},
            {"type": "response.completed", "sequence_number": 2, "response": response},
        ]
        reply = sse(*map(event_frame, events))
        upstream.reply(reply, json_reply(response))
        body = {"model": "m", "input": "Hi", "store": False}
        streamed = await sluice.http.post("/v1/responses", json=body | {"stream": True})
        assert streamed.content == reply.body
        whole = await sluice.http.post("/v1/responses", json=body)
        assert whole.json() == response
        assert [record.usage.output_tokens for record in sluice.records] == [5, 5]
        assert upstream.requests[0].target == "/v1/responses"
        assert upstream.requests[0].json == body | {"model": "um", "stream": True}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_not_supported"),
        ({"conversation": "conv_1"}, "previous_response_not_supported"),
        ({"background": True}, "invalid_value"),
        ({"prompt": {"id": "pmpt_1"}}, "invalid_value"),
    ],
)
@pytest.mark.parametrize("provider", [CHAT, RESPONSES], ids=["chat", "responses"])
async def test_nothing_is_stored(
    tmp_path: Path, body: dict[str, Any], code: str, provider: dict[str, Any]
) -> None:
    async with running(tmp_path, **provider) as (upstream, sluice):
        answer = await sluice.http.post("/v1/responses", json={"model": "m", "input": "Hi", **body})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        assert not upstream.requests


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
    ],
)
async def test_stored_responses_are_not_found(tmp_path: Path, method: str, path: str) -> None:
    async with running(tmp_path) as (_, sluice):
        answer = await sluice.http.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_failed_responses_stream_ends_with_a_failed_response(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        upstream.reply(chat_stream("Hel", "lo").broken(2, End.CLOSE))
        answer = await sluice.http.post("/v1/responses", json={"model": "m", "input": "Hi", "stream": True})
        frames = answer.text.strip().split("\n\n")
        last = json.loads(frames[-1].partition("data: ")[2])
        assert frames[-1].startswith("event: response.failed\n")
        assert last["sequence_number"] == len(frames) - 1
        assert last["response"]["error"]["code"] == "upstream_stream_truncated"


# -- Chat clients


async def test_chat_over_messages(tmp_path: Path) -> None:
    async with running(tmp_path, **MESSAGES_ONLY) as (upstream, sluice), gpt(sluice) as client:
        whole = await client.chat.completions.create(model="m", messages=MESSAGES)  # type: ignore[arg-type]
        assert (whole.choices[0].message.content, whole.model) == ("Hello", "m")
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)  # type: ignore[arg-type,call-overload]
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Hello"
        assert upstream.requests[0].json["max_tokens"] == 4096
        assert [record.usage.output_tokens for record in sluice.records] == [5, 5]


async def test_cursors_shape(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        body = {"model": "m", "input": [{"role": "user", "content": "Hi"}], "stream": True}
        answer = await sluice.http.post("/v1/chat/completions", json=body)
        assert answer.content.endswith(b"data: [DONE]\n\n")
        assert b'"content":"Hel"' in answer.content
        assert upstream.requests[0].json["messages"] == [{"role": "user", "content": "Hi"}]


# -- what every translation keeps


async def test_a_translated_exchange_costs_what_the_native_one_costs(tmp_path: Path) -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 40},
    }
    native_usage = {"input_tokens": 60, "output_tokens": 20, "cache_read_input_tokens": 40}
    costs = []
    for provider, reply in ((CHAT, chat("x", usage=usage)), (MESSAGES_ONLY, None)):
        directory = tmp_path / str(len(costs))
        directory.mkdir()
        async with running(directory, **provider) as (upstream, sluice):
            if reply is None:
                whole = json.loads(message("x").body)
                reply = json_reply({**whole, "usage": native_usage})
            upstream.reply(reply)
            body = {"model": "m", "max_tokens": 50, "messages": MESSAGES}
            answer = await sluice.http.post("/v1/messages", json=body)
            costs.append(answer.headers["x-sluice-cost"])
            assert answer.json()["usage"]["input_tokens"] == 60
            assert answer.json()["usage"]["cache_read_input_tokens"] == 40
    assert costs[0] == costs[1] == "0.000288000"


async def test_repairs(tmp_path: Path) -> None:
    async with running(tmp_path, repair=["think_tags"]) as (upstream, sluice):
        upstream.reply(chat_stream("<think>h", "m</think>", "Hi"), chat("<think>hm</think>Hi"))
        body = {"model": "m", "messages": MESSAGES}
        streamed = await sluice.http.post("/v1/chat/completions", json=body | {"stream": True})
        deltas = [
            json.loads(line[6:])["choices"][0]["delta"]
            for line in streamed.text.split("\n\n")
            if line.startswith("data: {")
        ]
        assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "hm"
        assert "".join(delta.get("content") or "" for delta in deltas) == "Hi"
        whole = (await sluice.http.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
        assert (whole["content"], whole["reasoning_content"]) == ("Hi", "hm")


async def test_reasoning_comes_back_with_the_calls_that_it_led_to(tmp_path: Path) -> None:
    async with running(tmp_path, preset="deepseek", api_key="sk-up") as (upstream, sluice):
        calls = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        upstream.reply(chat("", finish="tool_calls", tool_calls=calls, reasoning_content="I need f."))
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
        body: dict[str, Any] = {"model": "m", "messages": MESSAGES, "tools": tools}
        await sluice.http.post("/v1/chat/completions", json=body)
        body["messages"] = [
            *MESSAGES,
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "call_1", "content": "42"},
        ]
        await sluice.http.post("/v1/chat/completions", json=body)
        assert upstream.requests[1].json["messages"][1]["reasoning_content"] == "I need f."


async def test_stream_options_refused_are_not_sent_again(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        upstream.reply(error(400, "Unrecognized request argument supplied: stream_options"))
        body = {"model": "m", "messages": MESSAGES, "stream": True}
        assert (await sluice.http.post("/v1/chat/completions", json=body)).status_code == 200
        assert (await sluice.http.post("/v1/chat/completions", json=body)).status_code == 200
        assert ["stream_options" in request.json for request in upstream.requests] == [True, False, False]
        assert len(sluice.records) == 2


async def test_a_model_that_only_streams_is_streamed_and_put_together(tmp_path: Path) -> None:
    async with running(tmp_path) as (upstream, sluice):
        upstream.reply(error(400, "This model only support stream mode, please enable the stream parameter"))
        body = {"model": "m", "messages": MESSAGES}
        answer: httpx2.Response = await sluice.http.post("/v1/chat/completions", json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "Hello"
        assert answer.json()["object"] == "chat.completion"
        assert receipt(sluice) == SETTLED
        await sluice.http.post("/v1/chat/completions", json=body)
        assert [request.json.get("stream") for request in upstream.requests] == [None, True, True]
