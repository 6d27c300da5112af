"""Request bodies of every size, and upstreams that do not want to hear them out."""

import asyncio
import io
from pathlib import Path

import pytest

from proxy.core.errors import Progress, UpstreamError, UpstreamTimeout
from proxy.upstream.client import UpstreamClient
from proxy.upstream.request import BodyFile
from tests.support.asking import ask, ask_whole, impatient
from tests.support.replies import (
    End,
    chat_stream,
    error,
    hang_up,
    raw,
    text,
)
from tests.support.upstream import Upstream

MIB = 1024 * 1024


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
