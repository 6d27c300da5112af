"""Messages streams as Chat chunks: cases, and the whole message as the measure of every stream."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from proxy.dialects.messages_chat_answer import chat_from_message
from proxy.dialects.messages_chunks import ChunksFromMessages
from proxy.dialects.messages_json import compact
from tests.support.messages import arguments, json_values, names, pieces

Fields = dict[str, Any]
USAGE = {
    "input_tokens": 50,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 10,
    "output_tokens": 9,
}
START = {"type": "message_start", "message": {"usage": USAGE | {"output_tokens": 1}}}
STOP = {"type": "message_stop"}


def machine() -> ChunksFromMessages:
    return ChunksFromMessages(id="chatcmpl-1", model="m", created=1700000000)


def start(index: object, **block: object) -> Fields:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: object, kind: str, **members: object) -> Fields:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **members}}


def stop(index: object) -> Fields:
    return {"type": "content_block_stop", "index": index}


def end(stop_reason: object, **usage: object) -> Fields:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage}


def fed(*events: Fields) -> list[Fields]:
    chunks = machine()
    return [chunk for event in events for chunk in chunks.feed(event)]


def deltas(chunks: Iterable[Fields]) -> list[Fields]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def assembled(chunks: Iterable[Fields]) -> Fields:
    """Put an answer together as OpenAI's SDK does."""
    state = ChatCompletionStreamState()
    for chunk in chunks:
        list(state.handle_chunk(ChatCompletionChunk.model_validate(chunk)))
    return state.current_completion_snapshot.to_dict()


# -- the whole message is the measure

texts = st.text(min_size=1, max_size=20)
thoughts = st.builds(
    lambda text, mark: {"type": "thinking", "thinking": text, "signature": mark}, texts, st.text(max_size=4)
)
hidden = st.builds(lambda data: {"type": "redacted_thinking", "data": data}, texts)
said = st.builds(lambda text: {"type": "text", "text": text}, texts)
used = st.builds(lambda name, given: {"type": "tool_use", "name": name, "input": given}, names, arguments)


@st.composite
def messages(draw: st.DrawFn) -> Fields:
    content = draw(st.lists(thoughts | hidden | said | used, max_size=5))
    content = [
        block | {"id": f"toolu_{n}"} if block["type"] == "tool_use" else block
        for n, block in enumerate(content)
    ]
    stop_reason = draw(st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal", "pause_turn"]))
    return {"content": content, "stop_reason": stop_reason, "usage": USAGE}


@st.composite
def streams(draw: st.DrawFn, message: Fields) -> list[Fields]:
    events = [START, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        events += [*draw(_block(index, block)), stop(index)]
    return [*events, end(message["stop_reason"], output_tokens=9), STOP]


@st.composite
def _block(draw: st.DrawFn, index: int, block: Fields) -> list[Fields]:
    match block:
        case {"type": "text", "text": text}:
            first, *rest = draw(pieces(text))
            return [
                start(index, type="text", text=first),
                *(delta(index, "text_delta", text=piece) for piece in rest),
            ]
        case {"type": "thinking", "thinking": text, "signature": mark}:
            events = [start(index, type="thinking", thinking="", signature="")]
            events += [delta(index, "thinking_delta", thinking=piece) for piece in draw(pieces(text))]
            return [*events, delta(index, "signature_delta", signature=mark)]
        case {"type": "tool_use", "input": given}:
            whole = "" if not given and draw(st.booleans()) else compact(given)
            cut = draw(pieces(whole))
            return [
                start(index, **{**block, "input": {}}),
                *(delta(index, "input_json_delta", partial_json=piece) for piece in cut),
            ]
    return [start(index, **block)]


@given(st.data())
def test_a_stream_says_what_the_whole_message_says(data: st.DataObject) -> None:
    message = data.draw(messages())
    chunks = machine()
    streamed = [chunk for event in data.draw(streams(message)) for chunk in chunks.feed(event)]
    assert chunks.complete
    assert chunks.error is None
    whole = chat_from_message(message, id="chatcmpl-1", model="m", created=1700000000)
    assert _normal(assembled(streamed)) == _normal(whole)


def _normal(answer: Fields) -> Fields:
    """Return an answer without what is only a matter of form."""
    [choice] = answer["choices"]
    message = {name: value for name, value in choice["message"].items() if value is not None and value != ""}
    for name in ("tool_calls", "thinking_blocks"):
        for item in message.get(name, ()):
            item.pop("index", None)
            item.get("function", {}).pop("parsed_arguments", None)
    return {
        "message": message,
        "finish_reason": choice["finish_reason"],
        "usage": answer.get("usage"),
        "id": answer["id"],
        "object": answer["object"],
    }


@given(st.lists(json_values, max_size=5))
def test_whatever_comes_the_chunks_are_in_order(values: list[Any]) -> None:
    chunks = machine()
    out: list[Fields] = []
    for value in values:
        for kind in ("message_start", "content_block_start", "content_block_stop", "message_delta", value):
            members = dict.fromkeys(["message", "index", "content_block", "delta", "usage"], value)
            out += chunks.feed({"type": kind, **members})
        fields = dict.fromkeys(
            ["text", "thinking", "signature", "partial_json", "id", "name", "input", "data"], value
        )
        for kind in ("text", "thinking", "redacted_thinking", "tool_use"):
            out += chunks.feed(start(0, **{"type": kind, **fields}))
            for part in ("text_delta", "thinking_delta", "signature_delta", "input_json_delta", "odd"):
                out += chunks.feed(delta(0, part, **fields))
    out += chunks.feed(STOP)
    assert chunks.complete
    assert out[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    finishes = [choice["finish_reason"] for chunk in out for choice in chunk["choices"]]
    assert len([finish for finish in finishes if finish is not None]) == 1
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in out} == {
        ("chatcmpl-1", 1700000000, "m")
    }
    assert chunks.feed(START) == []


# -- cases


def test_the_chunks_of_a_plain_answer() -> None:
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m"}

    def chunk(delta: Fields, finish: str | None = None) -> Fields:
        return frame | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    events = [
        *(START, {"type": "ping"}, start(0, type="text", text="")),
        *(delta(0, "text_delta", text="Hel"), delta(0, "text_delta", text="lo"), stop(0)),
        *(end("end_turn", output_tokens=9), STOP),
    ]
    assert fed(*events) == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        frame
        | {
            "choices": [],
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 9,
                "total_tokens": 109,
                "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
            },
        },
    ]


