"""Streams that are passed on in their own protocol, watched."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.received import FOLD_AT_BYTES
from proxy.dialects.watch import MessagesWatch, ResponsesWatch, StreamWatch

Fields = dict[str, Any]


class Collected:
    """Counts a token for each piece, and keeps them."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def add(self, text: str) -> None:
        self.pieces.append(text)

    @property
    def tokens(self) -> int:
        return len(self.pieces)


def watched(kind: type[StreamWatch], *events: Fields) -> tuple[StreamWatch, Collected]:
    collected = Collected()
    watch = kind(collected)
    for event in events:
        watch.feed(json.dumps(event, separators=(",", ":")).encode())
    return watch, collected


RESPONSES = [
    {"type": "response.created", "response": {"id": "resp_1", "tools": [{"type": "error"}]}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning"}},
    {"type": "response.reasoning_summary_text.delta", "delta": "why"},
    {"type": "response.reasoning_text.delta", "delta": "because"},
    {"type": "response.output_text.delta", "delta": "Hi"},
    {"type": "response.refusal.delta", "delta": "no"},
    {"type": "response.audio.delta", "delta": "UklGR"},
    {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}},
    {"type": "response.function_call_arguments.delta", "delta": "{}"},
    {"type": "response.custom_tool_call_input.delta", "delta": "+"},
    {"type": "response.output_text.done", "text": "Hi"},
]
MESSAGES = [
    {"type": "message_start", "message": {"content": []}},
    {"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}},
    {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "why"}},
    {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x"}},
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_start", "content_block": {"type": "tool_use", "name": "f", "input": {}}},
    {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "ping"},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
]


@pytest.mark.parametrize(
    ("kind", "events", "texts"),
    [
        pytest.param(
            ResponsesWatch, RESPONSES, ["why", "because", "Hi", "no", "f", "{}", "+"], id="responses"
        ),
        pytest.param(MessagesWatch, MESSAGES, ["why", "Hi", "f", "{}"], id="messages"),
    ],
)
def test_all_text_is_counted(kind: type[StreamWatch], events: list[Fields], texts: list[str]) -> None:
    watch, collected = watched(kind, *events)
    assert watch.tokens == len(texts)
    assert sorted(collected.pieces) == sorted(texts)
    assert watch.has_content
    assert not watch.complete
    assert watch.failure is None


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (ResponsesWatch, {"type": "response.completed", "response": {}}),
        (ResponsesWatch, {"type": "response.incomplete", "response": {}}),
        (MessagesWatch, {"type": "message_stop"}),
    ],
)
def test_the_end(kind: type[StreamWatch], event: Fields) -> None:
    watch, _ = watched(kind, event)
    assert watch.complete
    assert not watch.has_content


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (ResponsesWatch, b'{"type":"response.failed","response":{}}'),
        (ResponsesWatch, b'{"type":"error","message":"x"}'),
        (ResponsesWatch, b'{ "type": "error" }'),
        (ResponsesWatch, b'{"sequence_number":1,"type":"response.failed"}'),
        (MessagesWatch, b'{"type":"error","error":{"type":"overloaded_error"}}'),
        (MessagesWatch, b'{"error":{"message":"x"}}'),
    ],
)
def test_failures(kind: type[StreamWatch], data: bytes) -> None:
    watch = kind(Collected())
    watch.feed(data)
    assert watch.failure == data
    assert not watch.complete


@pytest.mark.parametrize(
    ("kind", "events", "content"),
    [
        (ResponsesWatch, RESPONSES[:2], False),
        (ResponsesWatch, [{"type": "response.output_text.delta", "delta": ""}], False),
        (ResponsesWatch, RESPONSES[:3], True),
        (ResponsesWatch, RESPONSES[7:8], True),
        (MessagesWatch, MESSAGES[:2], False),
        (MessagesWatch, MESSAGES[:3], True),
        (MessagesWatch, MESSAGES[5:6], True),
    ],
)
def test_content(kind: type[StreamWatch], events: list[Fields], content: bool) -> None:
    watch, _ = watched(kind, *events)
    assert watch.has_content is content
    assert watch.has_content is content


def test_deltas_are_decoded_when_asked_for_or_when_there_are_many() -> None:
    event = {"type": "response.output_text.delta", "delta": "x" * 50}
    few = FOLD_AT_BYTES // 200
    watch, collected = watched(ResponsesWatch, *[event] * few)
    assert collected.pieces == []
    assert watch.tokens == few
    _, collected = watched(ResponsesWatch, *[event] * few * 4)
    assert few < len(collected.pieces) <= few * 4


@given(
    data=st.binary().filter(lambda data: b'"error"' not in data and b'"delta"' not in data)
    | st.sampled_from(
        [
            b'{"type":',
            b'{"type":"response.output_text.delta',
            b'{"type":"response.output_text.delta","delta":{}}',
            b'{"type":"response.output_item.added","item":[]}',
            b'{"type":"content_block_delta","delta":5}',
            b'{"type":"content_block_start"}',
            b'{"type":null}',
            b'{"type":5,"error":null}',
            b"[]",
            b"[" * 100_000,
            b'{"a":"\xff"}',
        ]
    )
)
def test_nonsense_means_nothing(data: bytes) -> None:
    for kind in (ResponsesWatch, MessagesWatch):
        watch = kind(Collected())
        watch.feed(data)
        assert (watch.complete, watch.failure, watch.has_content, watch.tokens) == (False, None, False, 0)


def test_half_an_emoji_is_text() -> None:
    watch = ResponsesWatch(Collected())
    watch.feed(b'{"type":"response.output_text.delta","delta":"a\\ud83d"}')
    assert (watch.has_content, watch.tokens) == (True, 1)
