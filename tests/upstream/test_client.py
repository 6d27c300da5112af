"""What is sent, what is handed on, and how it is read."""

import asyncio
import logging

import pytest

from proxy.core.errors import Progress, UpstreamError
from proxy.upstream.client import UpstreamClient
from proxy.upstream.connection import MAX_UNREAD_BYTES
from tests.support.asking import ask, ask_whole, eventually, failure_of
from tests.support.replies import (
    End,
    Framing,
    Reply,
    chat,
    chat_stream,
    error,
    hang,
    raw,
    redirect,
    reset,
    sse,
    text,
)
from tests.support.upstream import Upstream

MIB = 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\n"


async def test_request_as_it_is_sent(client: UpstreamClient, upstream: Upstream) -> None:
    headers = [(b"authorization", b"Bearer k"), (b"x-a", b"\xe9")]
    response = await ask(client, upstream, headers=headers, body=b"{}")
    await response.read_all(MIB)
    request = upstream.requests[0]
    assert (request.method, request.target, request.body) == ("POST", "/v1/chat/completions", b"{}")
    assert request.headers == [
        ("host", f"127.0.0.1:{upstream.port}"),
        ("accept-encoding", "identity"),
        ("authorization", "Bearer k"),
        ("x-a", "é"),
        ("content-length", "2"),
    ]


@pytest.mark.parametrize(("method", "length"), [("GET", None), ("POST", "0"), ("DELETE", "0")])
async def test_request_without_body(
    client: UpstreamClient, upstream: Upstream, method: str, length: str | None
) -> None:
    response = await ask(client, upstream, method=method, path=b"/v1/models", body=b"")
    await response.read_all(MIB)
    assert upstream.requests[0].header("content-length") == length


async def test_answer_as_it_is_received(client: UpstreamClient, upstream: Upstream) -> None:
    headers = (("X-Request-ID", "r1"), ("Set-Cookie", "a"), ("set-cookie", "b"))
    upstream.reply(text("hello").with_headers(*headers))
    response = await ask(client, upstream)
    assert response.status == 200
    assert response.headers == [
        (b"content-type", b"text/plain"),
        (b"x-request-id", b"r1"),
        (b"set-cookie", b"a"),
        (b"set-cookie", b"b"),
        (b"content-length", b"5"),
    ]
    assert await response.read() == b"hello"
    assert await response.read() is None
    assert await response.read() is None
    assert response.progress is Progress.BODY


