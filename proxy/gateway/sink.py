"""What an exchange sends its answer to."""

from typing import Protocol

from proxy.core.errors import SluiceError

Headers = list[tuple[bytes, bytes]]


class Sink(Protocol):
    """The client's end of the answer; `web/streaming.py` has the real one."""

    started: bool

    @property
    def blocked(self) -> bool:
        """Whether the client is slow, and has to be waited for by `drain` before more is sent."""

    async def drain(self) -> None:
        """Wait for a slow client; returns at once when it is gone."""

    def start(self, headers: Headers) -> None:
        """Begin a 200 answer."""

    def write(self, data: bytes) -> None:
        """Send a part of it, if the client is still there."""

    def end(self, data: bytes = b"") -> None: ...

    def fail(self, error: SluiceError, headers: Headers, ending: bytes | None = None) -> None:
        """Answer with the error; in a started stream send its error event, or `ending`, then close."""

    def abort(self) -> None:
        """Close the connection at once."""
