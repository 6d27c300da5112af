"""multipart/form-data bodies: bounded, on disk when large, sent on without being loaded.

On its way to a provider the part `model` gets that provider's name for the model and the part
`provider` is left out; every other byte is as it came. docs/api.md, "What is changed on the way up"
"""

import asyncio
import io
import tempfile
import threading
from collections.abc import Sequence
from typing import IO, BinaryIO, cast

from starlette.types import Receive

from proxy.core.errors import BadRequest, Unavailable
from proxy.core.multipart import FormScanner, TextPart
from proxy.upstream.client import BodyFile
from proxy.web.body import ClientDisconnected, check_length, refuse_length

Headers = list[tuple[bytes, bytes]]

# So much of a body is in memory; the rest is on disk. Written at once, in a thread, it takes about
# a millisecond, and small uploads never touch the disk.
MEMORY_BYTES = 1024 * 1024


class Spool:
    """Bytes that grow at their end, in memory and beyond it in an unnamed file; closed when let go of."""

    def __init__(self) -> None:
        self.length = 0
        self._lock = threading.Lock()  # pieces are read in threads, one of them perhaps abandoned
        self._file: IO[bytes] | None = None
        self._file_length = 0
        self._tail = bytearray()

    async def append(self, data: bytes) -> None:
        """Add bytes; raises Unavailable when the disk does not take them."""
        self._tail += data
        self.length += len(data)
        if len(self._tail) > MEMORY_BYTES:
            try:
                await asyncio.to_thread(self._spill)
            except OSError as error:
                raise Unavailable(
                    "overloaded",
                    f"The request body could not be stored: {error.strerror}.",
                    retry_after_s=10,
                ) from error

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at an offset, at least one unless that is the end."""
        with self._lock:
            if offset >= self._file_length:
                start = offset - self._file_length
                return bytes(self._tail[start : start + size])
            assert self._file is not None
            self._file.seek(offset)
            return self._file.read(min(size, self._file_length - offset))

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()

    def __del__(self) -> None:
        self.close()

    def _spill(self) -> None:
        with self._lock:
            if self._file is None:
                # Unbuffered: a full disk shows at once, and not when the file is closed.
                self._file = tempfile.TemporaryFile(prefix="sluice-", buffering=0)  # noqa: SIM115
            self._file.seek(self._file_length)
            rest = bytes(self._tail)
            while rest:
                rest = rest[self._file.write(rest) :]
            self._file_length += len(self._tail)
            self._tail.clear()


class _Spliced(io.RawIOBase):
    """A file made of ranges of a spool and of other bytes."""

    def __init__(self, spool: Spool, pieces: Sequence[range | bytes]) -> None:
        self._spool = spool
        self._pieces = pieces
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._position = offset
        elif whence == io.SEEK_CUR:
            self._position += offset
        else:
            self._position = sum(map(len, self._pieces)) + offset
        return self._position

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        offset = self._position
        for piece in self._pieces:
            if offset < len(piece):
                rest = piece[offset : offset + len(buffer)]
                if isinstance(rest, range):
                    rest = self._spool.read_at(rest.start, len(rest))
                buffer[: len(rest)] = rest
                self._position += len(rest)
                return len(rest)
            offset -= len(piece)
        return 0


class MultipartForm:
    """A form that was received whole; `provider` is the one that the client pins."""

    def __init__(self, spool: Spool, parts: dict[str, TextPart]) -> None:
        self._spool = spool
        self._parts = parts
        if not (model := _text(parts, "model")):
            raise BadRequest("missing_model", 'The form has no part "model".', param="model")
        self.model = model
        self.provider = _text(parts, "provider")
        self.stream = (_text(parts, "stream") or "").lower() in ("true", "1")

    def with_model(self, model: str) -> BodyFile:
        """Return the body for a provider that knows the model by this name."""
        part = self._parts["model"]
        edits = [(part.value_start, part.value_end, model.encode())]
        if "provider" in self._parts:
            pinned = self._parts["provider"]
            edits.append((pinned.start, pinned.end, b""))
        pieces: list[range | bytes] = []
        position = 0
        for start, end, text in sorted(edits):
            pieces += [range(position, start), text]
            position = end
        pieces.append(range(position, self._spool.length))
        file = io.BufferedReader(_Spliced(self._spool, pieces), 64 * 1024)
        return BodyFile(cast(BinaryIO, file), sum(map(len, pieces)))

    def close(self) -> None:
        """Let go of the file; what is still read of it then fails."""
        self._spool.close()


async def read_multipart(
    receive: Receive, headers: Headers, boundary: bytes | None, limit: int
) -> MultipartForm:
    """Read a form of at most `limit` bytes.

    Raises:
        BadRequest: missing_model, invalid_value (malformed), duplicate_key.
        RequestRefused: body_too_large.
        ClientDisconnected: The client went away.
        Unavailable: The disk is full.
    """
    check_length(headers, limit)
    scanner = FormScanner(boundary, ("model", "provider", "stream"))
    spool = Spool()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        data = message.get("body", b"")
        if spool.length + len(data) > limit:
            refuse_length(limit)
        scanner.feed(data)
        await spool.append(data)
        more = message.get("more_body", False)
    scanner.finish()
    return MultipartForm(spool, scanner.parts)


def _text(parts: dict[str, TextPart], name: str) -> str | None:
    """Return a part's value, None when it is absent or empty."""
    part = parts.get(name)
    try:
        return part.value.decode() or None if part else None
    except UnicodeDecodeError:
        raise BadRequest("invalid_value", f'The part "{name}" is not UTF-8.', param=name) from None
