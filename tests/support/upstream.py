"""A scripted upstream on a real socket: it records what it is asked and answers what it is told.

    async with Upstream() as upstream:
        upstream.reply(chat("hello", usage=(3, 5)))      # once; several are answered in order
        ...                                              # call upstream.url, which ends in /v1
        assert upstream.requests[0].json["model"] == "m"
        await upstream.all_closed()

Without a reply in the queue `upstream.handler` decides, by default `answer_as_a_model`. The replies
and their faults are in `tests.support.replies`. `Upstream(threaded=True)` serves from a thread of
its own, for callers that block or have another event loop; it also is an ordinary context manager.
"""

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httptools

from tests.support.replies import (
    End,
    Reply,
    chat,
    chat_stream,
    embeddings,
    error,
    message,
    message_stream,
    models,
)
from tests.support.signals import Gate, Signal


@dataclass
class Request:
    """What an upstream received. Header names are lower-case, in their order."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    link: "Link" = field(repr=False)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """Return the only value of a header, None when it is absent."""
        values = [value for each, value in self.headers if each == name]
        if len(values) > 1:
            raise AssertionError(f"{name} was sent {len(values)} times")
        return values[0] if values else None


def answer_as_a_model(request: Request) -> Reply:
    """Answer as a healthy provider does."""
    path = request.target.partition("?")[0]
    if path.endswith("/models"):
        return models("upstream-model")
    if path.endswith("/embeddings"):
        return embeddings()
    if path.endswith("/chat/completions"):
        return chat_stream("Hel", "lo") if request.json.get("stream") else chat("Hello")
    if path.endswith("/messages"):
        return message_stream("Hel", "lo") if request.json.get("stream") else message("Hello")
    return error(404, f"no such path: {path}")


class Upstream:
    """The server. Its figures may be read from any thread."""

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, threaded: bool = False, refusing: bool = False
    ) -> None:
        """`refusing`: connections are refused until `accept()`."""
        self.handler: Callable[[Request], Reply] = answer_as_a_model
        self.requests: list[Request] = []
        #: Every connection that was ever accepted, in order.
        self.links: list[Link] = []
        self.port = 0
        self.failures: list[Exception] = []
        self._script: deque[Reply] = deque()
        self._watchers: list[Callable[[], None]] = []
        self._tls = tls
        self._refusing = refusing
        self._thread = threading.Thread(target=self._live, daemon=True) if threaded else None
        self._started = Signal()
        self._stopping = Signal()

    # For the test

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def open_connections(self) -> int:
        return sum(not link.closed.is_set() for link in self.links)

    def reply(self, *replies: Reply) -> None:
        """Answer the next requests with these, one each."""
        self._script.extend(replies)

    def always(self, reply: Reply) -> None:
        """Answer every request with this one."""
        self.handler = lambda request: reply

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait for something about this upstream; asked again whenever it reads, writes or closes."""
        holds = Signal()

        def watch() -> None:
            if predicate():
                holds.set()

        self._watchers.append(watch)
        watch()
        try:
            await holds.wait()
        finally:
            self._watchers.remove(watch)

    async def received(self, count: int) -> None:
        """Wait until so many requests have come in."""
        await self.until(lambda: len(self.requests) >= count)

    async def all_closed(self) -> None:
        """Wait until no connection is open."""
        await self.until(lambda: self.open_connections == 0)

    def refuse(self) -> None:
        """Stop listening: further connections are refused, those that are open go on."""
        self._loop.call_soon_threadsafe(self._server.close)

    async def accept(self) -> None:
        """Begin to listen, after having refused all connections."""
        await self._server.start_serving()

    def close_links(self, end: End = End.CLOSE) -> None:
        """Close or reset all open connections, in the middle of whatever they do."""
        for link in self.links:
            self._loop.call_soon_threadsafe(link.finish, end)

    # Its life

    async def __aenter__(self) -> "Upstream":
        if self._thread:
            self._thread.start()
            await self._started.wait()
        else:
            await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread:
            self._stopping.set()
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        else:
            await self._shut()
        if error is None and self.failures:
            raise self.failures[0]

    def __enter__(self) -> "Upstream":
        assert self._thread, "only Upstream(threaded=True) can be used without an event loop"
        self._thread.start()
        self._started.wait_in_thread()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread
        self._stopping.set()
        self._thread.join()
        if error is None and self.failures:
            raise self.failures[0]

    def _live(self) -> None:
        asyncio.run(self._live_in_loop())

    async def _live_in_loop(self) -> None:
        await self._listen()
        self._started.set()
        await self._stopping.wait()
        await self._shut()

    async def _listen(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(
            lambda: Link(self),
            "127.0.0.1",
            0,
            ssl=self._tls,
            backlog=4096,
            start_serving=not self._refusing,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        self._server.close()
        for link in self.links:
            link.abort()
        await self.until(lambda: all(link.lost for link in self.links))

    # For its connections

    def changed(self) -> None:
        for watch in list(self._watchers):
            watch()

    def early_reply(self) -> Reply | None:
        """Return the next reply if it does not wait for the request's body."""
        return self._script.popleft() if self._script and self._script[0].early else None

    def choose(self, request: Request) -> Reply:
        return self._script.popleft() if self._script else self.handler(request)


class Link(asyncio.Protocol):
    """One accepted connection. `closed` is set when the peer closed or reset it, or it was closed here."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.requests: list[Request] = []
        self.closed = Signal()
        self.lost = False
        self.reset_by_peer = False
        self.received_bytes = 0
        self._written = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._replies: deque[Reply | Request] = deque()
        self._player: asyncio.Task[None] | None = None

    @property
    def sent_bytes(self) -> int:
        """Bytes that were written and that the socket took."""
        return self._written - self.transport.get_write_buffer_size()

    def abort(self) -> None:
        if self._player:
            self._player.cancel()
        self.transport.abort()

    def finish(self, end: End) -> None:
        """End the connection in one of the ways of `End`, if it is to be ended."""
        if end is End.RESET:
            linger = struct.pack("ii", 1, 0)  # close() then sends RST instead of FIN
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        elif end is End.CLOSE:
            self.transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # always TCP
        self.transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self.upstream.links.append(self)
        self.upstream.changed()

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.upstream.failures.append(error)
            self.transport.abort()
        self.upstream.changed()

    def eof_received(self) -> None:
        self._set_closed()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.reset_by_peer = isinstance(error, ConnectionError)
        self._writable.set()
        self._set_closed()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        self.upstream.changed()

    # The request parser

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []

    def on_url(self, target: bytes) -> None:
        self._target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        method = self._parser.get_method().decode()
        request = Request(method, self._target.decode("latin-1"), self._headers, self)
        self._request = request
        early = self.upstream.early_reply()
        self._answered_early = early is not None
        if early is not None:
            if early.status >= 300:
                self.transport.pause_reading()
            self._record(request, early)

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._request.body = b"".join(self._body)
        if not self._answered_early:
            self._record(self._request, self._request)

    # Answering

    def _record(self, request: Request, answer: Reply | Request) -> None:
        self.requests.append(request)
        self.upstream.requests.append(request)
        self._replies.append(answer)
        if self._player is None:
            self._player = asyncio.get_running_loop().create_task(self._play_all())

    async def _play_all(self) -> None:
        try:
            while self._replies and not self.closed.is_set():
                next_one = self._replies.popleft()
                reply = next_one if isinstance(next_one, Reply) else self.upstream.choose(next_one)
                await self._play(reply)
        except Exception as error:  # a handler's own failure must fail the test, not hang it
            self.upstream.failures.append(error)
            self.transport.abort()
        finally:
            self._player = None

    async def _play(self, reply: Reply) -> None:
        for step in reply.steps():
            if self.closed.is_set():
                return
            if isinstance(step, Gate):
                step.reached.set()
                await self._first_of(step.opened)
            else:
                await self._write(step, small=reply.piece is not None)
        self.transport.resume_reading()  # if only to notice that the peer closes
        if reply.end is End.HANG:
            await self.closed.wait()
        self.finish(reply.end)
        self.upstream.changed()

    async def _write(self, data: bytes, *, small: bool) -> None:
        self._written += len(data)
        self.transport.write(data)
        self.upstream.changed()
        if small:
            await asyncio.sleep(0)  # let the socket have it before the next piece
        await self._writable.wait()

    async def _first_of(self, signal: Signal) -> None:
        """Wait for the signal or for the end of the connection."""
        waits = [asyncio.ensure_future(each.wait()) for each in (signal, self.closed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _set_closed(self) -> None:
        self.closed.set()
        self.upstream.changed()
