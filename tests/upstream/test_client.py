import asyncio
import io
import logging
from pathlib import Path

import pytest

from proxy.core.errors import Progress, UpstreamError, UpstreamTimeout
from proxy.upstream.client import UpstreamClient
from proxy.upstream.connection import MAX_UNREAD_BYTES
from proxy.upstream.request import BodyFile
from tests.support.asking import ask, ask_whole, eventually, failure_of, impatient
from tests.support.replies import (
    End,
    Framing,
    Reply,
    chat,
    chat_stream,
    error,
    hang,
    hang_up,
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
    if piece is not None and len(b"".join(reply.steps())) > 10_000:
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


# Keeping connections


async def test_one_connection_serves_one_request_after_the_other(
    client: UpstreamClient, upstream: Upstream
) -> None:
    for _ in range(3):
        await ask_whole(client, upstream)
    assert (len(upstream.requests), len(upstream.links)) == (3, 1)
    assert (client.open_connections, client.idle_connections) == (1, 1)


async def test_requests_at_once_have_a_connection_each(client: UpstreamClient, upstream: Upstream) -> None:
    await asyncio.gather(*(ask_whole(client, upstream) for _ in range(5)))
    assert len(upstream.links) == 5
    assert (client.open_connections, client.idle_connections) == (5, 5)


async def test_connection_used_last_is_used_next(client: UpstreamClient, upstream: Upstream) -> None:
    replies = [sse("a").gated(), sse("b").gated()]
    upstream.reply(*replies)
    responses = [await ask(client, upstream) for _ in replies]
    for index in (1, 0):
        replies[index].open_all()
        await responses[index].read_all(MIB)
    await ask_whole(client, upstream)
    assert [len(link.requests) for link in upstream.links] == [2, 1]


async def test_finished_answer_frees_its_connection_before_it_is_read(
    client: UpstreamClient, upstream: Upstream
) -> None:
    upstream.reply(text("first"), text("second"))
    first = await ask(client, upstream)
    second = await ask(client, upstream)
    assert await second.read_all(MIB) == b"second"
    assert await first.read_all(MIB) == b"first"
    assert len(upstream.links) == 1


async def test_close_of_an_unfinished_answer_closes_the_connection(
    client: UpstreamClient, upstream: Upstream
) -> None:
    upstream.reply(chat_stream("a").broken(2, End.HANG))
    response = await ask(client, upstream)
    assert await response.read()
    response.close()
    response.close()
    await upstream.all_closed()
    with pytest.raises(RuntimeError, match="closed by its reader"):
        await response.read()
    assert client.idle_connections == 0


async def test_close_of_a_finished_answer_keeps_the_connection(
    client: UpstreamClient, upstream: Upstream
) -> None:
    response = await ask(client, upstream)
    await response.read_all(MIB)
    response.close()
    response.close()
    assert (client.open_connections, client.idle_connections) == (1, 1)


async def test_bytes_on_an_idle_connection_close_it(client: UpstreamClient, upstream: Upstream) -> None:
    await ask_whole(client, upstream)
    upstream.links[0].transport.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    await upstream.all_closed()
    assert client.idle_connections == 0
    await ask_whole(client, upstream)
    assert len(upstream.links) == 2


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_idle_connection_that_the_upstream_closes_is_forgotten(
    client: UpstreamClient, upstream: Upstream, end: End
) -> None:
    await ask_whole(client, upstream)
    upstream.close_links(end)
    await upstream.all_closed()
    await eventually(lambda: client.open_connections == 0)
    assert client.idle_connections == 0


# Connections that the upstream closes just as they are used again


@pytest.mark.parametrize("reply", [hang_up(), reset()], ids=["closed", "reset"])
async def test_stale_connection_is_replaced_silently(
    client: UpstreamClient, upstream: Upstream, reply: Reply
) -> None:
    await ask_whole(client, upstream)
    upstream.reply(reply, text("hello"))
    assert await ask_whole(client, upstream) == b"hello"
    assert len(upstream.links) == 2


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_connection_closed_in_the_same_moment_is_replaced(
    client: UpstreamClient, upstream: Upstream, end: End
) -> None:
    await ask_whole(client, upstream)
    upstream.links[0].finish(end)  # what the client's socket will hear of when it has written
    upstream.reply(text("hello"))
    assert await ask_whole(client, upstream) == b"hello"
    assert len(upstream.links) == 2


async def test_stale_connection_is_replaced_once(client: UpstreamClient, upstream: Upstream) -> None:
    await asyncio.gather(*(ask_whole(client, upstream) for _ in range(3)))
    upstream.reply(hang_up(), hang_up(), text("never"))
    _, failure = await failure_of(client, upstream)
    assert (failure.code, failure.progress) == ("upstream_reset", Progress.SENT)
    assert len(upstream.requests) == 3 + 2


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (chat().cut(3, End.RESET), "upstream_reset"),
        (chat().cut(3, End.CLOSE), "upstream_invalid_response"),
        (hang(), "upstream_first_byte_timeout"),
    ],
    ids=["after a byte", "closed after a byte", "slow"],
)
async def test_other_failures_of_a_reused_connection_are_not_repeated(
    client: UpstreamClient, upstream: Upstream, reply: Reply, code: str
) -> None:
    await ask_whole(client, upstream)
    upstream.reply(reply)
    _, failure = await failure_of(client, upstream, deadlines=impatient(first_byte_s=0.05))
    assert failure.code == code
    assert len(upstream.requests) == 2


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


