"""Connections that are kept for the next request."""

import asyncio
from collections.abc import Collection

from proxy.upstream.connection import Connection
from proxy.upstream.request import Origin


class Pool:
    """Idle connections of each origin; the one used last is used next.

    That leaves the others to age, so that a burst's connections are closed `keepalive_s` after it.
    Nothing on the way of a request walks over connections: one timer looks at the oldest.
    """

    def __init__(self, *, max_idle_per_origin: int, keepalive_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_idle = max_idle_per_origin
        self._keepalive_s = keepalive_s
        self._open: set[Connection] = set()
        # Each with the time since when it has been idle; dictionaries keep their order of insertion.
        self._idle: dict[Origin, dict[Connection, float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._kept: Collection[Origin] | None = None

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def idle_connections(self) -> int:
        return sum(map(len, self._idle.values()))

    def add(self, connection: Connection) -> None:
        """Count a new connection, which is in use."""
        self._open.add(connection)

    def take(self, origin: Origin) -> Connection | None:
        """Return an idle connection, which is in use from now on."""
        idle = self._idle.get(origin)
        while idle:
            connection, _ = idle.popitem()
            if not connection.closed:
                return connection
        return None

    def put_back(self, connection: Connection) -> None:
        """Keep a connection whose answer has ended."""
        origin = connection.origin
        if self._emptied is not None or (self._kept is not None and origin not in self._kept):
            connection.abort()
            return
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = {}
        if len(idle) >= self._max_idle:
            connection.abort()
            return
        idle[connection] = self._loop.time()
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._keepalive_s, self._sweep)

    def keep_only(self, origins: Collection[Origin]) -> None:
        """Keep connections of these origins alone from now on; those of others close as they get idle."""
        self._kept = origins
        for origin in [origin for origin in self._idle if origin not in origins]:
            for connection in list(self._idle.pop(origin)):
                connection.abort()

    def forget(self, connection: Connection) -> None:
        """Count a connection that is gone out."""
        self._open.discard(connection)
        self._idle.get(connection.origin, {}).pop(connection, None)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    async def close(self) -> None:
        """Close all connections, used or idle, and wait until their sockets are closed."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._emptied = self._emptied or self._loop.create_future()
        for connection in self._open:
            connection.abort()
        if self._open:
            await self._emptied

    def _sweep(self) -> None:
        """Close what has been idle for too long, and come back for the next oldest."""
        self._sweeper = None
        now = self._loop.time()
        oldest = None
        for origin in list(self._idle):
            idle = self._idle[origin]
            for connection, since in list(idle.items()):
                if since + self._keepalive_s > now:
                    oldest = since if oldest is None else min(oldest, since)
                    break
                del idle[connection]
                connection.abort()
            if not idle:
                del self._idle[origin]
        if oldest is not None:
            self._sweeper = self._loop.call_at(oldest + self._keepalive_s, self._sweep)
