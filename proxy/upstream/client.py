"""The HTTP client that calls upstreams: one request in, one answer read as it comes.

It knows exactly how far every attempt got, hands received blocks on as they are, and can be
cancelled anywhere. docs/adr/0003-own-upstream-transport.md
"""

import asyncio
from collections.abc import Collection

from proxy.core.errors import Progress, UpstreamError, UpstreamTimeout
from proxy.upstream.connection import Connection, Unanswered
from proxy.upstream.decoding import Decoder, UndecodableBody
from proxy.upstream.dial import dial
from proxy.upstream.inbox import Inbox
from proxy.upstream.pool import Pool
from proxy.upstream.request import Body, Deadlines, Headers, Origin, encode_head
from proxy.upstream.request import BodyFile as BodyFile  # callers need this module alone
from proxy.upstream.tls import TlsContexts


class Response:
    """An answer whose headers are in. Read to the end or closed, whichever comes first.

    `headers` have lower-case names and are in the upstream's order.
    """

    __slots__ = ("_connection", "_inbox", "headers", "status")

    def __init__(self, connection: Connection, inbox: Inbox) -> None:
        self.status = inbox.status
        self.headers = inbox.headers
        self._connection = connection
        self._inbox = inbox

    @property
    def progress(self) -> Progress:
        return self._inbox.progress

    async def read(self) -> bytes | None:
        """Return what came since the last call, None at the end, b"" after nudge().

        Cancelled, it closes the connection.

        Raises:
            UpstreamTruncated: upstream_stream_truncated, upstream_reset.
            UpstreamTimeout: upstream_idle_timeout, upstream_total_timeout.
            UpstreamError: upstream_invalid_response.
        """
        inbox = self._inbox
        while True:
            if inbox.parts:
                data = inbox.take()
                self._connection.resume(inbox)
                return data
            if inbox.complete:
                return None
            inbox.check()
            try:
                if await inbox.changed():
                    return b""
            except asyncio.CancelledError:
                self.close()
                raise

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body, of at most `limit` bytes.

        Raises what read() does, and upstream_invalid_response for a longer body.
        """
        parts = []
        size = 0
        while (part := await self.read()) is not None:
            parts.append(part)
            size += len(part)
            if size > limit:
                self.close()
                raise self._invalid(f"it has more than {limit} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def nudge(self) -> None:
        """Make a waiting read() return b""; without one it does nothing."""
        self._inbox.wake(nudged=True)

    def close(self) -> None:
        """Be done with it: an answer that has not ended takes its connection along."""
        self._connection.abandon(self._inbox)

    def _invalid(self, reason: object) -> UpstreamError:
        error = UpstreamError(
            "upstream_invalid_response", f"{self._connection.origin} sent an invalid answer: {reason}"
        )
        error.progress = self.progress
        return error


class DecodedResponse(Response):
    """An answer that came compressed, handed on as if it had not been."""

    __slots__ = ("_decoder",)

    def __init__(self, connection: Connection, inbox: Inbox, encoding: bytes) -> None:
        super().__init__(connection, inbox)
        # The length told is that of the compressed body.
        hidden = (b"content-encoding", b"content-length")
        self.headers = [header for header in inbox.headers if header[0] not in hidden]
        try:
            self._decoder = Decoder(encoding)
        except UndecodableBody as error:
            self.close()
            raise self._invalid(error) from None

    async def read(self) -> bytes | None:
        try:
            while not (piece := self._decoder.take()):
                block = await super().read()
                if block is None:
                    self._decoder.finish()
                if not block:
                    return block
                self._decoder.feed(block)
        except UndecodableBody as error:
            self.close()
            raise self._invalid(error) from None
        return piece


class UpstreamClient:
    """Keeps connections to upstreams and sends requests over them. Belongs to one event loop.

    Redirects are not followed and the environment's proxies are not used: only what an `Origin`
    names is ever called.
    """

    def __init__(self, *, max_idle_per_origin: int = 128, keepalive_s: float = 30) -> None:
        self._loop = asyncio.get_running_loop()
        self._pool = Pool(max_idle_per_origin=max_idle_per_origin, keepalive_s=keepalive_s)
        self._tls = TlsContexts()
        self._closed = False

    @property
    def open_connections(self) -> int:
        return self._pool.open_connections

    @property
    def idle_connections(self) -> int:
        return self._pool.idle_connections

    def keep_only(self, origins: Collection[Origin]) -> None:
        """Keep idle connections to these origins alone from now on."""
        self._pool.keep_only(origins)

    async def send(
        self,
        origin: Origin,
        method: str,
        target: bytes,
        headers: Headers,
        body: Body,
        deadlines: Deadlines,
    ) -> Response:
        """Send a request and return its answer as soon as the answer's headers are in.

        Host, Accept-Encoding and Content-Length are added. HEAD and CONNECT are not for this
        client. A kept connection that the upstream had closed meanwhile is replaced once, silently.
        Cancelled, it leaves nothing behind.

        Raises:
            UpstreamError: upstream_connect_failed, upstream_reset, upstream_invalid_response.
            UpstreamTimeout: upstream_connect_timeout, upstream_first_byte_timeout,
                upstream_total_timeout. Each error tells its `progress`.
        """
        total_at = self._loop.time() + deadlines.total_s
        head = encode_head(origin, method, target, headers, body)
        connection = self._pool.take(origin)
        if connection is not None:
            try:
                inbox = await connection.exchange(head, body, deadlines, total_at)
            except Unanswered:
                connection = None
        if connection is None:
            connection = await self._connect(origin, deadlines)
            inbox = await connection.exchange(head, body, deadlines, total_at)
        return _respond(connection, inbox)

    async def close(self) -> None:
        """Close every connection, in use or not, and return when their sockets are closed."""
        self._closed = True
        await self._pool.close()

    async def _connect(self, origin: Origin, deadlines: Deadlines) -> Connection:
        if self._closed:
            raise RuntimeError("the upstream client is closed")
        try:
            async with asyncio.timeout(deadlines.connect_s):
                connection = await dial(origin, self._tls, lambda: self._make_connection(origin))
        except TimeoutError:
            message = f"no connection to {origin} within {deadlines.connect_s:g} s"
            raise UpstreamTimeout("upstream_connect_timeout", message) from None
        self._pool.add(connection)
        if self._closed:
            connection.abort()
        return connection

    def _make_connection(self, origin: Origin) -> Connection:
        return Connection(self._loop, origin, on_free=self._pool.put_back, on_lost=self._pool.forget)


def _respond(connection: Connection, inbox: Inbox) -> Response:
    for name, value in inbox.headers:
        if name == b"content-encoding" and value.lower() != b"identity":
            return DecodedResponse(connection, inbox, value)
    return Response(connection, inbox)
