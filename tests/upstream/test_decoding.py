import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import Progress, UpstreamError, UpstreamTruncated
from proxy.upstream.client import UpstreamClient
from proxy.upstream.decoding import PIECE_BYTES, Decoder, UndecodableBody
from tests.support.asking import ask, failure_of
from tests.support.replies import End, Framing, Reply, chat, chat_stream, sse, text
from tests.support.upstream import Upstream

ENCODINGS = ["gzip", "deflate", "raw-deflate"]


def compress(data: bytes, encoding: str) -> bytes:
    bits = {"gzip": 31, "deflate": 15, "raw-deflate": -15}[encoding]
    compressor = zlib.compressobj(wbits=bits)
    return compressor.compress(data) + compressor.flush()


def decode(encoding: str, *blocks: bytes) -> list[bytes]:
    decoder = Decoder(encoding.removeprefix("raw-").encode())
    pieces = []
    for block in blocks:
        decoder.feed(block)
        while piece := decoder.take():
            pieces.append(piece)
    decoder.finish()
    return pieces


@given(st.binary(max_size=300), st.sampled_from(ENCODINGS), st.integers(1, 50))
def test_what_was_compressed_is_decoded(data: bytes, encoding: str, size: int) -> None:
    compressed = compress(data, encoding)
    assert b"".join(decode(encoding, compressed)) == data
    blocks = [compressed[start : start + size] for start in range(0, len(compressed), size)]
    assert b"".join(decode(encoding, *blocks)) == data


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pieces_are_bounded(encoding: str) -> None:
    bomb = compress(bytes(50_000_000), encoding)
    assert len(bomb) < 60_000
    pieces = decode(encoding, bomb)
    assert max(map(len, pieces)) == PIECE_BYTES
    assert sum(map(len, pieces)) == 50_000_000


def test_members_of_a_gzip_file_follow_each_other() -> None:
    data = gzip.compress(b"one", mtime=0) + gzip.compress(b"") + gzip.compress(b"two")
    assert b"".join(decode("gzip", data)) == b"onetwo"
    assert b"".join(decode("X-GZip ", data)) == b"onetwo"


def test_no_byte_at_all_is_a_complete_body() -> None:
    for encoding in ENCODINGS:
        assert decode(encoding) == []
        assert decode(encoding, b"") == []


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bodies_that_end_too_early(encoding: str) -> None:
    compressed = compress(b"hello, world", encoding)
    for size in range(1, len(compressed)):
        with pytest.raises(UndecodableBody, match="ended too early"):
            decode(encoding, compressed[:size])


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", b"hello, world"),
        ("gzip", gzip.compress(b"hello", mtime=0)[:-8] + b"12345678"),
        ("gzip", gzip.compress(b"hello", mtime=0) + b"garbage after it"),
        ("deflate", b"\xff\xff\xff\xff\xff"),
        ("deflate", zlib.compress(b"hello")[:-1] + b"?"),
        ("deflate", zlib.compress(b"hello") + b"garbage after it"),
    ],
)
def test_damaged_bodies(encoding: str, data: bytes) -> None:
    with pytest.raises(UndecodableBody, match=f"damaged {encoding}"):
        decode(encoding, data)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "", "\xe9" * 100])
def test_other_encodings(encoding: str) -> None:
    with pytest.raises(UndecodableBody, match="content-encoding"):
        Decoder(encoding.encode("latin-1"))


# Through the client


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("piece", [None, 1], ids=["whole", "byte by byte"])
async def test_answers_that_are_compressed(
    client: UpstreamClient, upstream: Upstream, encoding: str, piece: int | None
) -> None:
    plain = chat("hello" * 50)
    reply = plain.compressed(encoding)
    upstream.reply(reply if piece is None else reply.in_pieces(piece))
    response = await ask(client, upstream)
    assert response.headers == [(b"content-type", b"application/json")]
    assert await response.read_all(10_000) == plain.body
    assert await response.read() is None
    assert client.idle_connections == 1


async def test_streams_that_are_compressed_come_as_they_are_sent(
    client: UpstreamClient, upstream: Upstream
) -> None:
    frames = [b"data: one\n\n", b"data: two\n\n"]
    reply = sse(*frames).gated().compressed()
    upstream.reply(reply)
    response = await ask(client, upstream)
    for gate, frame in zip(reply.gates, frames, strict=True):
        gate.open()
        assert await response.read() == frame
    assert await response.read() is None


async def test_nudge_of_a_compressed_answer(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.reply(sse("one").compressed().broken(1, End.HANG))
    response = await ask(client, upstream)
    assert await response.read() == b"data: one\n\n"
    response._inbox._loop.call_soon(response.nudge)
    assert await response.read() == b""
    response.close()


async def test_limit_holds_for_what_was_decoded(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.reply(text(bytes(20_000_000)).compressed())
    response = await ask(client, upstream)
    with pytest.raises(UpstreamError, match="more than 1000000 bytes"):
        await response.read_all(1_000_000)
    upstream.reply(text(bytes(20_000_000)).compressed())
    response = await ask(client, upstream)
    assert len(await response.read_all(20_000_000)) == 20_000_000


@pytest.mark.parametrize(
    ("reply", "progress"),
    [
        (text("not gzip").with_headers(("content-encoding", "gzip")), Progress.BODY),
        (
            text(gzip.compress(b"hello", mtime=0)[:-3]).with_headers(("content-encoding", "gzip")),
            Progress.BODY,
        ),
        (text("xyz").with_headers(("content-encoding", "br")), Progress.HEADERS),
    ],
    ids=["damaged", "ended early", "unknown"],
)
@pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED])
async def test_answers_that_cannot_be_decoded(
    client: UpstreamClient, upstream: Upstream, reply: Reply, progress: Progress, framing: Framing
) -> None:
    upstream.reply(reply.framed(framing))
    _, failure = await failure_of(client, upstream)
    assert (type(failure), failure.code) == (UpstreamError, "upstream_invalid_response")
    assert failure.progress in (progress, Progress.BODY)


async def test_damaged_stream_is_closed(client: UpstreamClient, upstream: Upstream) -> None:
    reply = sse("not gzip").with_headers(("content-encoding", "gzip")).broken(1, End.HANG)
    upstream.reply(reply)
    _, failure = await failure_of(client, upstream)
    assert failure.code == "upstream_invalid_response"
    await upstream.all_closed()


async def test_compressed_answer_that_breaks_off(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.reply(chat_stream("a", "b").compressed().broken(2, End.CLOSE))
    received, failure = await failure_of(client, upstream)
    assert isinstance(failure, UpstreamTruncated)
    assert received.startswith(b"data: ")


async def test_identity_is_no_encoding(client: UpstreamClient, upstream: Upstream) -> None:
    upstream.reply(text("hello").with_headers(("content-encoding", "Identity")))
    response = await ask(client, upstream)
    assert await response.read_all(10) == b"hello"
