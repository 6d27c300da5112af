"""The built-in provider: what it says, in which form, and what it counts."""

import asyncio
import base64
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import Progress, UpstreamError
from proxy.core.estimation import estimate_chat_input, estimate_text
from proxy.core.sse import FrameSplitter, is_canonical_block, parse
from proxy.core.tokenizers import family_of
from proxy.upstream.echo import NO_TEXT, NO_USER_MESSAGE, PIECE_BYTES, EchoAnswer, respond

FAMILY = family_of("m")


def ask(endpoint: str = "chat/completions", **members: Any) -> EchoAnswer:
    return respond(endpoint, json.dumps({"model": "m", **members}).encode())


def chat(content: Any, **members: Any) -> EchoAnswer:
    return ask(messages=[{"role": "user", "content": content}], **members)


async def whole(answer: EchoAnswer) -> Any:
    assert answer.status == 200
    assert answer.headers == [(b"content-type", b"application/json")]
    return json.loads(await answer.read_all(10**8))


async def events(answer: EchoAnswer) -> list[Any]:
    """Return the data of a stream's events, up to [DONE]."""
    assert answer.status == 200
    assert answer.headers == [(b"content-type", b"text/event-stream")]
    body = await answer.read_all(10**8)
    splitter = FrameSplitter()
    *datas, done = [parse(frame).data for frame in splitter.feed(body)]
    assert done == b"[DONE]"
    assert is_canonical_block(body.removesuffix(b"data: [DONE]\n\n"))
    assert not splitter.pending
    return [json.loads(data or b"") for data in datas]


def texts(chunks: list[Any], index: int = 0) -> list[str]:
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    said = [choice["delta"].get("content") for choice in choices if choice["index"] == index]
    return [text for text in said if text]


MESSAGES: dict[str, tuple[list[Any], str]] = {
    "one": ([{"role": "user", "content": "hello"}], "hello"),
    "the last of the user's": (
        [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"},
            {"role": "tool", "content": "four"},
        ],
        "three",
    ),
    "parts": (
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url"},
                    7,
                    {"type": "text", "text": "b"},
                ],
            }
        ],
        "a\nb",
    ),
    "no user": ([{"role": "system", "content": "x"}], NO_USER_MESSAGE),
    "no message": ([], NO_USER_MESSAGE),
    "no text": ([{"role": "user", "content": [{"type": "image_url"}]}], NO_TEXT),
    "null": ([{"role": "user", "content": None}], NO_TEXT),
    "empty": ([{"role": "user", "content": ""}], NO_TEXT),
}


@pytest.mark.parametrize(("messages", "text"), MESSAGES.values(), ids=MESSAGES)
async def test_the_last_user_message_is_repeated(messages: list[Any], text: str) -> None:
    answer = await whole(ask(messages=messages))
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": text}
    chunks = await events(ask(messages=messages, stream=True))
    assert "".join(texts(chunks)) == text


async def test_a_whole_answer_has_the_form_of_a_chat_completion() -> None:
    answer = await whole(chat("hello you", tools=[{"type": "function"}]))
    assert answer.pop("id").startswith("chatcmpl-")
    assert isinstance(answer.pop("created"), int)
    messages = [{"role": "user", "content": "hello you"}]
    input_tokens = estimate_chat_input(messages, [{"type": "function"}], FAMILY)
    output_tokens = estimate_text("hello you", FAMILY)
    assert answer == {
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello you"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        },
    }


async def test_a_stream_has_one_event_for_each_word() -> None:
    chunks = await events(chat(" one  two\nthree ", stream=True))
    assert texts(chunks) == [" one", "  two", "\nthree "]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


async def test_a_stream_tells_its_usage_when_asked() -> None:
    usage = (await whole(chat("one two")))["usage"]
    *chunks, last = await events(chat("one two", stream=True, stream_options={"include_usage": True}))
    assert last["choices"] == []
    assert last["usage"] == usage
    assert all(chunk["usage"] is None for chunk in chunks)
    without = await events(chat("one two", stream=True, stream_options={"include_usage": False}))
    assert len(without) == len(chunks)


