"""One HTTP/1.1 connection to an upstream: the bytes of a question out, those of an answer in.

A received block reaches its reader as the object that the parser made of it; per block there is no
timer, no task and no copy. docs/adr/0003-own-upstream-transport.md
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial
from typing import cast

from proxy.core.errors import Progress, UpstreamError, UpstreamTimeout, UpstreamTruncated
from proxy.upstream.inbox import Inbox
from proxy.upstream.parser import AnswerParser, InvalidAnswer
from proxy.upstream.request import Body, BodyFile, Deadlines, Origin
from proxy.upstream.watch import Watch

# Received and unread bytes above which the socket is left alone until the reader has caught up.
MAX_UNREAD_BYTES = 64 * 1024
# Bodies up to this go out in one write with the headers, longer ones in pieces of it: the size at
# which the write buffer of asyncio's and uvloop's transports counts as full.
PIECE_BYTES = 64 * 1024


class Unanswered(UpstreamError):
    """The upstream closed before the first byte of an answer."""


class Connection(asyncio.Protocol):
    """A connection that answers one request at a time; made by `dial`, kept by the pool.

    `on_free` is called when an answer has ended and another request may follow, `on_lost` when the
    connection is gone.
    """

    __slots__ = (
        "_deadlines",
        "_flowing",
        "_inbox",
        "_loop",
        "_on_free",
        "_on_lost",
        "_parser",
        "_paused",
        "_sent",
        "_total_at",
        "_transport",
        "_watch",
        "_writable",
        "closed",
        "origin",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        origin: Origin,
        on_free: Callable[["Connection"], None],
        on_lost: Callable[["Connection"], None],
    ) -> None:
        self.origin = origin
        self.closed = False
        self._loop = loop
        self._on_free = on_free
        self._on_lost = on_lost
        self._inbox: Inbox | None = None
        self._parser = AnswerParser()
        self._watch = Watch(loop, self._late)
        self._paused = False
        self._writable = True

    # For the client

    async def exchange(self, head: bytes, body: Body, deadlines: Deadlines, total_at: float) -> Inbox:
        """Send a request; return when the headers of its answer are in.

        `total_at` is when the answer has to be over, in the event loop's time. Whatever ends this
        without an answer closes the connection, cancellation too.

        Raises:
            Unanswered: the upstream closed and had not sent a byte.
            UpstreamError, UpstreamTimeout: docs/errors.md
        """
        inbox = self._inbox = Inbox(self._loop)
        self._parser.expect(inbox)
        self._deadlines = deadlines
        self._total_at = total_at
        self._flowing = self._sent = False
        try:
            await self._send(inbox, head, body)
            while not inbox.status:
                inbox.check()
                await inbox.changed()
        except BaseException:
            self.abandon(inbox)
            raise
        return inbox

    def resume(self, inbox: Inbox) -> None:
        """Receive again: the reader has caught up."""
        if self._paused and self._inbox is inbox:
            self._paused = False
            self._watch.since = self._loop.time()
            self._transport.resume_reading()

    def abandon(self, inbox: Inbox) -> None:
        """The reader goes away: close, unless the answer has already ended."""
        if self._inbox is inbox:
            self._fail(inbox, partial(RuntimeError, "the answer was closed by its reader"))

    def abort(self) -> None:
        """Close at once, whatever is unsent or unread."""
        if not self.closed:
            self.closed = True
            self._transport.abort()

    # Sending

    async def _send(self, inbox: Inbox, head: bytes, body: Body) -> None:
        if self.closed:
            self._end(None)
            return
        inbox.progress = Progress.SENT
        self._watch.expect(self._deadlines.first_byte_s, self._total_at)
        if isinstance(body, bytes) and len(body) <= PIECE_BYTES:
            self._transport.write(head + body)
            self._sent = True
        else:
            self._transport.write(head)
            self._sent = await self._send_pieces(inbox, body)
            self._watch.since = self._loop.time()

    async def _send_pieces(self, inbox: Inbox, body: Body) -> bool:
        """Send a long body as fast as it is taken; return False when it was not wanted to the end."""
        if isinstance(body, BodyFile):
            body.file.seek(0)
            length = body.length
        else:
            length = len(body)
        done = 0
        while done < length:
            size = min(PIECE_BYTES, length - done)
            piece = await body.read(size) if isinstance(body, BodyFile) else body[done : done + size]
            while not self._unwanted(inbox) and not self._writable:
                await inbox.changed()
            if self._unwanted(inbox):
                return False
            self._transport.write(piece)
            self._watch.since = self._loop.time()
            done += len(piece)
        return True

    def _unwanted(self, inbox: Inbox) -> bool:
        """Return whether a refusal, or the end, came before the whole request was sent.

        RFC 9112 9.5: a client that sees such a refusal stops sending and closes when it has read it.
        An early answer of success has to wait until the rest is sent.
        """
        return self._inbox is not inbox or inbox.status >= 300 or self._transport.is_closing()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._inbox is not None:
            self._inbox.wake()

    # Receiving

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        inbox = self._inbox
        if inbox is None:  # nothing was asked, so that no later answer could be trusted
            self.abort()
            return
        try:
            self._parser.feed(data)
        except InvalidAnswer as error:
            self._fail(inbox, self._invalid(error))
            return
        if inbox.complete:
            self._finish()
        elif inbox.progress is Progress.BODY:
            if self._flowing:
                self._watch.since = self._loop.time()
            else:
                self._flowing = True
                self._watch.expect(self._deadlines.idle_s, self._total_at)
            if inbox.unread > MAX_UNREAD_BYTES:
                self._paused = True
                self._transport.pause_reading()
        inbox.wake()

    def eof_received(self) -> None:
        self._end(None)
        self.abort()  # without this, close() would wait for what is still to be written

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._inbox is not None and error is not None:
            self._hear_out()
        self._end(error)
        # Nothing may refer back to this, or the memory of many connections waits for the collector.
        self._watch.close()
        self._parser.close()
        del self._transport
        self._on_lost(self)

    def _hear_out(self) -> None:
        """Receive what the upstream said before it broke off a request that it did not want.

        The transport gives up at the first failed write, even if an answer waits to be read: RFC
        9112 9.6 tells how a server that closes after a refusal can make the client lose it.
        """
        sock = self._transport.get_extra_info("socket")
        if sock is None or self._transport.get_extra_info("sslcontext") is not None:
            return
        # Behind the last byte, recv() raises the error that is being handled here already.
        with contextlib.suppress(OSError), socket.fromfd(sock.fileno(), sock.family, sock.type) as copy:
            while self._inbox is not None and not self._paused and (data := copy.recv(PIECE_BYTES)):
                self.data_received(data)

    # Ends

    def _finish(self) -> None:
        """The answer is complete."""
        self._inbox = None
        if self._sent and self._parser.reusable and not self.closed:
            self._on_free(self)
        else:
            self.abort()

    def _fail(self, inbox: Inbox, failure: Callable[[], Exception]) -> None:
        self._inbox = None
        inbox.fail(failure)
        self.abort()

    def _late(self, in_total: bool) -> None:
        inbox = self._inbox
        if inbox is None:
            return  # idle connections are the pool's
        deadlines = self._deadlines
        if in_total:
            code, what = "upstream_total_timeout", f"was not done within {deadlines.total_s:g} s"
        elif self._paused:  # it is our reader who is slow
            self._watch.expect(deadlines.idle_s, self._total_at)
            return
        elif self._flowing:
            code, what = "upstream_idle_timeout", f"sent nothing more for {deadlines.idle_s:g} s"
        else:
            code, what = "upstream_first_byte_timeout", f"sent nothing for {deadlines.first_byte_s:g} s"
        self._fail(inbox, partial(UpstreamTimeout, code, f"{self.origin} {what}"))

    def _end(self, error: Exception | None) -> None:
        """The upstream closed the connection, or with an error: it broke."""
        inbox = self._inbox
        if inbox is None:
            return
        if error is None and self._parser.ends_with_connection():
            self._inbox = None
            inbox.complete = True
            inbox.wake()
        else:
            self._fail(inbox, self._broken(inbox, error))

    def _broken(self, inbox: Inbox, error: Exception | None) -> Callable[[], UpstreamError]:
        how = "closed the connection" if error is None else f"broke the connection ({error})"
        if inbox.status:
            code = "upstream_stream_truncated" if error is None else "upstream_reset"
            return partial(UpstreamTruncated, code, f"{self.origin} {how} before the end of its answer")
        if not self._parser.received:
            return partial(Unanswered, "upstream_reset", f"{self.origin} {how} without an answer")
        if error is None:
            return self._invalid("it broke off within the headers")
        message = f"{self.origin} {how} within the headers of its answer"
        return partial(UpstreamError, "upstream_reset", message)

    def _invalid(self, reason: object) -> Callable[[], UpstreamError]:
        message = f"{self.origin} sent an invalid answer: {reason}"
        return partial(UpstreamError, "upstream_invalid_response", message)
