"""One request and its answer on a client's connection: ASGI's `receive` and `send`."""

import asyncio
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.flow_control import FlowControl

from proxy.core.errors import InternalError, SluiceError
from proxy.web.errors import dialect_of, render
from proxy.web.request_id import new_request_id

logger = logging.getLogger("sluice.http")

# Both ways: this much of a body may wait for the app, this much of an answer for the client.
# asyncio's and uvloop's own mark for writing.
HIGH_WATER = 64 * 1024

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Headers of an answer that are not the app's to set; it may only ask for the connection's end.
_OF_THE_CONNECTION = frozenset({b"connection", b"transfer-encoding"})
# Statuses whose answers never have a body. RFC 9110, sections 15.3.5 and 15.4.5
_BODILESS = frozenset({204, 304})


class Connection(Protocol):
    """What a cycle needs of its connection; `web/protocol.py` has the real one."""

    transport: asyncio.Transport
    flow: FlowControl

    @property
    def date(self) -> bytes:
        """The Date header's line."""

    @property
    def stopping(self) -> bool:
        """Whether the server takes no further requests."""

    def on_response_complete(self) -> None: ...


class Cycle:
    """One request and its answer; also what `scope["extensions"]["sluice.connection"]` holds.

    The app may read `gone`, and `unsent` for the bytes that wait for a slow client, and `abort()`
    the connection. It may also do for itself what `send` does: `drain` while `blocked`, then, as
    long as somebody `listens`, `start` and `write`. A client that closes its sending side is gone,
    too: `receive()` says so, while an answer that the app sends all the same still goes out.
    One task receives at a time.
    """

    __slots__ = (
        "_changed",
        "_chunked",
        "_connection",
        "_delivered",
        "_expects_continue",
        "_flow",
        "_head",
        "_is_http10",
        "_parts",
        "_remaining",
        "_sends_body",
        "_transport",
        "complete",
        "gone",
        "keep_alive",
        "lost",
        "more_body",
        "size",
        "started",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        is_head: bool,
        is_http10: bool,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._flow = connection.flow
        self._is_http10 = is_http10
        self._expects_continue = expects_continue
        self._changed: asyncio.Future[None] | None = None
        #: Bytes of the body not yet received by the app.
        self.size = 0
        self._parts: list[bytes] = []
        #: The body's end has not arrived yet.
        self.more_body = True
        #: The app has the whole body.
        self._delivered = False
        self.started = False
        self.complete = False
        self.keep_alive = keep_alive
        self._sends_body = not is_head
        self._chunked = False
        #: The answer's head, until the first part of its body goes out with it.
        self._head = b""
        #: Of an answer with Content-Length: what is still to be sent.
        self._remaining: int | None = None
        #: Whether the client closed the connection, or its sending side.
        self.gone = False
        #: Whether nothing can be sent any more.
        self.lost = False

    # -- for the app

    @property
    def unsent(self) -> int:
        """Bytes of the answer that the system has not taken yet."""
        return self._transport.get_write_buffer_size()

    @property
    def blocked(self) -> bool:
        """Whether more than HIGH_WATER bytes are unsent to a client that is there."""
        return self._flow.write_paused and not self.gone

    async def drain(self) -> None:
        """Wait until the client has taken most of what is unsent, or is gone."""
        await self._flow.drain()

    def listens(self) -> bool:
        """Return whether there is still anybody to write to; breaks off what one who is gone leaves."""
        if self.gone and not self.lost and self.unsent > HIGH_WATER:
            self.abort()
        return not self.lost

    def abort(self) -> None:
        """Close the connection at once, dropping what is unsent."""
        self.leave()
        self._transport.abort()

    async def receive(self) -> Message:
        """Return the next part of the body; after its end, wait until the client is gone."""
        if self._expects_continue:
            self._expects_continue = False
            # RFC 9110, section 10.1.1: a server MAY omit it when it has received some of the content.
            if self.more_body and not self.size and not self.started:
                self._transport.write(_CONTINUE)
        while True:
            if self.gone or self.complete:
                return {"type": "http.disconnect"}
            if self._parts or not (self.more_body or self._delivered):
                return self._take()
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    async def send(self, message: Message) -> None:
        """Send a part of the answer; wait while more than HIGH_WATER bytes of it are unsent.

        Returns at once when the client is gone. Raises RuntimeError for an answer out of order or of
        another length than it announced.
        """
        if self.blocked:
            await self.drain()
        if not self.listens():
            return
        if message["type"] == "http.response.body":
            self.write(message.get("body", b""), more_body=message.get("more_body", False))
        elif message["type"] == "http.response.start":
            self.start(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"unknown ASGI message {message['type']!r}")

    # -- for the connection

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Let the app answer; answer for it when it fails."""
        error: SluiceError | None = None
        try:
            await app(scope, self.receive, self.send)
        except SluiceError as refusal:
            error = refusal
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception:
            logger.exception("%s %s broke", scope["method"], scope["path"])
            error = _internal_error()
        else:
            if not (self.complete or self.gone):
                logger.error("%s %s was not answered to the end", scope["method"], scope["path"])
                error = _internal_error()
        if self.complete or self.lost:
            return
        if self.started or error is None:
            self._transport.write(self._head)
            self._transport.close()  # a chunked answer without its last chunk is known to be broken
            return
        status, headers, body = render(error, dialect_of(scope["path"]), new_request_id())
        self.start(status, headers)
        self.write(body)

    def feed(self, part: bytes) -> None:
        """Take a part of the body."""
        self._parts.append(part)
        self.size += len(part)
        self.wake()

    def end_body(self) -> None:
        self.more_body = False
        self.wake()

    def depart(self) -> None:
        """The client closed its sending side."""
        self.gone = True
        self.wake()

    def leave(self) -> None:
        """The connection is closed, or no longer the app's to use."""
        self.gone = self.lost = True
        self.wake()

    def wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():  # done: its receiver was cancelled
            changed.set_result(None)

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Begin the answer; names are lower-case. Framing and persistence are ours.

        The head waits for the first part of the body, which an answer has even if it is empty.
        """
        if self.started:
            raise RuntimeError("the answer was started twice")
        # The rest of a body that nobody will read would be taken for the next request.
        keep_alive = self.keep_alive and not self.more_body and not self._connection.stopping
        sends_body = self._sends_body and status not in _BODILESS
        length = None
        lines = []
        for name, value in headers:
            if name == b"content-length":
                length = int(value)
            elif name in _OF_THE_CONNECTION:
                keep_alive = keep_alive and b"close" not in value.lower()
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if not keep_alive:
            lines.append(b"connection: close\r\n")
        chunked = length is None and sends_body and not self._is_http10
        if chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        self._head = answer_head(status, lines, self._connection.date)
        self.started = True
        self.keep_alive, self._sends_body = keep_alive, sends_body
        self._chunked, self._remaining = chunked, length

    def write(self, body: bytes, *, more_body: bool = False) -> None:
        """Send a part of the body."""
        if self.complete or not self.started:
            raise RuntimeError("a body was sent before the head of its answer, or after its end")
        framed = self._framed(body, more_body) if self._sends_body else b""
        if self._head:
            self._transport.writelines((self._head, framed))
            self._head = b""
        elif framed:
            self._transport.write(framed)
        if not more_body:
            self.complete = True
            self.wake()
            self._connection.on_response_complete()

    def _framed(self, body: bytes, more_body: bool) -> bytes:
        if self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk if more_body else chunk + b"0\r\n\r\n"
        if self._remaining is not None:
            self._remaining -= len(body)
            if self._remaining < 0 or (self._remaining and not more_body):
                raise RuntimeError("the answer's length is not its Content-Length")
        return body

    def _take(self) -> Message:
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self.size = 0
        self._delivered = not self.more_body
        self._flow.resume_reading()
        return {"type": "http.request", "body": body, "more_body": self.more_body}


def answer_head(status: int, lines: list[bytes], date: bytes) -> bytes:
    """Return the head of an answer. Raises RuntimeError for a header that would end its own line."""
    data = b"".join((_STATUS_LINES[status], date, *lines, b"\r\n"))
    # Two lines more than headers: the status line, the empty one.
    expected = len(lines) + 2 + (1 if date else 0)
    if data.count(b"\n") != expected or data.count(b"\r") != expected or b"\0" in data:
        raise RuntimeError("a header of the answer holds a line break")
    return data


def _internal_error() -> InternalError:
    return InternalError("internal_error", "The gateway failed to answer; its log says why.")


_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode("ascii") for status in range(200, 600)
}