async def test_several_choices() -> None:
    answer = await whole(chat("hello", n=3))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 3 * estimate_text("hello", FAMILY)
    chunks = await events(chat("one two", n=2, stream=True))
    assert texts(chunks, 0) == texts(chunks, 1) == ["one", " two"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_output_can_be_limited(field: str) -> None:
    text = "word " * 50
    answer = await whole(chat(text, **{field: 10}))
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "length"
    assert 0 < len(choice["message"]["content"]) < len(text)
    assert text.startswith(choice["message"]["content"])
    assert answer["usage"]["completion_tokens"] == 10
    chunks = await events(chat(text, stream=True, **{field: 10}))
    assert "".join(texts(chunks)) == choice["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    unlimited = await whole(chat("word", **{field: 10}))
    assert unlimited["choices"][0]["finish_reason"] == "stop"


async def test_completions() -> None:
    answer = await whole(ask("completions", prompt="once upon"))
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": "once upon", "logprobs": None, "finish_reason": "stop"}]
    several = await whole(ask("completions", prompt=["a", "b"], n=2))
    assert [choice["text"] for choice in several["choices"]] == ["a", "a", "b", "b"]
    chunks = await events(ask("completions", prompt="once upon", stream=True))
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["once", " upon", ""]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


async def vectors(input: Any, **members: Any) -> list[Any]:
    answer = await whole(ask("embeddings", input=input, **members))
    assert [item["index"] for item in answer["data"]] == list(range(len(answer["data"])))
    assert answer["model"] == "m"
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    return [item["embedding"] for item in answer["data"]]


async def test_embeddings_are_unit_vectors_of_the_input_alone() -> None:
    [first], [again], [other] = await vectors("a"), await vectors("a"), await vectors("b")
    assert first == again != other
    assert len(first) == 256
    assert math.hypot(*first) == pytest.approx(1, abs=1e-6)
    assert first[:3] == pytest.approx([0.07454, 0.03293, 0.08806], abs=1e-5)  # in every version


async def test_embeddings_of_many_inputs() -> None:
    assert await vectors(["a", "b"]) == [*await vectors("a"), *await vectors("b")]
    assert len(await vectors([[1, 2], [3]])) == 2
    assert len(await vectors([1, 2, 3])) == 1
    assert await vectors([1, 2, 3]) == await vectors([[1, 2, 3]])


async def test_dimensions_and_encoding_of_embeddings() -> None:
    [floats] = await vectors("a", dimensions=7)
    [encoded] = await vectors("a", dimensions=7, encoding_format="base64")
    assert len(floats) == 7
    assert list(struct.unpack("<7f", base64.b64decode(encoded))) == pytest.approx(floats, abs=1e-9)


async def test_models() -> None:
    answer = await whole(respond("models", b""))
    assert [model["id"] for model in answer["data"]] == ["echo"]


@pytest.mark.parametrize("endpoint", ["rerank", "moderations", "images/generations", "audio/speech"])
async def test_what_it_cannot_do(endpoint: str) -> None:
    answer = ask(endpoint)
    assert answer.status == 404
    error = json.loads(await answer.read_all(10_000))["error"]
    assert (error["code"], error["type"]) == ("not_found", "invalid_request_error")
    assert "chat/completions, completions, embeddings, models" in error["message"]


def test_a_form_is_refused() -> None:
    assert respond("audio/transcriptions", object()).status == 404


MALFORMED: dict[str, tuple[str, Any]] = {
    "no messages": ("chat/completions", {"model": "m"}),
    "messages that are none": ("chat/completions", {"model": "m", "messages": "hello"}),
    "too many choices": ("chat/completions", {"model": "m", "messages": [], "n": 9}),
    "prompt of token ids": ("completions", {"model": "m", "prompt": [1, 2]}),
    "no input": ("embeddings", {"model": "m", "input": []}),
    "no dimensions": ("embeddings", {"model": "m", "input": "a", "dimensions": 0}),
    "unknown encoding": ("embeddings", {"model": "m", "input": "a", "encoding_format": "int8"}),
}


@pytest.mark.parametrize(("endpoint", "body"), MALFORMED.values(), ids=MALFORMED)
async def test_malformed_requests(endpoint: str, body: Any) -> None:
    answer = respond(endpoint, json.dumps(body).encode())
    assert answer.status == 400
    error = json.loads(await answer.read_all(10_000))["error"]
    assert error["code"] == "invalid_value"
    assert error["message"].startswith("The echo provider cannot read the request: ")


def test_a_body_nested_too_deep_is_malformed() -> None:
    assert respond("chat/completions", b'{"model":"m","messages":' + b"[" * 5000).status == 400


class TestAnswer:
    """It is read like an answer from a socket."""

    async def test_a_long_answer_comes_in_pieces(self) -> None:
        answer = chat("word " * 2000, stream=True)
        pieces = []
        while (piece := await answer.read()) is not None:
            pieces.append(piece)
        assert len(pieces) > 2
        assert all(len(piece) < PIECE_BYTES + 1024 for piece in pieces)
        assert all(piece.endswith(b"\n\n") for piece in pieces)
        assert await answer.read() is None

    async def test_it_can_be_closed_at_any_time(self) -> None:
        answer = chat("word " * 2000, stream=True)
        assert await answer.read()
        answer.nudge()
        answer.close()
        answer.close()
        assert await answer.read() is None
        assert answer.progress is Progress.BODY

    async def test_reading_it_whole_has_a_bound(self) -> None:
        with pytest.raises(UpstreamError) as caught:
            await chat("x" * 1000).read_all(1000)
        assert caught.value.code == "upstream_invalid_response"

    async def test_others_get_their_turn(self) -> None:
        answer = chat("word " * 2000, stream=True)
        turn = asyncio.Event()
        asyncio.get_running_loop().call_soon(turn.set)
        await answer.read()
        await answer.read()
        assert turn.is_set()


@given(st.text(), st.integers(1, 20))
async def test_the_words_of_a_stream_are_the_whole_text(text: str, max_tokens: int) -> None:
    members = {"max_tokens": max_tokens}
    answer = await whole(chat(text, **members))
    chunks = await events(chat(text, stream=True, **members))
    assert "".join(texts(chunks)) == answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] <= max_tokens
