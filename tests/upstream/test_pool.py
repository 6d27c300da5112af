import asyncio

import pytest

from proxy.upstream.client import UpstreamClient
from proxy.upstream.request import Origin
from tests.support.asking import ask, ask_whole, eventually, origin_of
from tests.support.replies import sse
from tests.support.upstream import Upstream


async def burst(client: UpstreamClient, upstream: Upstream, size: int) -> None:
    """Make so many requests at once."""
    await asyncio.gather(*(ask_whole(client, upstream) for _ in range(size)))


async def test_idle_connections_are_limited(upstream: Upstream) -> None:
    client = UpstreamClient(max_idle_per_origin=2)
    await burst(client, upstream, 5)
    assert client.idle_connections == 2
    await eventually(lambda: client.open_connections == 2)
    await client.close()


async def test_idle_connections_are_closed_after_their_time(upstream: Upstream) -> None:
    client = UpstreamClient(keepalive_s=0.05)
    await burst(client, upstream, 3)
    await upstream.all_closed()
    await eventually(lambda: client.open_connections == 0)
    await burst(client, upstream, 2)  # and again, with a new timer
    await upstream.all_closed()
    assert len(upstream.links) == 5
    await client.close()


async def test_only_connections_that_were_idle_for_so_long_are_closed(upstream: Upstream) -> None:
    client = UpstreamClient(keepalive_s=100)
    pool = client._pool
    await burst(client, upstream, 3)
    idle = next(iter(pool._idle.values()))
    old, *_ = idle
    idle[old] -= 100
    pool._sweep()
    assert client.idle_connections == 2
    await eventually(lambda: old.closed and client.open_connections == 2)
    for connection in idle:
        idle[connection] -= 100
    pool._sweep()
    assert (client.idle_connections, pool._idle) == (0, {})
    assert pool._sweeper is None
    await client.close()


async def test_connection_that_is_just_being_closed_is_not_used(upstream: Upstream) -> None:
    client = UpstreamClient()
    await burst(client, upstream, 2)
    used_last = list(client._pool._idle[origin_of(upstream)])[-1]
    used_last.abort()
    await ask_whole(client, upstream)
    assert len(upstream.links) == 2
    await client.close()


async def test_one_timer_serves_all_connections(upstream: Upstream) -> None:
    client = UpstreamClient()
    await burst(client, upstream, 3)
    timer = client._pool._sweeper
    await burst(client, upstream, 3)
    assert timer is not None
    assert client._pool._sweeper is timer
    await client.close()
    assert timer.cancelled()


async def test_connections_are_kept_by_origin() -> None:
    client = UpstreamClient()
    async with Upstream() as one, Upstream() as other:
        for _ in range(2):
            await ask_whole(client, one)
            await ask_whole(client, other)
            await ask_whole(client, Origin("http", "localhost", one.port))
        assert (len(one.links), len(other.links)) == (2, 1)
        assert client.idle_connections == 3
        await client.close()


@pytest.mark.parametrize("times", [1, 2])
async def test_close_waits_for_the_sockets(upstream: Upstream, times: int) -> None:
    client = UpstreamClient()
    upstream.reply(sse("a").gated())
    await ask(client, upstream)
    await burst(client, upstream, 2)
    assert client.open_connections == 3
    await asyncio.gather(*(client.close() for _ in range(times)))
    assert (client.open_connections, client.idle_connections) == (0, 0)
    await upstream.all_closed()


async def test_close_of_an_unused_client() -> None:
    client = UpstreamClient()
    await client.close()
    await client.close()


async def test_client_that_is_closed_while_it_connects(upstream: Upstream) -> None:
    client = UpstreamClient()
    asking = asyncio.create_task(ask(client, upstream))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(Exception, match="closed the connection|the upstream client is closed"):
        await asking
    await eventually(lambda: client.open_connections == 0)
    assert upstream.requests == []


async def test_connections_to_others_than_those_kept_are_closed(upstream: Upstream) -> None:
    async with Upstream() as other:
        client = UpstreamClient()
        await burst(client, upstream, 2)
        await burst(client, other, 1)
        client.keep_only({origin_of(other)})
        await upstream.all_closed()
        assert (client.idle_connections, other.open_connections) == (1, 1)
        await burst(client, upstream, 1)  # as for a request that began before
        await upstream.all_closed()
        client.keep_only({origin_of(other), origin_of(upstream)})
        await burst(client, upstream, 1)
        assert client.idle_connections == 2
        await client.close()