# Request bodies


@pytest.mark.parametrize("size", [1, 64 * 1024, 64 * 1024 + 1, 5 * MIB])
@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
async def test_request_bodies(
    client: UpstreamClient, upstream: Upstream, tmp_path: Path, size: int, on_disk: bool
) -> None:
    content = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    path = tmp_path / "body"
    path.write_bytes(content)
    with path.open("rb") as file:
        file.seek(size)  # wherever its writer left it
        response = await ask(client, upstream, body=BodyFile(file, size) if on_disk else content, path=b"/x")
        await response.read_all(MIB)
    assert upstream.requests[0].body == content
    assert client.idle_connections == 1


async def test_body_on_disk_is_sent_again_on_a_replaced_connection(
    client: UpstreamClient, upstream: Upstream
) -> None:
    await ask_whole(client, upstream)
    upstream.reply(hang_up(), text("hello"))
    response = await ask(client, upstream, body=BodyFile(io.BytesIO(b"b" * MIB), MIB))
    assert await response.read_all(MIB) == b"hello"
    assert [len(request.body) for request in upstream.requests[1:]] == [MIB, MIB]


async def test_body_file_that_is_too_short(client: UpstreamClient, upstream: Upstream) -> None:
    with pytest.raises(EOFError, match="ended before its 100 bytes"):
        await ask(client, upstream, body=BodyFile(io.BytesIO(b"short"), 100))
    await upstream.all_closed()
    assert client.idle_connections == 0


@pytest.mark.parametrize("end", [End.KEEP, End.CLOSE, End.HANG])
async def test_refusal_while_the_body_is_still_sent(
    client: UpstreamClient, upstream: Upstream, end: End
) -> None:
    reply = error(413, "too large").before_body().then(end)
    upstream.reply(reply)
    response = await ask(client, upstream, body=b"x" * 32 * MIB)
    assert (response.status, await response.read_all(MIB)) == (413, reply.body)
    await upstream.all_closed()
    assert upstream.links[0].received_bytes < 32 * MIB


@pytest.mark.parametrize("size", [100_000, 8 * MIB])
async def test_refusal_by_a_server_that_closes_at_once(client: UpstreamClient, size: int) -> None:
    """The refusal and the reset that follows it come while the client is writing."""
    reply = error(413, "too large").before_body().then(End.CLOSE)
    async with Upstream(threaded=True) as upstream:
        for _ in range(20):
            upstream.reply(reply)
            response = await ask(client, upstream, body=b"x" * size)
            assert (response.status, await response.read_all(MIB)) == (413, reply.body)
            await upstream.all_closed()


async def test_early_success_waits_until_the_body_is_sent(client: UpstreamClient, upstream: Upstream) -> None:
    reply = chat_stream("a").gated().before_body()
    upstream.reply(reply)
    response = await ask(client, upstream, body=b"x" * 8 * MIB)
    await upstream.until(lambda: len(upstream.requests[0].body) == 8 * MIB)
    reply.open_all()
    assert await response.read_all(MIB) == reply.body
    assert client.idle_connections == 1


async def test_upstream_that_stops_reading_the_body(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.reply(raw(end=End.HANG).before_body())
    asking = asyncio.create_task(
        ask(client, upstream, body=b"x" * 32 * MIB, deadlines=impatient(first_byte_s=0.2))
    )
    await upstream.received(1)
    upstream.links[0].transport.pause_reading()
    with pytest.raises(UpstreamTimeout, match=r"sent nothing for 0\.2 s") as caught:
        await asking
    assert (caught.value.code, caught.value.progress) == ("upstream_first_byte_timeout", Progress.SENT)


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_upstream_that_breaks_while_the_body_is_sent(
    client: UpstreamClient, upstream: Upstream, end: End
) -> None:
    upstream.reply(raw(end=end).before_body())
    with pytest.raises(UpstreamError) as caught:
        await ask(client, upstream, body=b"x" * 32 * MIB)
    assert (caught.value.code, caught.value.progress) == ("upstream_reset", Progress.SENT)


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
