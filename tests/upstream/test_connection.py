"""What of a connection is seen only by waiting for long: no socket, and a clock that is wound by hand."""

import asyncio
from typing import cast

import pytest

from proxy.core.errors import UpstreamTimeout
from proxy.upstream.client import Response
from proxy.upstream.connection import MAX_UNREAD_BYTES, Connection
from proxy.upstream.request import Deadlines, Origin
from tests.support.wound_loop import WoundLoop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
DEADLINES = Deadlines(connect_s=1, first_byte_s=10, idle_s=5, total_s=100)


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


class Harness:
    """A connection between a transport and a pool that only take notes."""

    def __init__(self) -> None:
        self.loop = WoundLoop()
        self.transport = FakeTransport()
        self.freed: list[Connection] = []
        self.lost: list[Connection] = []
        self.connection = Connection(
            cast(asyncio.AbstractEventLoop, self.loop),
            Origin("http", "127.0.0.1", 80),
            on_free=self.freed.append,
            on_lost=self.lost.append,
        )
        self.connection.connection_made(self.transport)

    async def answered(self, *blocks: bytes) -> Response:
        """Send a request, receive the blocks, return the response."""
        exchange = asyncio.create_task(
            self.connection.exchange(b"head", b"body", DEADLINES, self.loop.time() + DEADLINES.total_s)
        )
        await asyncio.sleep(0)
        for block in blocks:
            self.connection.data_received(block)
        return Response(self.connection, await exchange)


@pytest.fixture
async def harness() -> Harness:
    return Harness()


async def test_head_and_small_body_are_one_write(harness: Harness) -> None:
    await harness.answered(HEAD)
    assert harness.transport.written == [b"headbody"]


async def test_received_block_is_handed_on_without_a_copy(harness: Harness) -> None:
    response = await harness.answered(HEAD, b"block")
    part = response._inbox.parts[0]
    assert await response.read() is part


async def test_every_byte_moves_the_idle_timeout(harness: Harness) -> None:
    response = await harness.answered(HEAD, b"x")
    for _ in range(19):
        harness.loop.advance(4.9)
        harness.connection.data_received(b"x")
    assert await response.read() == b"x" * 20
    harness.loop.advance(5)
    with pytest.raises(UpstreamTimeout, match="nothing more for 5 s") as caught:
        await response.read()
    assert caught.value.code == "upstream_idle_timeout"
    assert harness.transport.aborted


async def test_slow_reader_is_not_the_upstreams_fault(harness: Harness) -> None:
    response = await harness.answered(HEAD, b"x" * (MAX_UNREAD_BYTES + 1))
    assert not harness.transport.reading
    for _ in range(9):
        harness.loop.advance(5)
    assert len(await response.read() or b"") == MAX_UNREAD_BYTES + 1
    assert harness.transport.reading
    harness.loop.advance(4.9)  # the upstream has its whole time from now on
    harness.connection.data_received(b"x")
    assert await response.read() == b"x"
    harness.loop.advance(5)
    with pytest.raises(UpstreamTimeout) as caught:
        await response.read()
    assert caught.value.code == "upstream_idle_timeout"


async def test_slow_reader_has_no_more_than_the_total(harness: Harness) -> None:
    response = await harness.answered(HEAD, b"x" * (MAX_UNREAD_BYTES + 1))
    for _ in range(20):
        harness.loop.advance(5)
    assert len(await response.read() or b"") == MAX_UNREAD_BYTES + 1
    with pytest.raises(UpstreamTimeout) as caught:
        await response.read()
    assert caught.value.code == "upstream_total_timeout"


async def test_reading_goes_on_below_the_limit(harness: Harness) -> None:
    response = await harness.answered(HEAD, b"x" * MAX_UNREAD_BYTES)
    assert harness.transport.reading
    harness.connection.data_received(b"x")
    assert not harness.transport.reading
    await response.read()
    assert harness.transport.reading


async def test_reader_of_an_ended_answer_does_not_touch_the_next(harness: Harness) -> None:
    first = await harness.answered(HEAD, b"x" * 1_000_000)
    assert harness.freed == [harness.connection]
    second = await harness.answered(HEAD, b"y" * (MAX_UNREAD_BYTES + 1))
    assert not harness.transport.reading
    assert len(await first.read_all(1_000_000)) == 1_000_000
    first.close()
    assert not harness.transport.reading
    assert not harness.transport.aborted
    second.close()
    assert harness.transport.aborted


async def test_idle_connection_has_no_deadline(harness: Harness) -> None:
    response = await harness.answered(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx")
    assert await response.read_all(1) == b"x"
    assert harness.freed == [harness.connection]
    harness.loop.advance(1000)
    assert not harness.transport.aborted


async def test_deadlines_of_a_later_request_are_its_own(harness: Harness) -> None:
    await harness.answered(b"HTTP/1.1 204 OK\r\n\r\n")
    harness.loop.advance(99)
    response = await harness.answered(HEAD, b"x")
    harness.loop.advance(4.9)
    assert not harness.transport.aborted
    harness.loop.advance(0.1)
    assert await response.read() == b"x"
    with pytest.raises(UpstreamTimeout) as caught:
        await response.read()
    assert caught.value.code == "upstream_idle_timeout"


async def test_exchange_on_a_connection_that_was_just_closed(harness: Harness) -> None:
    harness.connection.connection_lost(None)
    with pytest.raises(Exception, match="closed the connection without an answer"):
        await harness.answered(HEAD)
    assert harness.transport.written == []
    assert harness.lost == [harness.connection]
