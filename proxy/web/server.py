"""The HTTP server: listening, signals, and an end that lets running answers finish."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, TypeVar

import uvicorn
from starlette.types import ASGIApp

from proxy.config import schema
from proxy.web.addresses import HostPolicy, networks
from proxy.web.listener import Policy, SharedState
from proxy.web.protocol import MAX_REFUSING, ClientProtocol

if sys.platform != "win32":
    import resource

    import uvloop

T = TypeVar("T")

logger = logging.getLogger("sluice.server")

# 1,000 clients may connect in the same moment.
BACKLOG = 4096
# After the grace: for the answers that were just ended to be written and recorded.
AFTER_GRACE_S = 5.0
# Descriptors that are no connections: database, log, listeners, event loop; and those being refused.
RESERVED_DESCRIPTORS = 32 + MAX_REFUSING
# At least this many clients are served, however few descriptors there are.
MIN_CONNECTIONS = 8
# Of an answer, this much may wait in the system beyond what is on its way. Left alone, Linux takes
# megabytes for a client that reads nothing, and the provider would not be slowed down.
NOTSENT_LOWAT = 128 * 1024
EXIT_INTERRUPTED = 130

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The socket module has the name from Python 3.12 on; Linux 3.12, <linux/tcp.h>.
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)


class CannotListen(Exception):
    """The address cannot be listened on; the message says which option to change."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the application does as its server starts and stops; the calls are made in this order."""

    #: With the address really listened on.
    on_started: Callable[[str, int], None]
    #: A signal came: new requests are to be refused from now on.
    on_stop: Callable[[], None]
    #: The grace is over, and answers are still running: end them.
    on_grace_over: Callable[[], None]
    #: Nothing runs any more: settle and close.
    on_close: Callable[[], Awaitable[None]]
    #: SIGHUP: the configuration is to be read again. At any time between the start and the stop.
    on_reload: Callable[[], None] | None = None


