"""What is asked of an upstream: where, how long it may take, and the bytes of the question."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

Headers = list[tuple[bytes, bytes]]

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """A server that connections are made to, and how: what the pool tells connections apart by.

    `http_proxy` is `http://[user:password@]host:port`, a proxy that is asked for a tunnel by CONNECT.
    `ca_file` adds certificates to those that are trusted anyway.

    Raises:
        UnicodeError: the host cannot be the name of one.
    """

    scheme: str
    host: str
    port: int
    http_proxy: str | None = field(default=None, repr=False)  # may hold a password
    ca_file: Path | None = None
    #: The value of the Host header.
    authority: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port != DEFAULT_PORTS.get(self.scheme):
            host = f"{host}:{self.port}"
        object.__setattr__(self, "authority", host.encode("idna"))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the phases of an exchange may take, in seconds.

    `connect_s` is for name, socket, proxy and TLS together; `first_byte_s` counts from the last byte
    of the request that was taken to the first of the answer's body, `idle_s` from one byte to the
    next from then on, `total_s` from the call to the answer's end.
    """

    connect_s: float
    first_byte_s: float
    idle_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class BodyFile:
    """A request body on disk, read from the file's start whenever it is sent."""

    file: BinaryIO
    length: int

    async def read(self, size: int) -> bytes:
        """Return the next bytes, read in a thread: a disk can be slow.

        Raises:
            EOFError: the file is shorter than `length`.
        """
        piece = await asyncio.get_running_loop().run_in_executor(None, self.file.read, size)
        if not piece:
            raise EOFError(f"the file of a request body ended before its {self.length} bytes")
        return piece


Body = bytes | BodyFile


def encode_head(origin: Origin, method: str, target: bytes, headers: Headers, body: Body) -> bytes:
    """Return the request line and the headers, with Host, Accept-Encoding and Content-Length added.

    Compression is refused, because usage has to be read from what passes through.

    Raises:
        ValueError: a line break in the target or in a header, which would begin another header.
    """
    length = len(body) if isinstance(body, bytes) else body.length
    lines = [
        b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n"
        % (method.encode(), target, origin.authority)
    ]
    lines += [b"%b: %b\r\n" % header for header in headers]
    # RFC 9110 8.6: "A user agent SHOULD send Content-Length in a request when the method defines a
    # meaning for enclosed content", also when there is none.
    lines.append(b"\r\n" if method == "GET" and not length else b"content-length: %d\r\n\r\n" % length)
    head = b"".join(lines)
    breaks = len(headers) + (4 if lines[-1] == b"\r\n" else 5)
    if not head.count(b"\r\n") == head.count(b"\r") == head.count(b"\n") == breaks:
        raise ValueError("a request target or header holds a line break")
    return head
