"""Every way in which an upstream can fail: the code, the progress, and what it leaves behind."""

import pytest

from proxy.core.errors import Progress, UpstreamError, UpstreamFailure, UpstreamTimeout, UpstreamTruncated
from proxy.upstream.client import UpstreamClient
from proxy.upstream.request import Deadlines, Origin
from tests.support.asking import ask_whole, failure_of, impatient
from tests.support.ports import refusing_port, silent_port
from tests.support.replies import (
    End,
    Framing,
    Reply,
    chat,
    chat_stream,
    hang,
    hang_up,
    raw,
    reset,
    text,
)
from tests.support.upstream import Upstream

HEAD = b"HTTP/1.1 200 OK\r\n"

INVALID_HEADS = {
    "garbage": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "html": b"<html>not http</html>",
    "http 0.9": b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "http 2": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "status 999": b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 What\r\ncontent-length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nxyz",
    "nul in header": HEAD + b"x-a: b\0c\r\ncontent-length: 0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "length and chunked": HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "negative length": HEAD + b"content-length: -5\r\n\r\nhello",
    "endless length": HEAD + b"content-length: 99999999999999999999999\r\n\r\nhello",
    "other transfer coding": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "one long header": HEAD + b"x-a: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "many bytes of headers": HEAD + b"x-a: %b\r\n" % (b"a" * 1000) * 80 + b"content-length: 0\r\n\r\n",
    "10,000 headers": HEAD + b"x-a: b\r\n" * 10_000 + b"content-length: 0\r\n\r\n",
    "257 headers": HEAD + b"x: y\r\n" * 256 + b"content-length: 0\r\n\r\n",
    "endless header": HEAD + b"x-a: " + b"a" * 300_000,
}


@pytest.mark.parametrize("answer", INVALID_HEADS.values(), ids=INVALID_HEADS.keys())
@pytest.mark.parametrize("piece", [None, 1000], ids=["whole", "in pieces"])
async def test_invalid_answers(
    client: UpstreamClient, upstream: Upstream, answer: bytes, piece: int | None
) -> None:
    reply = raw(answer, end=End.HANG)
    upstream.reply(reply if piece is None else reply.in_pieces(piece))
    received, failure = await failure_of(client, upstream)
    assert (type(failure), failure.code) == (UpstreamError, "upstream_invalid_response")
    assert failure.progress is Progress.SENT
    assert received == b""
    await upstream.all_closed()


