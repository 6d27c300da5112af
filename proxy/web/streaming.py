"""The client's end of an answer: `gateway.sink.Sink` on the client's connection."""

from proxy.core.errors import SluiceError
from proxy.web.cycle import Cycle
from proxy.web.errors import render, stream_frame

Headers = list[tuple[bytes, bytes]]


class ClientSink:
    """Sends one answer to one client, errors in the dialect of the endpoint.

    What ASGI's `send` would do, without a message and a coroutine for each part of a stream.
    """

    __slots__ = ("_cycle", "_dialect", "_headers", "_request_id", "started")

    def __init__(self, cycle: Cycle, dialect: str, request_id: str) -> None:
        self._cycle = cycle
        self._dialect = dialect
        self._request_id = request_id
        self._headers: Headers = []
        self.started = False

    @property
    def blocked(self) -> bool:
        """Whether more than 64 KiB are unsent to a client that is there."""
        return self._cycle.blocked

    async def drain(self) -> None:
        """Wait until it is not, or the client is gone."""
        await self._cycle.drain()

    def start(self, headers: Headers) -> None:
        """Begin a 200 answer."""
        self.started = True
        self._headers = headers
        self._begin(200, headers)

    def write(self, data: bytes) -> None:
        """Send a part of it; to a client that is gone, nothing is sent."""
        if self._cycle.listens():
            self._cycle.write(data, more_body=True)

    def end(self, data: bytes = b"") -> None:
        """Send the last part."""
        if self._cycle.listens():
            self._cycle.write(data)

    def fail(self, error: SluiceError, headers: Headers, ending: bytes | None = None) -> None:
        """Answer with the error; in a started event stream send its event, or `ending`, and close.

        In any other started answer nothing can be said any more: the connection is cut, so that the
        client cannot take the part for the whole.
        """
        if not self.started:
            self.started = True
            status, own, body = render(error, self._dialect, self._request_id)
            self._begin(status, merged(own, headers))
            self.end(body)
        elif any(name == b"content-type" and b"event-stream" in value for name, value in self._headers):
            self.end(ending or stream_frame(error, self._dialect, self._request_id))
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self._cycle.abort()

    def _begin(self, status: int, headers: Headers) -> None:
        if self._cycle.listens():
            self._cycle.start(status, headers)


def merged(headers: Headers, more: Headers) -> Headers:
    """Return `headers` and those of `more` whose names are not among them."""
    names = {name for name, _ in headers}
    return headers + [item for item in more if item[0] not in names]
