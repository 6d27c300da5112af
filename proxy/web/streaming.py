"""The client's end of an answer: `gateway.exchange.Sink` over ASGI."""

from starlette.types import Send

from proxy.core.errors import SluiceError
from proxy.web.errors import render, stream_frame
from proxy.web.protocol import ClientConnection

Headers = list[tuple[bytes, bytes]]


class ClientSink:
    """Sends one answer to one client, errors in the dialect of the endpoint."""

    __slots__ = ("_connection", "_dialect", "_events", "_request_id", "_send", "started")

    def __init__(self, send: Send, connection: ClientConnection, dialect: str, request_id: str) -> None:
        self._send = send
        self._connection = connection
        self._dialect = dialect
        self._request_id = request_id
        self._events = False
        self.started = False

    async def start(self, headers: Headers) -> None:
        """Begin a 200 answer."""
        self.started = True
        self._events = any(name == b"content-type" and b"event-stream" in value for name, value in headers)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Send a part of it; waits while more than 64 KiB are unsent, returns when the client is gone."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last part."""
        await self._send({"type": "http.response.body", "body": data})

    async def fail(self, error: SluiceError, headers: Headers) -> None:
        """Answer with the error; in a started event stream send its event and close.

        In any other started answer nothing can be said any more: the connection is cut, so that the
        client cannot take the part for the whole.
        """
        if not self.started:
            self.started = True
            status, own, body = render(error, self._dialect, self._request_id)
            await self._send(
                {"type": "http.response.start", "status": status, "headers": merged(own, headers)}
            )
            await self.end(body)
        elif self._events:
            await self.end(stream_frame(error, self._dialect, self._request_id))
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self._connection.abort()


def merged(headers: Headers, more: Headers) -> Headers:
    """Return `headers` and those of `more` whose names are not among them."""
    names = {name for name, _ in headers}
    return headers + [item for item in more if item[0] not in names]
