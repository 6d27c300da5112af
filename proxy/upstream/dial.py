"""Opening a connection to an upstream: addresses, sockets, a proxy's tunnel, TLS."""

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from itertools import chain, zip_longest
from typing import Any

from proxy.core.errors import UpstreamError
from proxy.upstream.connection import Connection
from proxy.upstream.request import Origin
from proxy.upstream.tls import TlsContexts
from proxy.upstream.tunnel import HttpProxy, TunnelFailed, open_tunnel

# Seconds from one attempt to the next; what RFC 8305 5 recommends.
ATTEMPT_DELAY_S = 0.25

Address = tuple[int, int, int, str, Any]  # as getaddrinfo gives them


async def dial(origin: Origin, tls: TlsContexts, make: Callable[[], Connection]) -> Connection:
    """Open a connection, through the origin's proxy if it has one; `make` makes its object.

    Failed or cancelled, it leaves no socket behind. How long it may take is the caller's matter.

    Raises:
        UpstreamError: upstream_connect_failed; the message says what failed.
    """
    context = await _tls_context(origin, tls) if origin.scheme == "https" else None
    through = ""
    try:
        if origin.http_proxy is None:
            sock = await connect(origin.host, origin.port)
        else:
            proxy = HttpProxy.parse(origin.http_proxy)
            through = f" through the proxy {proxy}"
            sock = await _connect_through(proxy, origin)
        # From here on the transport owns the socket, in failure too.
        _, connection = await asyncio.get_running_loop().create_connection(
            make, sock=sock, ssl=context, server_hostname=origin.host if context else None
        )
    except (OSError, UnicodeError, TunnelFailed) as error:
        message = f"cannot connect to {origin}{through}: {_reason(error)}"
        raise UpstreamError("upstream_connect_failed", message) from error
    return connection


async def _tls_context(origin: Origin, tls: TlsContexts) -> ssl.SSLContext:
    try:
        return await tls.get(origin.ca_file)
    except OSError as error:
        message = f"cannot use the certificates in {origin.ca_file or 'the system'}: {_reason(error)}"
        raise UpstreamError("upstream_connect_failed", message) from error


async def connect(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to the first address of the host that answers.

    The families take turns, a quarter of a second apart, so that a broken IPv6 route costs that
    much and no more (RFC 8305, "Happy Eyeballs").

    Raises:
        OSError: none answered; the first one's error.
    """
    addresses = await _resolve(host, port)
    if len(addresses) == 1:
        return await _connect(addresses[0])
    waiting = deque(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    errors: list[BaseException] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_connect(waiting.popleft())))
            done, _ = await asyncio.wait(
                running,
                timeout=ATTEMPT_DELAY_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                running.remove(attempt)
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                errors.append(error)
    finally:
        for attempt in running:
            attempt.cancel()
            attempt.add_done_callback(_close_late_socket)
    raise errors[0]


async def _connect_through(proxy: HttpProxy, origin: Origin) -> socket.socket:
    sock = await connect(proxy.host, proxy.port)
    try:
        await open_tunnel(sock, proxy, origin.host, origin.port)
    except BaseException:
        sock.close()
        raise
    return sock


async def _resolve(host: str, port: int) -> list[Address]:
    """Return the host's addresses, the families alternating."""
    try:  # numbers need neither a name server nor the thread that asks it
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    first_family = found[0][0]
    first = [address for address in found if address[0] == first_family]
    second = [address for address in found if address[0] != first_family]
    return [address for address in chain(*zip_longest(first, second)) if address is not None]


async def _connect(address: Address) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_late_socket(attempt: asyncio.Task[socket.socket]) -> None:
    """An attempt that lost the race may have connected all the same."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"its name cannot be resolved: {error.strerror}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)  # asyncio's own text repeats the address
    return str(error)