BROKEN: dict[str, tuple[Reply, type[UpstreamFailure], str, Progress]] = {
    "closed without a byte": (hang_up(), UpstreamError, "upstream_reset", Progress.SENT),
    "reset without a byte": (reset(), UpstreamError, "upstream_reset", Progress.SENT),
    "closed within the headers": (
        chat().cut(40, End.CLOSE), UpstreamError, "upstream_invalid_response", Progress.SENT
    ),
    "reset within the headers": (chat().cut(40, End.RESET), UpstreamError, "upstream_reset", Progress.SENT),
    "closed after the headers": (
        chat().broken(0, End.CLOSE), UpstreamTruncated, "upstream_stream_truncated", Progress.HEADERS
    ),
    "reset after the headers": (
        chat().broken(0, End.RESET), UpstreamTruncated, "upstream_reset", Progress.HEADERS
    ),
    "closed in a body with a length": (
        chat().cut(150, End.CLOSE), UpstreamTruncated, "upstream_stream_truncated", Progress.BODY
    ),
    "length too large": (
        text("hello").with_headers(("content-length", "6")).then(End.CLOSE),
        UpstreamTruncated, "upstream_stream_truncated", Progress.BODY,
    ),
    "reset in a body with a length": (
        chat().cut(150, End.RESET), UpstreamTruncated, "upstream_reset", Progress.BODY
    ),
    "closed between chunks": (
        chat_stream("a", "b").broken(2, End.CLOSE), UpstreamTruncated, "upstream_stream_truncated",
        Progress.BODY,
    ),
    "closed within a chunk": (
        chat_stream("a", "b").cut(120, End.CLOSE), UpstreamTruncated, "upstream_stream_truncated",
        Progress.BODY,
    ),
    "closed before the last chunk": (
        chat_stream("a", done=False).broken(99, End.CLOSE), UpstreamTruncated, "upstream_stream_truncated",
        Progress.BODY,
    ),
    "reset between chunks": (
        chat_stream("a", "b").broken(2, End.RESET), UpstreamTruncated, "upstream_reset", Progress.BODY
    ),
    "reset where the end would be the end": (
        chat().framed(Framing.EOF).then(End.RESET), UpstreamTruncated, "upstream_reset", Progress.BODY
    ),
    "bad chunk size": (
        raw(HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nworld\r\n", end=End.HANG),
        UpstreamError, "upstream_invalid_response", Progress.BODY,
    ),
    "endless chunk extension": (
        raw(HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5;" + b"a" * 300_000, end=End.HANG),
        UpstreamError, "upstream_invalid_response", Progress.BODY,
    ),
    "endless trailers": (
        raw(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 300, end=End.HANG),
        UpstreamError, "upstream_invalid_response", Progress.HEADERS,
    ),
    "eleven interim answers": (
        chat().interim(*[103] * 11), UpstreamError, "upstream_invalid_response", Progress.SENT
    ),
    "closed after an interim answer": (
        raw(b"HTTP/1.1 100 Continue\r\n\r\n", end=End.CLOSE), UpstreamError, "upstream_invalid_response",
        Progress.SENT,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "kind", "code", "progress"), BROKEN.values(), ids=BROKEN.keys())
async def test_broken_answers(
    client: UpstreamClient,
    upstream: Upstream,
    reply: Reply,
    kind: type[UpstreamFailure],
    code: str,
    progress: Progress,
) -> None:
    upstream.reply(reply)
    received, failure = await failure_of(client, upstream)
    assert (failure.code, failure.progress) == (code, progress)
    assert isinstance(failure, kind)
    assert isinstance(failure, UpstreamTruncated) is (kind is UpstreamTruncated)
    assert reply.body.startswith(received) or received == b"hello"
    assert bool(received) is (progress is Progress.BODY)
    await upstream.all_closed()
    assert len(upstream.requests) == 1  # a fresh connection is not replaced
    assert await ask_whole(client, upstream)  # and the next request succeeds


SLOW: dict[str, tuple[Reply, Deadlines, str, Progress]] = {
    "no answer": (hang(), impatient(first_byte_s=0.05), "upstream_first_byte_timeout", Progress.SENT),
    "half the headers": (
        chat().cut(40, End.HANG), impatient(first_byte_s=0.05), "upstream_first_byte_timeout", Progress.SENT
    ),
    "an interim answer": (
        raw(b"HTTP/1.1 103 Early Hints\r\n\r\n", end=End.HANG), impatient(first_byte_s=0.05),
        "upstream_first_byte_timeout", Progress.SENT,
    ),
    "headers and no body": (
        chat_stream().broken(0, End.HANG), impatient(first_byte_s=0.3, idle_s=0.01),
        "upstream_first_byte_timeout", Progress.HEADERS,
    ),
    "stalled stream": (
        chat_stream("a", "b").broken(2, End.HANG), impatient(idle_s=0.05), "upstream_idle_timeout",
        Progress.BODY,
    ),
    "stalled body": (
        chat().cut(150, End.HANG), impatient(idle_s=0.05), "upstream_idle_timeout", Progress.BODY
    ),
    "too long in total, unanswered": (
        hang(), impatient(total_s=0.05), "upstream_total_timeout", Progress.SENT
    ),
    "too long in total, streaming": (
        chat_stream("a").broken(2, End.HANG), impatient(total_s=0.3), "upstream_total_timeout", Progress.BODY
    ),
}  # fmt: skip


@pytest.mark.parametrize(("reply", "deadlines", "code", "progress"), SLOW.values(), ids=SLOW.keys())
async def test_slow_answers(
    client: UpstreamClient,
    upstream: Upstream,
    reply: Reply,
    deadlines: Deadlines,
    code: str,
    progress: Progress,
) -> None:
    upstream.reply(reply)
    received, failure = await failure_of(client, upstream, deadlines=deadlines)
    assert isinstance(failure, UpstreamTimeout)
    assert (failure.code, failure.progress) == (code, progress)
    assert bool(received) is (progress is Progress.BODY)
    await upstream.all_closed()
    assert await ask_whole(client, upstream)


async def test_connection_refused(client: UpstreamClient) -> None:
    with refusing_port() as port:
        _, failure = await failure_of(client, Origin("http", "127.0.0.1", port))
    assert (type(failure), failure.code) == (UpstreamError, "upstream_connect_failed")
    assert failure.progress is Progress.NOT_CONNECTED
    assert str(failure) == f"cannot connect to 127.0.0.1:{port}: Connection refused"


async def test_connection_neither_accepted_nor_refused(client: UpstreamClient) -> None:
    with silent_port() as port:
        _, failure = await failure_of(
            client, Origin("http", "127.0.0.1", port), deadlines=impatient(connect_s=0.05)
        )
    assert (type(failure), failure.code) == (UpstreamTimeout, "upstream_connect_timeout")
    assert failure.progress is Progress.NOT_CONNECTED


@pytest.mark.parametrize("host", ["no-such-host.invalid", "::ffff:256.1.1.1"])
async def test_name_that_cannot_be_resolved(client: UpstreamClient, host: str) -> None:
    _, failure = await failure_of(client, Origin("http", host, 80))
    assert failure.code == "upstream_connect_failed"
    assert failure.progress is Progress.NOT_CONNECTED
    assert str(failure).startswith(f"cannot connect to {host}:80: its name cannot be resolved: ")
