"""Tunnels through HTTP proxies, by CONNECT (RFC 9110 9.3.6), for http and https origins alike."""

import asyncio
import base64
import re
import socket
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes, urlsplit

# Of the proxy's answer; it has a status line and a few headers.
MAX_ANSWER_BYTES = 16 * 1024

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")


class TunnelFailed(Exception):
    """The proxy did not open a tunnel. The message never holds its password."""


@dataclass(frozen=True, slots=True)
class HttpProxy:
    """A proxy, and what is sent to it as `Proxy-Authorization`."""

    host: str
    port: int
    authorization: bytes | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> "HttpProxy":
        """Read `http://[user:password@]host[:port]`; user and password may be percent-encoded.

        Raises:
            TunnelFailed: it is anything else.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme != "http":
            raise TunnelFailed("http_proxy is not of the form http://user:password@host:port")
        authorization = None
        if parts.username is not None:
            pair = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
            authorization = b"Basic " + base64.b64encode(pair)
        return cls(host, port or 80, authorization)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def open_tunnel(sock: socket.socket, proxy: HttpProxy, host: str, port: int) -> None:
    """Ask the proxy at the other end of the socket to connect it with host and port.

    Raises:
        TunnelFailed: it refused, or did not answer in HTTP.
        OSError: the connection broke.
    """
    loop = asyncio.get_running_loop()
    target = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode("idna")
    request = b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (target, target)
    if proxy.authorization is not None:
        request += b"proxy-authorization: %b\r\n" % proxy.authorization
    await loop.sock_sendall(sock, request + b"\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await loop.sock_recv(sock, MAX_ANSWER_BYTES)
        answer += data
        if not data or len(answer) > MAX_ANSWER_BYTES:
            raise TunnelFailed("it did not answer CONNECT in HTTP")
    status = _STATUS.match(answer)
    if status is None:
        raise TunnelFailed("it did not answer CONNECT in HTTP")
    if not status[1].startswith(b"2"):
        raise TunnelFailed(f"it answered CONNECT with status {status[1].decode()}")
    if not answer.endswith(b"\r\n\r\n"):  # in HTTP and in TLS the client speaks first
        raise TunnelFailed("it sent something into the tunnel")