ANSWERS: dict[str, tuple[Reply, bool]] = {
    "length": (text("hello"), True),
    "chunked": (text("hello").framed(Framing.CHUNKED), True),
    "until the end": (text("hello").framed(Framing.EOF), False),
    "until the end, unannounced": (raw(HEAD + b"\r\nhello", end=End.CLOSE), False),
    "HTTP/1.0": (raw(b"HTTP/1.0 200 OK\r\n\r\nhello", end=End.CLOSE), False),
    "HTTP/1.0 kept": (
        raw(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello"), True
    ),
    "announced close": (text("hello").with_headers(("connection", "close")), False),
    "announced close, but left open": (
        text("hello").with_headers(("connection", "close")).then(End.HANG), False
    ),
    "trailers": (
        raw(HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-trailer: t\r\n\r\n"), True
    ),
    "chunk extensions": (
        raw(HEAD + b"transfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"), True
    ),
    "interim answers": (text("hello").interim(100, 103, 102), True),
    "ten interim answers": (text("hello").interim(*[103] * 10), True),
    "no reason phrase": (raw(b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello"), True),
    "empty lines before": (raw(b"\r\n\r\n" + HEAD + b"content-length: 5\r\n\r\nhello"), True),
    "empty line after": (raw(HEAD + b"content-length: 5\r\n\r\nhello\r\n"), True),
    "bytes after the end": (raw(HEAD + b"content-length: 5\r\n\r\nhello, world"), False),
    "another answer after the end": (
        raw((HEAD + b"content-length: 5\r\n\r\nhello") + HEAD + b"content-length: 3\r\n\r\nbad"), False
    ),
    "many headers": (raw(HEAD + b"x: y\r\n" * 255 + b"content-length: 5\r\n\r\nhello"), True),
    "large headers": (
        raw(HEAD + b"x: %b\r\n" % (b"y" * 60_000) + b"content-length: 5\r\n\r\nhello"), True
    ),
    "upgrade offered": (
        raw(HEAD + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n\r\nhello"), True
    ),
}  # fmt: skip


@pytest.mark.parametrize("piece", [None, 1, 7], ids=["whole", "byte by byte", "in sevens"])
@pytest.mark.parametrize(("reply", "kept"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_answers(
    client: UpstreamClient, upstream: Upstream, reply: Reply, kept: bool, piece: int | None
) -> None:
    if piece is not None and len(reply.body) > 10_000:
        piece *= 1000
    upstream.reply(reply if piece is None else reply.in_pieces(piece))
    assert await ask_whole(client, upstream) == b"hello"
    if not kept:
        await upstream.all_closed()
    assert await ask_whole(client, upstream)
    assert len(upstream.links) == (1 if kept else 2)


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_that_have_no_body(client: UpstreamClient, upstream: Upstream, status: int) -> None:
    upstream.reply(raw(b"HTTP/1.1 %d X\r\ncontent-length: 5\r\n\r\n" % status))
    response = await ask(client, upstream)
    assert (response.status, await response.read()) == (status, None)
    assert response.progress is Progress.HEADERS
    assert client.idle_connections == 1


@pytest.mark.parametrize(
    "reply",
    [redirect("http://127.0.0.1:1/"), error(401), error(404), error(429), error(529)],
    ids=lambda reply: str(reply.status),
)
async def test_any_status_is_handed_on(client: UpstreamClient, upstream: Upstream, reply: Reply) -> None:
    upstream.reply(reply)
    response = await ask(client, upstream)
    assert (response.status, await response.read_all(MIB)) == (reply.status, reply.body)
    assert len(upstream.requests) == 1


async def test_redirects_are_not_followed(client: UpstreamClient, upstream: Upstream) -> None:
    async with Upstream() as elsewhere:
        upstream.reply(redirect(f"{elsewhere.url}/chat/completions", 308))
        response = await ask(client, upstream, headers=[(b"authorization", b"Bearer secret")])
        assert response.status == 308
        assert await response.read_all(MIB) == b""
        assert elsewhere.links == []


async def test_stream_is_handed_on_as_it_comes(client: UpstreamClient, upstream: Upstream) -> None:
    reply = chat_stream("Hel", "lo").gated()
    upstream.reply(reply)
    response = await ask(client, upstream)
    frames = [part for part in reply.parts if isinstance(part, bytes)]
    for gate, frame in zip(reply.gates, frames, strict=True):
        gate.open()
        assert await response.read() == frame
    assert await response.read() is None
    assert client.idle_connections == 1


async def test_blocks_that_wait_are_joined(client: UpstreamClient, upstream: Upstream) -> None:
    reply = chat_stream("Hel", "lo")
    upstream.reply(reply)
    response = await ask(client, upstream)
    await eventually(lambda: client.idle_connections == 1)
    assert await response.read() == reply.body


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (b"/v1\r\nx: y", []),
        (b"/v1", [(b"x", b"y\r\nz: injected")]),
        (b"/v1", [(b"x", b"y\nz: injected")]),
        (b"/v1", [(b"x\r", b"y")]),
    ],
)
async def test_line_breaks_cannot_be_smuggled_into_a_request(
    client: UpstreamClient, upstream: Upstream, path: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    with pytest.raises(ValueError, match="line break"):
        await ask(client, upstream, path=path, headers=headers)
    assert upstream.links == []


# Reading


async def test_nudge_makes_a_waiting_read_return(client: UpstreamClient, upstream: Upstream) -> None:
    reply = sse("one").gated()
    upstream.reply(reply)
    response = await ask(client, upstream)
    response.nudge()  # nobody waits
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    response.nudge()
    response.nudge()
    assert await reading == b""
    reply.open_all()
    assert await response.read() == b"data: one\n\n"
    response.nudge()
    assert await response.read() is None


async def test_read_all_refuses_more_than_its_limit(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.reply(text("x" * 1000))
    response = await ask(client, upstream)
    with pytest.raises(UpstreamError, match="more than 999 bytes") as caught:
        await response.read_all(999)
    assert (caught.value.code, caught.value.progress) == ("upstream_invalid_response", Progress.BODY)
    upstream.reply(text("x" * 1000))
    response = await ask(client, upstream)
    assert len(await response.read_all(1000)) == 1000


async def test_read_all_of_nothing(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.reply(text(""))
    assert await ask_whole(client, upstream) == b""


async def test_cancelled_read_closes_the_connection(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.reply(chat_stream("a").broken(1, End.HANG))
    response = await ask(client, upstream)
    await response.read()
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await upstream.all_closed()
    assert client.idle_connections == 0


async def test_close_ends_a_waiting_read(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.reply(chat_stream("a").broken(0, End.HANG))
    response = await ask(client, upstream)
    reading = asyncio.create_task(response.read())
    await asyncio.sleep(0)
    response.close()
    with pytest.raises(RuntimeError, match="closed by its reader"):
        await reading


async def test_slow_reader_stops_the_upstream(client: UpstreamClient, upstream: Upstream) -> None:
    size = 64 * MIB
    upstream.reply(text(b"x" * size))
    response = await ask(client, upstream)
    link = upstream.links[0]
    unread = response._inbox
    # The reader does nothing: the upstream is stopped by what the kernel holds between the two.
    await eventually(lambda: unread.unread > MAX_UNREAD_BYTES)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert unread.unread <= MAX_UNREAD_BYTES + 256 * 1024  # one block of the event loop's more
    assert link.sent_bytes < size / 2
    assert len(await response.read_all(size)) == size
    assert client.idle_connections == 1


# The client's own life


async def test_close_ends_what_is_running(upstream: Upstream) -> None:
    client = UpstreamClient()
    await ask_whole(client, upstream)
    upstream.reply(chat_stream("a").broken(1, End.HANG), hang())
    response = await ask(client, upstream)
    await response.read()
    asking = asyncio.create_task(ask(client, upstream))
    await upstream.received(3)
    await client.close()
    assert client.open_connections == 0
    with pytest.raises(UpstreamError):
        await response.read()
    with pytest.raises(UpstreamError):
        await asking
    with pytest.raises(RuntimeError, match="client is closed"):
        await ask(client, upstream)
    await client.close()
    await upstream.all_closed()


async def test_nothing_is_logged_of_ordinary_failures(
    client: UpstreamClient, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.reply(reset(), chat_stream("a").broken(1, End.RESET), chat().cut(30, End.CLOSE))
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            await failure_of(client, upstream)
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
