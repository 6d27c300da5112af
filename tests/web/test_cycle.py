"""Answers as clients get them, and how an app learns that its client is gone. docs/operations.md"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.core.errors import RateLimited
from proxy.web.cycle import HIGH_WATER
from proxy.web.protocol import client_address
from tests.support.raw import RawClient, Served, serving

LOOPS = ("uvloop", "asyncio")

GET = b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
START: Message = {"type": "http.response.start", "status": 200, "headers": []}
BLOCK = b"x" * 16_384


def start(status: int, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def sending(*messages: Message) -> ASGIApp:
    """An app that reads nothing and sends those messages."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


@contextlib.asynccontextmanager
async def asked(app: ASGIApp, request: bytes = GET) -> AsyncIterator[RawClient]:
    async with serving(app) as served, RawClient(served.address) as client:
        client.send(request)
        yield client


class TestFraming:
    async def test_with_a_length(self) -> None:
        async with asked(
            sending(start(200, (b"content-length", b"5")), part(b"he", more=True), part(b"llo"))
        ) as c:
            answer = await c.answer()
            assert answer.body == b"hello"
            assert set(answer.headers) == {"date", "content-length"}

    async def test_without_a_length(self) -> None:
        app = sending(START, part(b"he", more=True), part(b"", more=True), part(b"llo"))
        async with asked(app) as client:
            _, headers = await client.head()
            assert headers["transfer-encoding"] == "chunked"
            assert [chunk async for chunk in client.chunks()] == [b"he", b"llo"]
            client.send(GET)
            assert (await client.answer()).body == b"hello"

    async def test_http10_reads_until_the_end(self) -> None:
        async with asked(
            sending(START, part(b"he", more=True), part(b"llo")), b"GET / HTTP/1.0\r\n\r\n"
        ) as client:
            answer = await client.answer()
            assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
            assert "transfer-encoding" not in answer.headers

    async def test_head_has_the_length_and_no_body(self) -> None:
        app = sending(start(200, (b"content-length", b"5")), part(b"hello"))
        async with asked(app, GET.replace(b"GET", b"HEAD")) as client:
            answer = await client.answer(bodiless=True)
            assert answer.headers["content-length"] == "5"
            client.send(GET)
            assert (await client.answer()).body == b"hello"

    @pytest.mark.parametrize("status", [204, 304])
    async def test_statuses_without_a_body(self, status: int) -> None:
        async with asked(sending(start(status), part(b"dropped"))) as client:
            answer = await client.answer(bodiless=True)
            assert set(answer.headers) == {"date"}
            client.send(GET)
            assert (await client.answer(bodiless=True)).status == status

    async def test_the_app_may_close(self) -> None:
        app = sending(
            start(200, (b"connection", b"close"), (b"transfer-encoding", b"chunked")), part(b"hello")
        )
        async with asked(app) as client:
            answer = await client.answer()
            assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
            assert await client.rest() == b""

    async def test_the_client_may_close(self) -> None:
        async with asked(
            sending(START, part(b"")), GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        ) as c:
            assert (await c.answer()).headers["connection"] == "close"
            assert await c.rest() == b""

    async def test_unknown_status(self) -> None:
        async with asked(sending(start(599), part(b""))) as client:
            assert (await client.answer()).status == 599


