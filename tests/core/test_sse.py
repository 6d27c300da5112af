"""Frames, events and canonical form, whole, byte by byte, and at every split."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import sse
from proxy.core.sse import Event, EventTooLarge, FrameSplitter, canonical, is_canonical_block, parse

# name: bytes of the stream, frames expected
FRAMES = {
    "one event": (b"data: {}\n\n", [b"data: {}\n\n"]),
    "two events": (b"data: 1\n\ndata: 2\n\n", [b"data: 1\n\n", b"data: 2\n\n"]),
    "several lines": (b"event: a\nid: 1\ndata: x\n\n", [b"event: a\nid: 1\ndata: x\n\n"]),
    "CRLF": (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [b"data: 1\n\n", b"data: 2\n\n"]),
    "CR": (b"data: 1\r\rdata: 2\r\r", [b"data: 1\n\n", b"data: 2\n\n"]),
    "LF then CR": (b"data: 1\n\rdata: 2\r\n\n", [b"data: 1\n\n", b"data: 2\n\n"]),
    "CR then CRLF": (b"data: 1\r\r\ndata: 2\r\r\n", [b"data: 1\n\n", b"data: 2\n\n"]),
    "superfluous empty lines": (b"\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n\n", [b"data: 1\n\n", b"data: 2\n\n"]),
    "byte order mark": (b"\xef\xbb\xbfdata: 1\n\n", [b"data: 1\n\n"]),
    "byte order mark on an empty line": (b"\xef\xbb\xbf\ndata: 1\n\n", [b"data: 1\n\n"]),
    "byte order mark alone": (b"\xef\xbb\xbf\n\ndata: 1\n\n", [b"data: 1\n\n"]),
    "byte order mark later on is data": (
        b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n",
        [b"data: 1\n\n", b"\xef\xbb\xbfdata: 2\n\n"],
    ),
    "byte order mark after an empty line is data": (
        b"\n\n\xef\xbb\xbfdata: 2\n\n",
        [b"\xef\xbb\xbfdata: 2\n\n"],
    ),
    "U+2028 and U+0085 end no line": (
        'data: {"a":"x\u2028y\u0085z"}\n\n'.encode(),
        ['data: {"a":"x\u2028y\u0085z"}\n\n'.encode()],
    ),
    "nothing": (b"", []),
}


@pytest.mark.parametrize(("stream", "frames"), FRAMES.values(), ids=FRAMES)
class TestFrameSplitter:
    def test_whole(self, stream: bytes, frames: list[bytes]) -> None:
        splitter = FrameSplitter()
        assert splitter.feed(stream) == frames
        assert splitter.finish() == []

    def test_byte_by_byte(self, stream: bytes, frames: list[bytes]) -> None:
        splitter = FrameSplitter()
        assert [f for i in range(len(stream)) for f in splitter.feed(stream[i : i + 1])] == frames
        assert splitter.finish() == []

    def test_at_every_split_in_two(self, stream: bytes, frames: list[bytes]) -> None:
        for cut in range(len(stream) + 1):
            splitter = FrameSplitter()
            assert splitter.feed(stream[:cut]) + splitter.feed(stream[cut:]) == frames, cut

    def test_with_trailing_data(self, stream: bytes, frames: list[bytes]) -> None:
        splitter = FrameSplitter()
        assert splitter.feed(stream + b"data: rest") == frames
        assert splitter.pending
        assert splitter.finish() == [b"data: rest\n\n"]
        assert not splitter.pending


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"], ids=["bare", "LF", "CR", "CRLF"])
def test_the_last_frame_may_lack_its_empty_line(end: bytes) -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"data: 1\n\ndata: [DONE]" + end) == [b"data: 1\n\n"]
    assert splitter.finish() == [b"data: [DONE]\n\n"]


def test_nothing_is_pending_between_frames() -> None:
    splitter = FrameSplitter()
    assert not splitter.pending
    splitter.feed(b"data: 1\r\n\r")
    assert not splitter.pending
    splitter.feed(b"\nda")
    assert splitter.pending


def test_a_frame_is_delivered_before_the_line_feed_of_its_last_crlf() -> None:
    splitter = FrameSplitter()
    assert splitter.feed(b"data: 1\r\n\r") == [b"data: 1\n\n"]
    assert splitter.feed(b"\ndata: 2\n\n") == [b"data: 2\n\n"]


def test_an_event_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    largest = b"data: " + b"x" * 94
    assert FrameSplitter().feed(largest + b"\n\n") == [largest + b"\n\n"]
    with pytest.raises(EventTooLarge):
        FrameSplitter().feed(largest + b"x\n\n")
    with pytest.raises(EventTooLarge):
        FrameSplitter().feed(b"x" * 101)
    splitter = FrameSplitter()
    splitter.feed(b"x" * 100)
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x")


def test_the_bound_is_told_in_its_error() -> None:
    assert "16 MiB" in str(EventTooLarge())


EVENTS = {
    "data": (b"data: {}\n\n", Event(None, b"{}", None)),
    "data without space": (b"data:{}\n\n", Event(None, b"{}", None)),
    "only one space is dropped": (b"data:  x \n\n", Event(None, b" x ", None)),
    "data without colon": (b"data\n\n", Event(None, b"", None)),
    "empty data": (b"data: \n\n", Event(None, b"", None)),
    "several data lines": (b"data: {\ndata:  1}\n\n", Event(None, b"{\n 1}", None)),
    "event and id": (b"event: ping\nid:7\ndata: x\n\n", Event(b"ping", b"x", b"7")),
    "the last event name holds": (b"event: a\nevent: b\ndata: x\n\n", Event(b"b", b"x", None)),
    "no data": (b"event: ping\n\n", Event(b"ping", None, None)),
    "comments": (b": a\n:b\n\n", Event(None, None, None, (b"a", b"b"))),
    "comment glued to data": (b": a\ndata: x\n\n", Event(None, b"x", None, (b"a",))),
    "unknown fields and retry": (b"retry: 3\nfoo: bar\ndata: x\n\n", Event(None, b"x", None)),
    "colons in the data": (b"data: a: b\n\n", Event(None, b"a: b", None)),
}


@pytest.mark.parametrize(("frame", "event"), EVENTS.values(), ids=EVENTS)
def test_parse(frame: bytes, event: Event) -> None:
    assert parse(frame) == event


# name: frame, canonical in chat, canonical in Messages and Responses
CANONICAL = {
    "canonical already": (b"data: {}\n\n", b"data: {}\n\n", b"data: {}\n\n"),
    "data without space": (b"data:{}\n\n", b"data: {}\n\n", b"data: {}\n\n"),
    "several data lines": (b"data:{\ndata:  1}\n\n", b"data: {\ndata:  1}\n\n", b"data: {\ndata:  1}\n\n"),
    "event and id": (b"event:e\nid: 1\ndata: x\n\n", b"data: x\n\n", b"event: e\nid: 1\ndata: x\n\n"),
    "event alone": (b"event: ping\n\n", b"", b"event: ping\n\n"),
    "retry": (b"retry: 3\ndata: x\n\n", b"data: x\n\n", b"data: x\n\n"),
    "retry alone": (b"retry: 3\n\n", b"", b""),
    "comment": (b": keep-alive\n\n", b": keep-alive\n\n", b": keep-alive\n\n"),
    "comments glued to data": (
        b":a\ndata: x\n: b\n\n",
        b":a\n\n: b\n\ndata: x\n\n",
        b":a\n\n: b\n\ndata: x\n\n",
    ),
    "unknown field": (b"foo:bar\ndata: x\n\n", b"foo:bar\ndata: x\n\n", b"foo:bar\ndata: x\n\n"),
}


@pytest.mark.parametrize(("frame", "chat", "other"), CANONICAL.values(), ids=CANONICAL)
def test_canonical(frame: bytes, chat: bytes, other: bytes) -> None:
    assert canonical(frame, keep_event=False) == chat
    assert canonical(frame, keep_event=True) == other


def test_a_canonical_frame_is_not_touched() -> None:
    frame = b'data: {"a": 1}\n\n'
    assert canonical(frame, keep_event=False) is frame


BLOCKS = {
    "one frame": (b'data: {"a":1}\n\n', True),
    "two frames": (b"data: {}\n\ndata: {}\n\n", True),
    "a braced text in the data": (b'data: {"a":"}\\n\\ndata: {"}\n\n', True),
    "unfinished": (b"data: {}\n", False),
    "finished and begun": (b"data: {}\n\ndata: {", False),
    "begun in the middle": (b"}\n\ndata: {}\n\n", False),
    "no space": (b"data:{}\n\n", False),
    "carriage return": (b"data: {}\r\n\ndata: {}\n\n", False),
    "not an object": (b"data: [DONE]\n\n", False),
    "an end of stream among them": (b"data: {}\n\ndata: [DONE]\n\n", False),
    "an end of stream between them": (b"data: {}\n\ndata: [DONE]\n\ndata: {}\n\n", False),
    "an event line": (b"data: {}\n\nevent: x\ndata: {}\n\n", False),
    "a comment": (b"data: {}\n\n: hello\n\ndata: {}\n\n", False),
    "a comment glued to the data": (b"data: {}\n: hello}\n\n", False),
    "several data lines": (b"data: {\ndata: }\n\n", False),
    "a superfluous empty line": (b"data: {}\n\n\ndata: {}\n\n", False),
    "an object that does not end": (b"data: {\n\ndata: {}\n\n", False),
    "nothing": (b"", False),
}


@pytest.mark.parametrize(("chunk", "expected"), BLOCKS.values(), ids=BLOCKS)
def test_is_canonical_block(chunk: bytes, expected: bool) -> None:
    assert is_canonical_block(chunk) is expected


# Streams that hold what the format is made of, far more often than chance would.
pieces = st.sampled_from(
    [
        *(b"\n", b"\r", b"\r\n", b"\n\n", b"data: ", b"data:", b"data", b"event: e", b"id: 1", b"retry: 1"),
        *(b":", b"{}", b"{", b"}", b" ", b"x", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85", b"\xc3\xa9"),
    ]
)
streams = st.lists(pieces, max_size=40).map(b"".join)


def split_all(stream: bytes) -> list[bytes]:
    splitter = FrameSplitter()
    return splitter.feed(stream) + splitter.finish()


@given(streams, st.data())
def test_the_splits_of_the_bytes_never_change_the_frames(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter = FrameSplitter()
    bounds = [0, *cuts, len(stream)]
    frames = [f for start, end in itertools.pairwise(bounds) for f in splitter.feed(stream[start:end])]
    assert frames + splitter.finish() == split_all(stream)


@given(streams, st.booleans())
def test_canonical_form_is_stable_and_keeps_the_data(stream: bytes, keep_event: bool) -> None:
    for frame in split_all(stream):
        once = canonical(frame, keep_event=keep_event)
        parts = split_all(b"\n\n" + once)  # not at the start, where a byte order mark would be dropped
        assert b"".join(canonical(part, keep_event=keep_event) for part in parts) == once
        datas = [data for part in parts if (data := parse(part).data) is not None]
        assert datas == [data for data in [parse(frame).data] if data is not None]
        assert tuple(comment for part in parts for comment in parse(part).comments) == parse(frame).comments


@given(streams)
def test_a_canonical_block_is_its_frames_untouched(stream: bytes) -> None:
    if is_canonical_block(stream):
        frames = split_all(stream)
        assert b"".join(frames) == stream
        assert all(frame.startswith(b"data: {") and frame.endswith(b"}\n\n") for frame in frames)
        assert all(frame.count(b"\n") == 2 for frame in frames)


@given(st.lists(st.dictionaries(st.text(), st.text()), min_size=1))
def test_blocks_of_json_objects_take_the_fast_path(objects: list[dict[str, str]]) -> None:
    chunk = b"".join(b"data: %s\n\n" % json.dumps(o, ensure_ascii=False).encode("utf-8") for o in objects)
    assert is_canonical_block(chunk)
    assert [parse(frame).data for frame in split_all(chunk)] == [
        json.dumps(o, ensure_ascii=False).encode() for o in objects
    ]


@given(streams)
def test_parsing_follows_the_standard(stream: bytes) -> None:
    """A second reading of the standard, line by line, gives the same data for the whole stream."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    expected: list[bytes] = []
    data: list[bytes] = []
    for line in [*text.split(b"\n"), b""]:
        if line == b"":
            if data:
                expected.append(b"\n".join(data))
            data = []
        elif line.startswith(b"data:"):
            value = line[5:]
            data.append(value[1:] if value.startswith(b" ") else value)
        elif line == b"data":
            data.append(b"")
    assert [d for frame in split_all(stream) if (d := parse(frame).data) is not None] == expected
