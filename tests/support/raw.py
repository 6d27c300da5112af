"""A client that sends exactly the bytes it is told, and a server to send them to.

async with serving(app) as served, RawClient(served.address) as client:
    client.send(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    answer = await client.answer()
    assert await client.rest() == b""      # the server closed
"""

import asyncio
import contextlib
import dataclasses
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from starlette.types import ASGIApp

from proxy.config import schema
from proxy.web.server import Hooks, Server

# A server that forgets to answer fails its test instead of the run.
PATIENCE_S = 20


@dataclass
class Served:
    """A running server. `calls` are the names of its hooks, as they were called."""

    server: Server
    address: tuple[str, int]
    calls: list[str] = field(default_factory=list)
    #: Completes when `serve()` has returned.
    task: asyncio.Task[None] | None = None
    #: Set when the server began to stop.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def demand(self, **changes: Any) -> None:
        """Change the server's policy for the connections made from now on."""
        state = self.server.server_state
        state.policy = dataclasses.replace(state.policy, **changes)

    async def deserted(self) -> None:
        """Wait until no connection is left."""
        state = self.server.server_state
        while state.connections:
            state.connection_lost.clear()
            await asyncio.wait_for(state.connection_lost.wait(), PATIENCE_S)

    async def stopped(self) -> None:
        assert self.task is not None
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, *, on_grace_over: Callable[[], None] = lambda: None, **settings: Any
) -> AsyncIterator[Served]:
    """Serve an app on a free port of 127.0.0.1; `settings` are those of the section `server`."""
    started: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    calls: list[str] = []
    stopping = asyncio.Event()

    def stop() -> None:
        calls.append("stop")
        stopping.set()

    def grace_over() -> None:
        calls.append("grace_over")
        on_grace_over()

    async def close() -> None:
        calls.append("close")

    hooks = Hooks(
        on_started=lambda host, port: started.set_result((host, port)),
        on_stop=stop,
        on_grace_over=grace_over,
        on_close=close,
    )
    server = Server(app, schema.Server(**{"port": 0, "shutdown_grace_s": 0, **settings}), hooks)
    task = asyncio.create_task(server.serve())
    await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
    if task.done():
        task.result()
    served = Served(server, await started, calls, task, stopping)
    try:
        yield served
    finally:
        server.stop()
        await served.stopped()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """One TCP connection, from its opening to whatever end."""

    def __init__(self, address: tuple[str, int], *, receive_buffer: int | None = None) -> None:
        """A small `receive_buffer` (bytes) makes a client that soon takes no more."""
        self._address = address
        self._receive_buffer = receive_buffer
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        sock = socket.socket()
        sock.setblocking(False)
        if self._receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self._address)
        except OSError:
            sock.close()
            raise
        limit = self._receive_buffer or 2**16
        self.reader, self.writer = await asyncio.open_connection(sock=sock, limit=limit)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def half_close(self) -> None:
        """Close the sending side: the server reads the end of the stream."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Close so that the server's next system call on the connection fails."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def line(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\n"), PATIENCE_S)

    async def read(self, size: int) -> bytes:
        """Return exactly that many bytes."""
        return await asyncio.wait_for(self.reader.readexactly(size), PATIENCE_S)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Return status and headers of the next answer; a header sent twice fails."""
        status = int((await self.line()).split()[1])
        headers: dict[str, str] = {}
        while (line := (await self.line()).decode("latin-1").strip()) != "":
            name, _, value = line.partition(": ")
            assert name not in headers, f"{name} was sent twice"
            headers[name] = value
        return status, headers

    async def answer(self, *, bodiless: bool = False) -> Answer:
        """Return the next answer whole."""
        status, headers = await self.head()
        if bodiless or status < 200:
            return Answer(status, headers, b"")
        if "content-length" in headers:
            return Answer(status, headers, await self.read(int(headers["content-length"])))
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join([chunk async for chunk in self.chunks()]))
        return Answer(status, headers, await self.rest())

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the chunks of a body as they come."""
        while size := int(await self.line(), 16):
            yield await self.read(size)
            assert await self.read(2) == b"\r\n"
        assert await self.read(2) == b"\r\n"

    async def rest(self) -> bytes:
        """Return all that comes until the server closes, or resets, the connection."""
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while data := await asyncio.wait_for(self.reader.read(2**16), PATIENCE_S):
                received += data
        return bytes(received)
