"""Messages streams as clients read them, and random Chat answers with their streams."""

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from proxy.core.entities import Usage
from proxy.core.sse import FrameSplitter

Fields = dict[str, Any]

# -- reading a stream


def events_of(stream: bytes) -> list[Fields]:
    """Return a stream's events; each frame is an `event:` line and a `data:` line, and they agree."""
    events = []
    for frame in FrameSplitter().feed(stream):
        first, second, *rest = frame.decode().split("\n")
        assert first.startswith("event: ")
        assert second.startswith("data: ")
        assert rest == ["", ""]
        event = json.loads(second.removeprefix("data: "))
        assert event["type"] == first.removeprefix("event: ")
        events.append(event)
    return events


def assembled(events: Sequence[Fields]) -> Fields:
    """Put a message together as the SDK does, and insist on everything that clients rely on."""
    events = [event for event in events if event["type"] != "ping"]
    first, *blocks, delta, last = events
    assert first["type"] == "message_start"
    assert delta["type"] == "message_delta"
    assert last == {"type": "message_stop"}
    message = dict(first["message"])
    assert message["content"] == []
    assert message["stop_reason"] is None
    message["content"] = _content(blocks)
    message |= delta["delta"]
    message["usage"] = message["usage"] | delta["usage"]
    return message


def _content(events: Sequence[Fields]) -> list[Fields]:
    content: list[Fields] = []
    is_open, inputs = False, ""
    for event in events:
        if event["type"] == "content_block_start":
            assert not is_open
            assert event["index"] == len(content)
            content.append(event["content_block"])
            is_open, inputs = True, ""
            continue
        assert is_open
        assert event["index"] == len(content) - 1
        block = content[-1]
        if event["type"] == "content_block_stop":
            is_open = False
            if block["type"] == "tool_use":
                block["input"] = _input(inputs)
            continue
        assert event["type"] == "content_block_delta"
        match event["delta"]:
            case {"type": "text_delta", "text": text}:
                assert text
                block["text"] += text
            case {"type": "thinking_delta", "thinking": thinking}:
                assert thinking
                block["thinking"] += thinking
            case {"type": "input_json_delta", "partial_json": piece}:
                assert piece
                assert block["type"] == "tool_use"
                inputs += piece
            case other:
                raise AssertionError(other)
    assert not is_open
    return content


def _input(text: str) -> Any:
    """Return a call's input; what a model wrote that is no JSON stays text."""
    try:
        return json.loads(text or "{}")
    except json.JSONDecodeError:
        return text


# -- random answers

USAGE = Usage(
    input_tokens=100, output_tokens=50, cached_tokens=40, cache_write_tokens=10, reasoning_tokens=20
)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(st.text(max_size=4), json_values, max_size=3)
names = st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True)
finish_reasons = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "", "eos", "sensitive"])


@st.composite
def chat_messages(draw: st.DrawFn) -> Fields:
    """An assistant's message in Chat, with whole arguments."""
    message: Fields = {"role": "assistant", "content": draw(st.none() | st.text(max_size=20))}
    if draw(st.booleans()):
        message["reasoning_content"] = draw(st.text(max_size=20))
    if draw(st.booleans()):
        message["refusal"] = draw(st.none() | st.text(max_size=10))
    calls = draw(st.lists(st.tuples(names, arguments, st.booleans()), max_size=3))
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{position}_abcdefgh",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(given, ensure_ascii=escaped)},
            }
            for position, (name, given, escaped) in enumerate(calls)
        ]
    return message


@st.composite
def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text, cut anywhere."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def chat_streams(draw: st.DrawFn, message: Fields, finish: str) -> list[Fields]:
    """The chunks of a message: texts cut anywhere, calls one after the other or all at once."""
    deltas: list[Fields] = [{"role": "assistant", "content": ""}]
    for name in ("reasoning_content", "content", "refusal"):
        deltas += [{name: piece} for piece in draw(pieces(message.get(name) or ""))]
    deltas += draw(_call_deltas(message.get("tool_calls", ())))
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    chunks: list[Fields] = [{"object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
    chunks.append({"object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 1}})
    return chunks


@st.composite
def _call_deltas(draw: st.DrawFn, calls: Sequence[Fields]) -> list[Fields]:
    with_index = draw(st.booleans())
    repeats_names = draw(st.booleans())
    is_cumulative = draw(st.booleans())
    streams = []
    for position, call in enumerate(calls):
        name, whole = call["function"]["name"], call["function"]["arguments"]
        cut = draw(pieces(whole))
        if is_cumulative:
            cut = ["".join(cut[: end + 1]) for end in range(len(cut))]
        key = {"index": position} if with_index else {"id": call["id"]}
        opening = {"id": call["id"], "type": "function", "function": {"name": name, "arguments": cut[0]}}
        later = {"name": name} if repeats_names else {}
        rest = [{**key, "function": {**later, "arguments": piece}} for piece in cut[1:]]
        streams.append([{**key, **opening}, *rest])
    order = [position for position, stream in enumerate(streams) for _ in stream]
    if draw(st.booleans()):
        order = draw(st.permutations(order))
    return [{"tool_calls": [_next(streams, wanted)]} for wanted in order]


def _next(streams: list[list[Fields]], wanted: int) -> Fields:
    """Take the next delta of a call, or of one before it that has not begun, or of any that is left."""
    unbegun = [position for position, stream in enumerate(streams) if stream and "type" in stream[0]]
    if unbegun and unbegun[0] < wanted:
        wanted = unbegun[0]
    left = [position for position, stream in enumerate(streams) if stream]
    return streams[wanted if wanted in left else left[0]].pop(0)
