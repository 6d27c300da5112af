"""Cancelled at any await, a call leaves no connection, no waiter and no descriptor behind."""

import asyncio
import contextlib
import gc
import random
import weakref

import pytest

from proxy.core.errors import UpstreamFailure
from proxy.upstream.client import UpstreamClient
from proxy.upstream.connection import Connection
from proxy.upstream.request import Deadlines
from tests.support.asking import PATIENT, ask, ask_whole, eventually, impatient
from tests.support.descriptors import open_descriptors
from tests.support.replies import End, Reply, chat, chat_stream, hang, reset
from tests.support.upstream import Upstream

CALLS = 2000
AT_ONCE = 50


async def call(client: UpstreamClient, upstream: Upstream, size: int, deadlines: Deadlines = PATIENT) -> None:
    response = await ask(client, upstream, body=b"x" * size, deadlines=deadlines)
    try:
        while await response.read() is not None:
            pass
    finally:
        response.close()


async def cancelled_call(client: UpstreamClient, upstream: Upstream, turns: int, size: int) -> None:
    """Run a call for so many turns of the event loop."""
    task = asyncio.create_task(call(client, upstream, size))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_storm_of_cancelled_calls(upstream: Upstream) -> None:
    chance = random.Random(1)
    stalled = chat_stream("a").broken(2, End.HANG)
    replies = [chat(), chat().in_pieces(50), chat_stream(*"abc"), stalled, hang()]
    upstream.handler = lambda request: chance.choice(replies)
    client = UpstreamClient()
    descriptors, tasks = open_descriptors(), len(asyncio.all_tasks())
    for _ in range(CALLS // AT_ONCE):
        await asyncio.gather(
            *(
                cancelled_call(client, upstream, chance.randrange(30), chance.choice([10, 500_000]))
                for _ in range(AT_ONCE)
            )
        )
    await eventually(lambda: client.open_connections == client.idle_connections)
    upstream.always(chat("hello"))
    assert b"hello" in await ask_whole(client, upstream)
    await client.close()
    assert (client.open_connections, client.idle_connections) == (0, 0)
    await upstream.until(lambda: all(link.lost for link in upstream.links))
    await eventually(lambda: len(asyncio.all_tasks()) == tasks)
    assert open_descriptors() == descriptors
    assert len(upstream.requests) > CALLS / 10  # the storm got beyond connecting


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_while_connecting(upstream: Upstream, turns: int) -> None:
    upstream.always(hang())
    client = UpstreamClient()
    descriptors = open_descriptors()
    await cancelled_call(client, upstream, turns, 10)
    await eventually(lambda: client.open_connections == 0)
    await upstream.until(lambda: all(link.lost for link in upstream.links))
    await eventually(lambda: open_descriptors() == descriptors)
    await client.close()


@pytest.mark.parametrize(
    "reply",
    [chat(), chat_stream("a").broken(2, End.RESET), reset(), hang()],
    ids=["answered", "broken", "reset", "timed out"],
)
async def test_connections_need_no_garbage_collector(
    upstream: Upstream, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Connection]] = []

    class Observed(Connection):
        __slots__ = ("__weakref__",)

        def __init__(self, *arguments: object, **more: object) -> None:
            super().__init__(*arguments, **more)  # type: ignore[arg-type]  # handed through
            made.append(weakref.ref(self))

    monkeypatch.setattr("proxy.upstream.client.Connection", Observed)
    upstream.always(reply)
    client = UpstreamClient()
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(UpstreamFailure):
            await call(client, upstream, 10, impatient(first_byte_s=0.05))
        await client.close()
        await eventually(lambda: made[0]() is None)
    finally:
        gc.enable()
