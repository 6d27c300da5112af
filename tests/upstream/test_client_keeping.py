"""Connections between requests: kept, closed, and found closed when they are used again."""

import asyncio

import pytest

from proxy.core.errors import Progress
from proxy.upstream.client import UpstreamClient
from tests.support.asking import ask, ask_whole, eventually, failure_of, impatient
from tests.support.replies import (
    End,
    Reply,
    chat,
    chat_stream,
    hang,
    hang_up,
    reset,
    sse,
    text,
)
from tests.support.upstream import Upstream

MIB = 1024 * 1024


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
    _, failure = await failure_of(client, upstream, deadlines=impatient(first_byte_s=0.3))
    assert failure.code == code
    assert len(upstream.requests) == 2
