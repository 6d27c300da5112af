"""Streams of the Responses protocol as clients read them, with all that they insist on."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from proxy.dialects.responses_context import ResponsesContext
from proxy.dialects.responses_events import ResponseEvents

Fields = dict[str, Any]

TERMINAL = {"response.completed", "response.incomplete", "response.failed"}
MODEL = "alias"
CREATED_AT = 1_700_000_000


class CountedIds:
    """Makes ids that can be foretold: msg_1, fc_2."""

    def __init__(self) -> None:
        self._made = 0

    def __call__(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}_{self._made}"


def stream(context: ResponsesContext | None = None) -> ResponseEvents:
    return ResponseEvents(context or ResponsesContext(), ids=CountedIds(), created_at=CREATED_AT, model=MODEL)


def chunk(delta: object = None, finish_reason: object = None, **more: object) -> Fields:
    """Return a Chat chunk."""
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **more}


def call_delta(
    index: int | None, arguments: str | None = None, *, id: str | None = None, name: str | None = None
) -> Fields:
    """Return the delta of a tool call; what is None is left out."""
    function = {"name": name, "arguments": arguments}
    call: Fields = {
        "index": index,
        "id": id,
        "function": {member: value for member, value in function.items() if value is not None},
    }
    return {"tool_calls": [{member: value for member, value in call.items() if value is not None}]}


def translated(chunks: Iterable[Fields], context: ResponsesContext | None = None) -> list[Fields]:
    """Return the events for a whole stream, checked."""
    translation = stream(context)
    data = b"".join(map(translation.feed, chunks)) + translation.ending()
    return checked(events_in(data))


def plain(response: Fields) -> Fields:
    """Return a response as the client gets it: without raw members."""
    plain_response: Fields = json.loads(msgspec.json.encode(response))
    return plain_response


def events_in(data: bytes) -> list[Fields]:
    """Read frames; each must be one `event:` line and one `data:` line that agree."""
    assert data.endswith(b"\n\n")
    events = []
    for frame in data[:-2].split(b"\n\n"):
        event_line, data_line = frame.split(b"\n")
        event = json.loads(data_line.removeprefix(b"data: "))
        assert event_line == b"event: " + event["type"].encode()
        events.append(event)
    return events


def types_of(events: list[Fields]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def checked(events: list[Fields]) -> list[Fields]:
    """Check what clients check, of a stream that has come to its end; return its events."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert types_of(events)[:2] == ["created", "in_progress"]
    assert [event["type"] in TERMINAL for event in events] == [False] * (len(events) - 1) + [True]
    lifecycle = [event["response"] for event in events if "response" in event]
    assert len({response["id"] for response in lifecycle}) == 1
    last = lifecycle[-1]
    for response in lifecycle[:-1]:
        assert (response["status"], response["output"], response["usage"]) == ("in_progress", [], None)
    reader = _ItemReader()
    for event in events:
        if "response" not in event:
            reader.read(event)
    if last["status"] != "failed":
        assert reader.done == dict(enumerate(last["output"]))
        assert list(reader.done) == list(range(len(last["output"]))), "items end in their order"
    return events


class _ItemReader:
    """Puts items together from their events, and checks that they agree with what is said at the end."""

    def __init__(self) -> None:
        self.added: dict[int, Fields] = {}
        self.done: dict[int, Fields] = {}
        self._parts: dict[tuple[int, str, int], str] = {}
        self._inputs: dict[int, str] = {}

    def read(self, event: Fields) -> None:
        index, kind = event["output_index"], event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert index == len(self.added)
            assert event["item"]["status"] == "in_progress"
            assert not any(event["item"].get(name) for name in ("content", "summary", "arguments", "input"))
            self.added[index] = event["item"]
            return
        assert index in self.added
        assert index not in self.done
        if kind == "output_item.done":
            self._end(index, event["item"])
            return
        assert event["item_id"] == self.added[index]["id"]
        part = next((name for name in ("content_index", "summary_index") if name in event), None)
        if part is None:
            self._read_input(index, kind, event)
        else:
            self._read_part((index, part, event[part]), kind, event)

    def _read_part(self, place: tuple[int, str, int], kind: str, event: Fields) -> None:
        if kind.endswith("part.added"):
            assert place not in self._parts
            assert _text_in(event["part"]) == ""
            self._parts[place] = ""
        elif kind.endswith(".delta"):
            assert event["delta"] != ""
            self._parts[place] += event["delta"]
        elif kind.endswith("part.done"):
            assert _text_in(event["part"]) == self._parts[place]
        else:
            assert kind.endswith(".done")
            assert _text_in(event) == self._parts[place]

    def _read_input(self, index: int, kind: str, event: Fields) -> None:
        before = self._inputs.get(index, "")
        if kind.endswith(".delta"):
            assert event["delta"] != ""
            self._inputs[index] = before + event["delta"]
        else:
            assert kind.endswith(".done")
            assert event.get("arguments", event.get("input")) == before

    def _end(self, index: int, item: Fields) -> None:
        added = self.added[index]
        for member in ("type", "id", "call_id", "name", "namespace"):
            assert item.get(member) == added.get(member)
        assert item["status"] in ("completed", "incomplete")
        if "call_id" in item:
            assert item.get("arguments", item.get("input")) == self._inputs.get(index, "")
        for member in ("content", "summary"):
            texts = [_text_in(part) for part in item.get(member, [])]
            told = [text for place, text in self._parts.items() if place[:2] == (index, f"{member}_index")]
            assert texts == told
        self.done[index] = item


def _text_in(fields: Fields) -> str:
    text: str = fields["refusal"] if "refusal" in fields else fields["text"]
    return text