class TestFailures:
    @pytest.mark.parametrize(
        "messages",
        [
            [],
            [part(b"body first")],
            [{"type": "http.response.trailers"}],
            [start(200, (b"x", b"a\r\nset-cookie: b"))],
            [start(200, (b"x", b"a\nb"))],
            [start(200, (b"x\r\ny", b"b"))],
            [start(200, (b"x", b"a\0b"))],
            [start(99)],
        ],
        ids=["nothing", "body first", "unknown", "CRLF", "LF", "CRLF in a name", "NUL", "status 99"],
    )
    async def test_of_the_app_before_its_answer(self, messages: list[Message]) -> None:
        async with asked(sending(*messages)) as client:
            answer = await client.answer()
        error = answer.json["error"]
        assert (answer.status, error["code"]) == (500, "internal_error")
        assert error["request_id"] == answer.headers["x-request-id"]
        assert "set-cookie" not in answer.headers

    @pytest.mark.parametrize(
        "messages",
        [
            [START, part(b"hello", more=True)],
            [START, START],
            [start(200, (b"content-length", b"9")), part(b"hello")],
        ],
        ids=["no end", "two starts", "too short"],
    )
    async def test_of_the_app_within_its_answer(self, messages: list[Message]) -> None:
        async with asked(sending(*messages)) as client:
            status, _ = await client.head()
            assert status == 200
            assert not (await client.rest()).endswith(b"0\r\n\r\n")

    async def test_of_the_client_within_an_answer_already_begun(self) -> None:
        """The status is out: all that is left is to cut the answer."""
        received = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await send(part(b"hello", more=True))
            received.append(await receive())

        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with asked(app, head) as client:
            await client.head()
            assert await anext(client.chunks()) == b"hello"
            client.send(b"nonsense\r\n")
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
        assert received == [{"type": "http.disconnect"}]

    async def test_longer_than_its_length(self) -> None:
        async with asked(sending(start(200, (b"content-length", b"3")), part(b"hello"))) as client:
            assert (await client.head())[0] == 200
            assert await client.rest() == b""

    async def test_after_its_answer(self, caplog: pytest.LogCaptureFixture) -> None:
        async with asked(sending(START, part(b"hello"), part(b"more"))) as client:
            assert (await client.answer()).body == b"hello"
        assert "/v1/x broke" in caplog.text

    async def test_exceptions_are_logged_and_not_told(self, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise LookupError("secret of the house")

        async with asked(app) as client:
            answer = await client.answer()
            client.send(GET)
            assert (await client.answer()).status == 500
        assert b"secret" not in answer.body
        assert "secret of the house" in caplog.text
        assert caplog.records[0].levelno == logging.ERROR

    async def test_errors_with_a_form_are_rendered(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise RateLimited("rpm_exceeded", "Slower.", retry_after_s=1.2)

        async with asked(app, GET.replace(b"/v1/x", b"/v1/messages")) as client:
            answer = await client.answer()
        assert (answer.status, answer.headers["retry-after"]) == (429, "2")
        assert answer.json["error"]["type"] == "rate_limit_error"


class Watcher:
    """An app that starts an answer and then waits for its client to leave."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.messages: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(part(b"hello", more=True))
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await receive()
            self.messages.append(message["type"])
        assert scope["extensions"]["sluice.connection"].gone
        self.left.set()


LEAVING = {"half-close": RawClient.half_close, "reset": RawClient.reset, "close": lambda c: c.writer.close()}


class TestDeparture:
    @pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING.keys())
    @pytest.mark.parametrize("extra", [b"", GET, GET * 1000], ids=["", "pipelined", "many pipelined"])
    async def test_is_noticed_while_an_answer_streams(
        self, leave: Callable[[RawClient], None], extra: bytes
    ) -> None:
        app = Watcher()
        async with asked(app, GET + extra) as client:
            await client.head()
            assert await anext(client.chunks()) == b"hello"
            leave(client)
            await asyncio.wait_for(app.left.wait(), 5)
        assert app.messages == ["http.request", "http.disconnect"]

    @pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING.keys())
    async def test_is_noticed_within_a_body(self, leave: Callable[[RawClient], None]) -> None:
        received: asyncio.Queue[Message] = asyncio.Queue()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while True:
                message = await receive()
                received.put_nowait(message)
                if message["type"] == "http.disconnect":
                    return

        async with asked(
            app, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc"
        ) as client:
            first = await asyncio.wait_for(received.get(), 5)
            assert first == {"type": "http.request", "body": b"abc", "more_body": True}
            leave(client)
            assert await asyncio.wait_for(received.get(), 5) == {"type": "http.disconnect"}

    async def test_is_what_comes_after_the_answer(self) -> None:
        messages = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await sending(START, part(b"hello"))(scope, receive, send)
            messages.append(await receive())

        async with asked(app) as client:
            await client.answer()
        assert messages == [{"type": "http.disconnect"}]

    async def test_by_half_a_close_still_gets_what_the_app_sends(self) -> None:
        """`printf … | nc -N` closes its sending side at once, and waits for the answer."""
        async with asked(sending(START, part(b"hello"))) as client:
            client.half_close()
            assert (await client.answer()).body == b"hello"
            assert await client.rest() == b""

    async def test_by_half_a_close_gets_errors_too(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            assert (await receive())["type"] == "http.disconnect"
            raise RateLimited("rpm_exceeded", "Slower.")

        async with asked(app) as client:
            client.half_close()
            assert (await client.answer()).status == 429
            assert await client.rest() == b""

    async def test_without_an_answer_closes(self, caplog: pytest.LogCaptureFixture) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async with asked(app) as client:
            client.half_close()
            assert await client.rest() == b""
        assert caplog.records == []

    async def test_the_app_may_abort(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            scope["extensions"]["sluice.connection"].abort()
            await send(part(b"dropped"))
            assert (await receive())["type"] == "http.disconnect"

        async with asked(app) as client:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
                await client.head()
            assert await client.rest() == b""

    async def test_cancelling_the_answer_cuts_it(self) -> None:
        app = Watcher()
        async with serving(app) as served, RawClient(served.address) as client:
            client.send(GET)
            await client.head()
            assert await anext(client.chunks()) == b"hello"
            (task,) = served.server.server_state.tasks
            task.cancel()
            assert not (await client.rest()).endswith(b"0\r\n\r\n")
        assert task.cancelled()
        assert not app.left.is_set()


class Flood:
    """An app that sends as much as is taken, up to `size` bytes."""

    def __init__(self, size: int = 2**30) -> None:
        self._size = size
        self.sent = 0
        self.most_unsent = 0
        self.blocked = asyncio.Event()
        self.done = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["extensions"]["sluice.connection"]
        await send(start(200, (b"content-length", b"%d" % self._size)))
        while self.sent < self._size and not connection.gone:
            if connection.unsent > HIGH_WATER:
                self.blocked.set()
            await send(part(BLOCK, more=self.sent + len(BLOCK) < self._size))
            self.sent += len(BLOCK)
            self.most_unsent = max(self.most_unsent, connection.unsent)
        self.done.set()


@contextlib.asynccontextmanager
async def stalled(app: Flood, **policy: float) -> AsyncIterator[tuple[RawClient, Served]]:
    """A client that takes nothing after it asked."""
    async with serving(app) as served:
        served.demand(**policy)
        async with RawClient(served.address, receive_buffer=4096) as client:
            client.writer.transport.pause_reading()
            client.send(GET)
            await asyncio.wait_for(app.blocked.wait(), 10)
            yield client, served


class TestFlowControl:
    async def test_sending_waits_for_the_client(self) -> None:
        app = Flood(2**21)
        async with stalled(app) as (client, _):
            assert app.sent < 2**20  # what Linux takes of an answer nobody reads is bounded, too
            client.writer.transport.resume_reading()
            answer = await client.answer()
        assert len(answer.body) == 2**21
        assert HIGH_WATER < app.most_unsent <= HIGH_WATER + len(BLOCK)

    @pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING.keys())
    async def test_sending_ends_when_the_client_leaves(self, leave: Callable[[RawClient], None]) -> None:
        app = Flood()
        async with stalled(app) as (client, served):
            leave(client)
            await asyncio.wait_for(app.done.wait(), 5)
            await served.deserted()
        assert app.sent < 2**21

    async def test_a_client_that_takes_nothing_is_cut(self) -> None:
        app = Flood()
        async with stalled(app, stall_s=0.2) as (_, served):
            await asyncio.wait_for(app.done.wait(), 5)
            await served.deserted()

    async def test_so_is_one_that_does_not_take_the_end(self) -> None:
        """The app has sent all: the connection would wait for ever to be flushed, idle or closing."""
        size = 16 * len(BLOCK)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start(200, (b"content-length", b"%d" % size)))
            await send(part(b"x" * size))

        for request in (GET, GET.replace(b"1.1", b"1.0")):
            async with serving(app) as served:
                served.demand(stall_s=0.1, keep_alive_s=0.1)
                async with RawClient(served.address, receive_buffer=4096) as client:
                    client.writer.transport.pause_reading()
                    client.send(request)
                    await served.deserted()

    async def test_a_client_that_takes_a_little_is_not(self) -> None:
        """Whenever the deadline passes, what counts is whether less is unsent than the last time."""
        size = 2**20
        app = sending(start(200, (b"content-length", b"%d" % size)), part(b"x" * size))
        async with serving(app) as served, RawClient(served.address, receive_buffer=4096) as client:
            client.send(GET)
            await client.head()
            (connection,) = served.server.server_state.connections
            transport = connection.transport
            for _ in range(3):
                before = transport.get_write_buffer_size()
                while transport.get_write_buffer_size() >= before:
                    await client.read(4096)
                connection._expired()
                assert not transport.is_closing()
            connection._expired()
            assert transport.is_closing()

    async def test_a_body_waits_for_the_app(self) -> None:
        sizes = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            message: Message = {"more_body": True}
            while message["more_body"]:
                message = await receive()
                sizes.append(len(message["body"]))
                await asyncio.sleep(0.001)  # an app that is slower than its client
            await sending(START, part(b""))(scope, receive, send)

        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n"
        async with asked(app, head + b"x" * 20_000_000) as client:
            assert (await client.answer()).status == 200
        assert sum(sizes) == 20_000_000
        assert max(sizes) <= HIGH_WATER + 2**18  # one read of the event loop comes on top


class TestClientAddress:
    async def ask(self, headers: bytes, **settings: object) -> Scope:
        scopes: list[Scope] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.append(scope)
            await sending(START, part(b""))(scope, receive, send)

        async with serving(app, **settings) as served, RawClient(served.address) as client:
            client.send(GET.replace(b"\r\n\r\n", b"\r\n" + headers + b"\r\n"))
            await client.answer()
        return scopes[0]

    async def test_is_the_peers(self) -> None:
        assert client_address(await self.ask(b"X-Forwarded-For: 192.0.2.1\r\n")) == "127.0.0.1"

    async def test_is_what_a_trusted_proxy_says(self) -> None:
        scope = await self.ask(b"X-Forwarded-For: 192.0.2.1\r\n", trusted_proxies=("127.0.0.0/8",))
        assert client_address(scope) == "192.0.2.1"

    async def test_is_a_trusted_proxys_own_without_header(self) -> None:
        assert client_address(await self.ask(b"", trusted_proxies=("127.0.0.1",))) == "127.0.0.1"

    def test_without_any(self) -> None:
        assert client_address({"client": None}) == ""
