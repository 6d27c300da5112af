"""Server-sent events, as bytes: splitting a stream into frames, reading one, putting it in canonical form.

A frame is a block of lines ended by an empty line. The format is the WHATWG HTML standard's
"Server-sent events"; lines end with LF, CRLF or CR and nothing else: U+2028 and U+0085, which
JSON may hold raw, end none. That is why nothing here uses `splitlines`.
"""

from typing import NamedTuple

# Far above any event seen (whole images travel base64-encoded in one); it bounds the memory of a stream.
MAX_EVENT_BYTES = 16 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_BLANK_LINE = b"\n\n"
_CR = 0x0D


class EventTooLarge(ValueError):
    """One event is larger than `MAX_EVENT_BYTES`."""

    def __init__(self) -> None:
        super().__init__(f"one event of the stream is larger than {MAX_EVENT_BYTES // 1024**2} MiB")


class Event(NamedTuple):
    """What one frame says. `data` is None when the frame has no data line at all."""

    event: bytes | None
    data: bytes | None
    id: bytes | None
    comments: tuple[bytes, ...] = ()


class FrameSplitter:
    """Cuts a stream into frames, however its bytes are split over reads.

    Frames come with every line ended by LF; nothing else about them is changed, except that a byte
    order mark at the start of the stream and superfluous empty lines are dropped.
    """

    __slots__ = ("_after_cr", "_at_start", "_held")

    def __init__(self) -> None:
        self._held = bytearray()
        self._after_cr = False
        self._at_start = True

    @property
    def pending(self) -> bool:
        """Whether bytes of an unfinished frame are held."""
        return bool(self._held)

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that `chunk` completes; raises EventTooLarge."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the rest of a CRLF whose CR has already ended the line
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._held:
            unseen = len(self._held) - 1  # an empty line may straddle two reads
            self._held += chunk
            if self._held.find(_BLANK_LINE, unseen) < 0:
                _check(self._held)
                return []
            chunk = bytes(self._held)
        *blocks, rest = chunk.split(_BLANK_LINE)
        _check(rest)
        self._held = bytearray(rest)
        return [frame for block in blocks if (frame := self._frame(block))]

    def finish(self) -> list[bytes]:
        """Return what is left at the end of the stream as a last frame, if anything.

        The standard discards it; providers exist that end without the last empty line.
        """
        rest = bytes(self._held).removesuffix(b"\n")
        self._held.clear()
        frame = self._frame(rest)
        return [frame] if frame else []

    def _frame(self, block: bytes) -> bytes:
        if self._at_start:
            self._at_start = False
            block = block.removeprefix(_BOM)
        _check(block)
        block = block.lstrip(b"\n")
        return block + _BLANK_LINE if block else b""


def _check(held: bytes | bytearray) -> None:
    if len(held) > MAX_EVENT_BYTES:
        raise EventTooLarge


def parse(frame: bytes) -> Event:
    """Read one frame as `FrameSplitter` gives it: data lines are joined by LF."""
    if _is_one_data_line(frame):
        return Event(None, frame[6:-2], None)
    event: bytes | None = None
    id: bytes | None = None
    data: list[bytes] = []
    comments: list[bytes] = []
    for line in frame.rstrip(b"\n").split(b"\n"):
        name, value = _field(line)
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value
        elif name == b"id":
            id = value
        elif not name:
            comments.append(value)
    return Event(event, b"\n".join(data) if data else None, id, tuple(comments))


def canonical(frame: bytes, *, keep_event: bool) -> bytes:
    """Return one frame in the form that the simplest clients read; its data is unchanged.

    One space follows each field's colon, each comment is a block of its own, `retry` is dropped,
    and so are `event` and `id` unless `keep_event`. Returns b"" when nothing is left.

    Source: docs/api.md, "Streaming"
    """
    if _is_one_data_line(frame):
        return frame
    comments: list[bytes] = []
    lines: list[bytes] = []
    for line in frame.rstrip(b"\n").split(b"\n"):
        name, value = _field(line)
        if not name:
            comments.append(line + _BLANK_LINE)
        elif name == b"data" or (keep_event and name in (b"event", b"id")):
            lines.append(name + b": " + value + b"\n")
        elif name not in (b"event", b"id", b"retry"):
            lines.append(line + b"\n")  # an unknown field means nothing; it is not ours to drop
    if lines:
        lines.append(b"\n")
    return b"".join(comments + lines)


def is_canonical_block(chunk: bytes) -> bool:
    """Return whether `chunk` is nothing but whole frames of one `data: {…}` line each.

    Each frame ends with two LFs; when those are all the LFs there are, no frame has a second line.
    """
    return (
        chunk.startswith(b"data: {")
        and chunk.endswith(b"}\n\n")
        and _CR not in chunk
        and (
            chunk.find(b"\n") == len(chunk) - 2  # one frame: the usual case, at half the cost
            or chunk.count(b"\n") == 2 + 2 * chunk.count(b"}\n\ndata: {")
        )
    )


def _is_one_data_line(frame: bytes) -> bool:
    return frame.startswith(b"data: ") and frame.find(b"\n") == len(frame) - 2


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Return a line's field name, empty for a comment, and its value without the one leading space."""
    name, _, value = line.partition(b":")
    return name, value.removeprefix(b" ")
