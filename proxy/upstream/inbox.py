"""Where a connection leaves an answer, and its reader finds it."""

import asyncio
from collections.abc import Callable

from proxy.core.errors import Progress, UpstreamFailure


class Inbox:
    """One answer, as far as it was received and not yet read. One task waits at a time.

    `status` is 0 until the headers are complete. `failure` makes the error that ended the answer:
    an exception that was raised refers to the frames it went through, and they to this.
    """

    __slots__ = (
        "_loop",
        "_waiter",
        "complete",
        "failure",
        "headers",
        "parts",
        "progress",
        "status",
        "unread",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: list[bytes] = []
        self.unread = 0  # bytes
        self.complete = False
        self.failure: Callable[[], Exception] | None = None
        self.progress = Progress.CONNECTED
        self._loop = loop
        self._waiter: asyncio.Future[bool] | None = None

    def take(self) -> bytes:
        """Return all parts; one that came alone is returned as the object it is."""
        parts = self.parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.unread = 0
        return data

    def fail(self, failure: Callable[[], Exception]) -> None:
        self.failure = failure
        self.wake()

    def check(self) -> None:
        """Raise the error that ended the answer, if one did; it tells how far the attempt got."""
        if self.failure is not None:
            raise self._error(self.failure())  # no variable here may hold it

    def _error(self, error: Exception) -> Exception:
        if isinstance(error, UpstreamFailure):
            error.progress = self.progress
        return error

    def wake(self, nudged: bool = False) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():  # done: its reader was cancelled
            waiter.set_result(nudged)

    def changed(self) -> asyncio.Future[bool]:
        """Return what to await until something happens; its result is True when it was only a nudge."""
        self._waiter = waiter = self._loop.create_future()
        return waiter
