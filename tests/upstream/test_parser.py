"""The parser by itself: every case whole, byte by byte, and with data behind it."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import Progress
from proxy.upstream.inbox import Inbox
from proxy.upstream.parser import MAX_HEAD_BYTES, MAX_HEADERS, AnswerParser, InvalidAnswer

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def parse(*blocks: bytes) -> tuple[AnswerParser, Inbox]:
    parser = AnswerParser()
    inbox = Inbox(asyncio.new_event_loop())
    inbox._loop.close()
    parser.expect(inbox)
    for block in blocks:
        parser.feed(block)
    return parser, inbox


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


ANSWERS = {
    "length": (HEAD + b"Content-Length: 5\r\n\r\nhello", 200, b"hello"),
    "no body": (HEAD + b"content-length: 0\r\n\r\n", 200, b""),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, b""),
    "chunked": (CHUNKED + b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", 200, b"hello"),
    "chunked with trailers": (CHUNKED + b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n", 200, b"hello"),
    "Chunked": (HEAD + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, b"hello"),
    "interim": (
        b"HTTP/1.1 100 Continue\r\nx: 1\r\n\r\n" + HEAD + b"content-length: 5\r\n\r\nhello",
        200,
        b"hello",
    ),
    "error": (b"HTTP/1.1 503 Busy\r\ncontent-length: 5\r\n\r\nhello", 503, b"hello"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "status", "body"), ANSWERS.values(), ids=ANSWERS.keys())
def test_complete_answers(data: bytes, status: int, body: bytes) -> None:
    for blocks in ([data], bytewise(data)):
        parser, inbox = parse(*blocks)
        assert (inbox.status, inbox.take() if body else b"", inbox.complete) == (status, body, True)
        assert inbox.progress is (Progress.BODY if body else Progress.HEADERS)
        assert parser.reusable
        assert not any(name.startswith(b"x") for name, _ in inbox.headers)


@pytest.mark.parametrize(("data", "status", "body"), ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("rest", [b"x", b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 3\r\n\r\nbad"])
def test_data_behind_an_answer(data: bytes, status: int, body: bytes, rest: bytes) -> None:
    for blocks in ([data + rest], [data, rest], bytewise(data + rest)):
        parser, inbox = parse(*blocks)
        assert (inbox.status, inbox.take() if body else b"", inbox.complete) == (status, body, True)
        assert not parser.reusable
        assert (b"x", b"y") not in inbox.headers


@pytest.mark.parametrize(("data", "status", "body"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers_are_incomplete_until_their_last_byte(data: bytes, status: int, body: bytes) -> None:
    for size in range(1, len(data)):
        parser, inbox = parse(data[:size])
        assert parser.received
        assert not inbox.complete
        assert not parser.ends_with_connection()


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), st.lists(st.integers(1, 60), max_size=20))
def test_boundaries_change_nothing(chunks: list[bytes], sizes: list[int]) -> None:
    data = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    blocks = []
    start = 0
    for size in sizes:
        blocks.append(data[start : start + size])
        start += size
    _, inbox = parse(*filter(None, blocks), data[start:] or b"")
    assert inbox.complete
    assert b"".join(inbox.parts) == b"".join(chunks)
    assert inbox.unread == sum(map(len, chunks))


def test_answers_on_one_connection() -> None:
    parser, first = parse(CHUNKED + b"1\r\na\r\n0\r\nx: y\r\n\r\n")
    second = Inbox(first._loop)
    parser.expect(second)
    assert not parser.received
    parser.feed(HEAD + b"content-length: 1\r\n\r\nb")
    assert (first.parts, second.parts, second.complete) == ([b"a"], [b"b"], True)
    assert second.headers == [(b"content-length", b"1")]


def test_a_part_that_came_alone_is_handed_on_as_it_is() -> None:
    _, inbox = parse(HEAD + b"content-length: 9\r\n\r\n", b"hello")
    part = inbox.parts[0]
    assert inbox.take() is part
    assert (inbox.parts, inbox.unread) == ([], 0)


@pytest.mark.parametrize(
    ("head", "open_end"),
    [
        (HEAD + b"\r\n", True),
        (HEAD + b"connection: close\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\n\r\n", True),
        (HEAD + b"content-length: 9\r\n\r\n", False),
        (CHUNKED, False),
        (HEAD, False),
    ],
)
def test_answers_that_end_with_the_connection(head: bytes, open_end: bool) -> None:
    parser, _ = parse(head)
    assert parser.ends_with_connection() is open_end
    if open_end:
        parser.feed(b"hello")
        assert parser.ends_with_connection()
        assert not parser.reusable


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (HEAD + b"connection: close\r\ncontent-length: 0\r\n\r\n", False),
        (HEAD + b"connection: keep-alive\r\ncontent-length: 0\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", True),
    ],
)
def test_reuse(data: bytes, reusable: bool) -> None:
    parser, inbox = parse(data)
    assert inbox.complete
    assert parser.reusable is reusable


LINE = b"x-header: value\r\n"
TOO_MUCH = {
    "headers": HEAD + b"a: b\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    "bytes of headers": HEAD + b"a: %b\r\n" % (b"b" * 700) * 100 + b"\r\n",
    "bytes of headers, before much of a body": (
        HEAD + b"a: %b\r\n" % (b"b" * 700) * 100 + b"\r\n" + b"x" * 100_000
    ),
    "an endless header": HEAD + b"a: " + b"b" * (MAX_HEAD_BYTES + 1),
    "interim answers": b"HTTP/1.1 103 Hints\r\n\r\n" * 11,
    "an endless chunk extension": CHUNKED + b"1;" + b"b" * 2 * MAX_HEAD_BYTES,
    "trailers": CHUNKED + b"0\r\n" + b"a: b\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    "an endless trailer": CHUNKED + b"0\r\na: " + b"b" * 2 * MAX_HEAD_BYTES,
}


@pytest.mark.parametrize("data", TOO_MUCH.values(), ids=TOO_MUCH.keys())
@pytest.mark.parametrize("size", [1, 100, 50_000])
def test_too_much(data: bytes, size: int) -> None:
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    with pytest.raises(InvalidAnswer, match="more than"):
        parse(*blocks)


def test_the_most_that_is_allowed() -> None:
    big = HEAD + b"a: %b\r\n" % (b"b" * 60_000) + b"c: d\r\n" * (MAX_HEADERS - 2)
    for blocks in (
        [big, b"content-length: 200000\r\n\r\n"],
        [big + b"content-length: 200000\r\n\r\n" + b"x" * 200_000],
    ):
        _, inbox = parse(*blocks)
        assert inbox.status == 200
        assert len(inbox.headers) == MAX_HEADERS
    assert inbox.complete


def test_long_bodies_in_small_chunks_are_no_overhead() -> None:
    parser, inbox = parse(CHUNKED)
    for _ in range(2 * MAX_HEAD_BYTES // 6):
        parser.feed(b"1\r\nx\r\n")
    parser.feed(b"0\r\n\r\n")
    assert inbox.complete


INVALID = {
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "status 99": b"HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n",
    "status 101": b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
    "status 600": b"HTTP/1.1 600 X\r\ncontent-length: 0\r\n\r\n",
    "transfer-encoding gzip": HEAD + b"transfer-encoding: gzip\r\n\r\n",
    "transfer-encoding gzip, chunked": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "transfer-encoding chunked": HEAD + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n",
    "Expected HTTP/": b"hello, world, this is not HTTP",
    "Duplicate Content-Length": HEAD + b"content-length: 5\r\ncontent-length: 5\r\n\r\n",
}


@pytest.mark.parametrize(("reason", "data"), INVALID.items(), ids=INVALID.keys())
def test_invalid_answers_say_why(reason: str, data: bytes) -> None:
    with pytest.raises(InvalidAnswer, match=reason):
        parse(data)
    with pytest.raises(InvalidAnswer, match=reason):
        parse(*bytewise(data))
