"""Events that cross threads: a scripted upstream may run in a thread of its own."""

import asyncio
import threading


class Signal:
    """A one-shot event. Any thread may set it, any event loop or thread may wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<Signal {'set' if self.is_set() else 'unset'}>"

    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        with self._lock:
            self._event.set()
            waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, waiter)

    async def wait(self) -> None:
        with self._lock:
            if self._event.is_set():
                return
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()
            self._waiters.append((loop, waiter))
        await waiter

    def wait_in_thread(self, timeout_s: float = 10) -> None:
        """Wait without an event loop."""
        if not self._event.wait(timeout_s):
            raise TimeoutError("the signal was not set in time")


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Gate:
    """A place in a reply at which the upstream waits until the test opens it.

    `reached` is set when everything before the gate was handed to the socket.
    """

    def __init__(self) -> None:
        self.reached = Signal()
        self.opened = Signal()

    def __repr__(self) -> str:
        return f"<Gate {'open' if self.opened.is_set() else 'shut'}>"

    def open(self) -> None:
        self.opened.set()