class Server(uvicorn.Server):
    """Serves one app on one address until a signal; `await serve()` returns after a clean stop.

    The first SIGTERM or SIGINT lets running answers finish for `shutdown_grace_s`, a second one ends
    the process where it stands. docs/operations.md, "Stopping"
    """

    server_state: SharedState

    def __init__(self, app: ASGIApp, settings: schema.Server, hooks: Hooks) -> None:
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=ClientProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        super().__init__(config)
        self._settings = settings
        self._hooks = hooks
        self._descriptors = raise_descriptor_limit(2 * settings.max_connections + RESERVED_DESCRIPTORS)
        self._stop = asyncio.Event()
        self._terminal: int | None = None
        self.server_state = SharedState(self._policy(settings))

    def apply(self, settings: schema.Server) -> None:
        """Use other settings from the next request on; address and port stay as they are."""
        if settings == self._settings:
            return
        self._settings = settings
        self._descriptors = raise_descriptor_limit(2 * settings.max_connections + RESERVED_DESCRIPTORS)
        self.server_state.policy = self._policy(settings)

    def stop(self) -> None:
        """Stop as the first signal does."""
        self.should_exit = True
        self._stop.set()

    # -- what uvicorn.Server.serve calls, in this order

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal. uvicorn raises it again in the end, which would spoil the exit code."""
        loop = asyncio.get_running_loop()
        restore = [_handle_signal(loop, number, self._on_signal) for number in _STOP_SIGNALS]
        if sys.platform != "win32" and self._hooks.on_reload is not None:
            self._terminal = _terminal()
            restore.append(_handle_signal(loop, signal.SIGHUP, self._on_hangup))
        try:
            yield
        finally:
            for undo in restore:
                undo()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. Raises CannotListen."""
        loop = asyncio.get_running_loop()
        self.server_state.date = _date_line()
        host, port = self.config.host, self.config.port
        try:
            server = await loop.create_server(self._connect, host, port, backlog=BACKLOG)
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        self.servers = [server]
        self.started = True
        for listener in server.sockets:
            if _TCP_NOTSENT_LOWAT is not None:  # accepted sockets inherit it
                listener.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)
        host, port = server.sockets[0].getsockname()[:2]
        self._hooks.on_started(host, port)

    async def main_loop(self) -> None:
        while not self._stop.is_set():
            self.server_state.date = _date_line()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.shutdown_grace_s
        logger.info("stopping: running answers have %g s", self._settings.shutdown_grace_s)
        for server in self.servers:
            server.close()
        self.server_state.stopping = True
        self._hooks.on_stop()
        if await self._tasks_running(end):
            logger.warning("ending %d answers that run past the grace", len(self.server_state.tasks))
            self._hooks.on_grace_over()
            end = loop.time() + AFTER_GRACE_S
            await self._tasks_running(end)
        await self._close_connections(max(end, loop.time() + 1))
        await self._hooks.on_close()

    # --

    def _connect(self) -> ClientProtocol:
        return ClientProtocol(self.config, self.server_state, {})

    def _policy(self, settings: schema.Server) -> Policy:
        limit = settings.max_connections
        if self._descriptors is not None:
            # A client's request takes a second connection, to its provider.
            limit = min(limit, max(MIN_CONNECTIONS, (self._descriptors - RESERVED_DESCRIPTORS) // 2))
        if limit < settings.max_connections:
            logger.info(
                "server.max_connections: %d instead of %d, since the process may open only %d files",
                limit,
                settings.max_connections,
                self._descriptors,
            )
        return Policy(
            hosts=HostPolicy(self.config.host, settings.allowed_hosts),
            trusted_proxies=networks(settings.trusted_proxies),
            max_connections=limit,
            max_header_bytes=settings.max_header_kib * 1024,
            max_discarded_bytes=settings.max_body_mib * 1024 * 1024,
            header_timeout_s=settings.header_timeout_s,
            body_timeout_s=settings.body_timeout_s,
        )

    def _on_signal(self) -> None:
        if self.should_exit:
            os._exit(EXIT_INTERRUPTED)
        self.stop()

    def _on_hangup(self) -> None:
        """Reload, unless it is not somebody's wish: a terminal that is closed ends its programs."""
        if self._terminal is not None and not os.isatty(self._terminal):
            self.stop()
        elif self._hooks.on_reload is not None:
            self._hooks.on_reload()

    async def _tasks_running(self, end: float) -> bool:
        """Wait for the answers until `end`; return whether some still run."""
        tasks = self.server_state.tasks
        while tasks and (left_s := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(list(tasks), timeout=left_s)
        return bool(tasks)

    async def _close_connections(self, end: float) -> None:
        for task in list(self.server_state.tasks):
            task.cancel()
        connections = self.server_state.connections
        for connection in [*connections, *self.server_state.refusing]:
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while connections:
                    self.server_state.connection_lost.clear()
                    await self.server_state.connection_lost.wait()
        for connection in list(connections):
            connection.transport.abort()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run the program's main coroutine, on uvloop where there is one."""
    factory = None if sys.platform == "win32" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def raise_descriptor_limit(wanted: int) -> int | None:
    """Let the process open `wanted` files, as far as it may; return how many. None: there is no limit."""
    if sys.platform == "win32":
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return None
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if target > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        except (OSError, ValueError) as error:  # macOS: "unlimited" still has a limit of the kernel's
            logger.debug("the limit of open files stays at %d: %s", soft, error)
        else:
            soft = target
    return soft


def tune_garbage_collection() -> None:
    """Leave what was built at the start out of collections, and collect less often.

    Requests leave no cycles behind; with the default thresholds a collection delays one in a hundred.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _handle_signal(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, handler: Callable[[], None]
) -> Callable[[], object]:
    """Call `handler` in the loop at each such signal; return how to undo that."""
    try:
        loop.add_signal_handler(number, handler)
    except NotImplementedError:  # Windows
        previous = signal.signal(number, lambda *_: loop.call_soon_threadsafe(handler))
        return lambda: signal.signal(number, previous)
    return lambda: loop.remove_signal_handler(number)


def _terminal() -> int | None:
    """Return a descriptor of the terminal that this program ends with; None where there is none."""
    if sys.platform == "win32" or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
        return None
    return next((fd for fd in range(3) if os.isatty(fd)), None)


def _date_line() -> bytes:
    return f"date: {formatdate(usegmt=True)}\r\n".encode("ascii")


async def try_listening(settings: schema.Server) -> None:
    """Bind the address and let it go again. Raises CannotListen."""
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(asyncio.Protocol, settings.host, settings.port, start_serving=False)
    except OSError as error:
        raise _cannot_listen(settings.host, settings.port, error) from error
    server.close()
    await server.wait_closed()


def _cannot_listen(host: str, port: int, error: OSError) -> CannotListen:
    if error.errno == errno.EADDRINUSE:
        return CannotListen(
            f"Port {port} on {host} is in use: stop what uses it, or choose another with --port."
        )
    if error.errno == errno.EACCES:
        return CannotListen(f"Port {port} needs privileges: choose one above 1023 with --port.")
    return CannotListen(
        f"Cannot listen on {host}: {error.strerror or error}. Choose another address with --host."
    )
