"""The official SDKs, pointed at a gateway by base URL and key alone."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.gateway import delivery
from tests.support.clients import MESSAGES
from tests.support.gateway import API_KEY, Sluice, gateway
from tests.support.replies import End, chat, chat_stream, error
from tests.support.upstream import Upstream

Running = tuple[Sluice, Upstream]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with (
        Upstream() as upstream,
        gateway(tmp_path, providers={"up": {"base_url": upstream.url}, "demo": {"preset": "echo"}}) as sluice,
    ):
        yield sluice, upstream


@pytest.fixture(params=["/v1", "/api/v1"])
async def client(running: Running, request: pytest.FixtureRequest) -> AsyncIterator[openai.AsyncOpenAI]:
    sluice, _ = running
    async with openai.AsyncOpenAI(base_url=sluice.url + request.param, api_key=API_KEY) as client:
        yield client


async def test_a_chat(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="demo/any", messages=MESSAGES)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == "Say hello"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


async def test_a_stream_without_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(model="demo/any", messages=MESSAGES, stream=True)  # type: ignore[arg-type,call-overload]
    # The plain idiom of all samples: chunk.choices[0] of every chunk.
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Say hello"


async def test_a_stream_with_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(  # type: ignore[call-overload]
        model="demo/any", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    *_, last = [chunk async for chunk in stream]
    assert last.choices == []
    assert last.usage.total_tokens > 0


async def test_embeddings(client: openai.AsyncOpenAI) -> None:
    found = await client.embeddings.create(model="demo/any", input=["a", "b"], dimensions=8)
    assert [len(item.embedding) for item in found.data] == [8, 8]


async def test_models(client: openai.AsyncOpenAI) -> None:
    listed = [model async for model in client.models.list()]
    assert "up/upstream-model" in {model.id for model in listed}
    assert (await client.models.retrieve("up/upstream-model")).id == "up/upstream-model"


async def test_tools(running: Running, client: openai.AsyncOpenAI) -> None:
    calls: list[dict[str, Any]] = [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
    running[1].reply(chat("", finish="tool_calls", tool_calls=calls))
    answer = await client.chat.completions.create(
        model="up/m",
        messages=MESSAGES,  # type: ignore[arg-type]
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    )
    assert answer.choices[0].message.tool_calls is not None
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"a":1}'  # type: ignore[union-attr]


async def test_errors_are_the_sdks_own(running: Running, client: openai.AsyncOpenAI) -> None:
    running[1].reply(error(400, "temperature is too hot"))
    with pytest.raises(openai.BadRequestError, match="too hot"):
        await client.chat.completions.create(model="up/m", messages=MESSAGES)  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError, match="There is no model"):
        await client.chat.completions.create(model="nothing", messages=MESSAGES)  # type: ignore[arg-type]
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="sk-sluice-wrong").models.list()
    assert len(running[1].requests) == 1  # x-should-retry: false is obeyed


async def test_a_failure_in_mid_stream_is_raised(running: Running, client: openai.AsyncOpenAI) -> None:
    running[1].reply(chat_stream("Hel", "lo").broken(2, End.CLOSE))
    stream = await client.chat.completions.create(model="up/m", messages=MESSAGES, stream=True)  # type: ignore[arg-type,call-overload]
    with pytest.raises(openai.APIError, match="closed"):
        _ = [chunk async for chunk in stream]


async def test_closing_a_stream_closes_the_upstream(
    running: Running, client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "HELD_NS", 0)
    sluice, upstream = running
    reply = chat_stream("Hel", "lo").gated()
    upstream.reply(reply)
    reply.gates[0].open()
    stream = await client.chat.completions.create(model="up/m", messages=MESSAGES, stream=True)  # type: ignore[arg-type,call-overload]
    await anext(aiter(stream))
    await stream.close()
    await sluice.settled(1)
    await upstream.all_closed()