def test_calls_are_counted_without_the_other_blocks() -> None:
    events = [
        *(START, start(0, type="text", text="x"), stop(0)),
        *(
            start(1, type="tool_use", id="a", name="f", input={}),
            delta(1, "input_json_delta", partial_json='{"a"'),
        ),
        *(delta(1, "input_json_delta", partial_json=":1}"), stop(1)),
        *(start(2, type="tool_use", id="b", name="g", input={}), stop(2)),
    ]
    assert deltas(fed(*events))[2:] == [
        {
            "tool_calls": [
                {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        {
            "tool_calls": [
                {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
    ]


def test_input_that_comes_whole() -> None:
    events = [START, start(0, type="tool_use", id="a", name="f", input={"a": 1}), stop(0)]
    assert deltas(fed(*events))[-1] == {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}


def test_blocks_that_are_not_stopped() -> None:
    events = [START, start(0, type="tool_use", id="a", name="f"), end("tool_use"), STOP]
    assert [sorted(each) for each in deltas(fed(*events))] == [
        *(["content", "role"], ["tool_calls"], ["tool_calls"], [])
    ]


def test_what_the_providers_servers_do_is_not_the_clients_business() -> None:
    events = [
        *(START, start(0, type="server_tool_use", id="s", name="web_search", input={})),
        *(delta(0, "input_json_delta", partial_json="{}"), stop(0)),
        *(start(1, type="web_search_tool_result", content=[]), stop(1)),
        delta(1, "citations_delta", citation={}),
    ]
    assert deltas(fed(*events)) == [{"role": "assistant", "content": ""}]


@pytest.mark.parametrize(
    ("events", "finish"),
    [
        ([], "stop"),
        ([start(0, type="tool_use", id="a", name="f")], "tool_calls"),
        ([end(None)], "stop"),
        ([end("max_tokens"), end("end_turn")], "length"),
    ],
    ids=["nothing", "a call", "a delta without one", "the first counts"],
)
def test_the_finish_reason_is_told_once(events: list[Fields], finish: str) -> None:
    finishes = [choice["finish_reason"] for chunk in fed(START, *events, STOP) for choice in chunk["choices"]]
    assert [each for each in finishes if each] == [finish]


def test_later_usage_overwrites_what_it_names() -> None:
    last = fed(START, end("end_turn", input_tokens=60, output_tokens=9, cache_read_input_tokens=None), STOP)[
        -1
    ]
    assert last["usage"]["prompt_tokens"] == 110
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == 40


@pytest.mark.parametrize("first", [{"type": "message_start"}, START], ids=["none", "of the input alone"])
def test_without_whole_usage_there_is_no_chunk_for_it(first: Fields) -> None:
    assert fed(first, end("end_turn"), STOP)[-1]["choices"] != []


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
            {"type": "overloaded_error", "message": "busy"},
        ),
        ({"type": "error"}, {}),
    ],
)
def test_an_error_ends_the_stream(event: Fields, error: Fields) -> None:
    chunks = machine()
    chunks.feed(START)
    assert chunks.feed(event) == []
    assert chunks.error == error
    assert not chunks.complete
    assert chunks.feed(STOP) == []
    assert not chunks.complete
