"""Finding the text parts of a multipart/form-data body while it passes, without keeping it.

Strict where readers differ: a form that another reader could take for one with other parts is
refused, because what is limited and billed here has to be what the provider reads.

Sources: RFC 7578 (form-data), RFC 2046 5.1.1 (delimiters)
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

from proxy.core.errors import BadRequest

MAX_PARTS = 1000
MAX_PART_HEADER_BYTES = 16 * 1024
MAX_VALUE_BYTES = 4096  # far above any model name

# RFC 2046: "bchars" up to 70, a space not being the last one.
_BOUNDARY = re.compile(rb"[\w'()+,\-./:=? ]{0,69}[\w'()+,\-./:=?]")
_PARAMETER = re.compile(rb';[ \t]*([\w!#$%&\'*+.^`|~-]+)=("(?:[^"\\\r\n]|\\.)*"|[^\s";]*)[ \t]*')
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part that is no file. Offsets are those of the body.

    The part with its delimiter is at [start, end), and its value at [value_start, value_end).
    """

    value: bytes
    start: int
    value_start: int
    value_end: int
    end: int


class FormScanner:
    """Is fed a body in pieces of any size and remembers the wanted text parts.

    Every method raises BadRequest (`invalid_value`, or `duplicate_key` for a wanted part that
    comes twice).
    """

    def __init__(self, boundary: bytes | None, wanted: Collection[str]) -> None:
        if boundary is None or not _BOUNDARY.fullmatch(boundary):
            _refuse("its content-type header has no valid boundary")
        self.parts: dict[str, TextPart] = {}
        self._wanted = frozenset(wanted)
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter may lack its line break: it is supplied, before the body's first byte.
        self._buffer = bytearray(b"\r\n")
        self._offset = -2  # of the buffer's first byte
        self._count = 0
        self._in_head = False
        self._closed = False
        self._name: str | None = None  # of the part at hand, if it is wanted
        self._start = 0
        self._value = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self._closed:
            return  # RFC 2046: what follows the closing delimiter is to be ignored
        self._buffer += data
        while self._read_head() if self._in_head else self._read_content():
            pass

    def finish(self) -> None:
        """The body has ended."""
        if not self._closed:
            _refuse("it does not end with its closing boundary")

    def _read_content(self) -> bool:
        """Pass over content up to the next delimiter; return whether it was there."""
        end = self._buffer.find(self._delimiter)
        if end < 0:
            self._take(max(len(self._buffer) - len(self._delimiter) + 1, 0))
            return False
        self._take(end)
        if self._name is not None:
            self.parts[self._name] = TextPart(
                bytes(self._value),
                self._start,
                self._offset - len(self._value),
                self._offset,
                self._offset + 2,
            )
        self._start = self._offset + 2
        self._drop(len(self._delimiter))
        self._in_head = True
        return True

    def _read_head(self) -> bool:
        """Read what follows a delimiter: the end of the form, or a part's headers."""
        if self._buffer.startswith(b"--"):
            self._closed = True
            self._buffer.clear()
            return False
        end = self._buffer.find(b"\r\n\r\n")
        if (end if end >= 0 else len(self._buffer)) > MAX_PART_HEADER_BYTES:
            _refuse("the headers of a part are too long")
        if end < 0:
            return False
        self._count += 1
        if self._count > MAX_PARTS:
            _refuse(f"it has more than {MAX_PARTS} parts")
        name = _text_part_name(bytes(self._buffer[:end]))
        self._name = name if name in self._wanted else None
        if self._name in self.parts:
            raise BadRequest("duplicate_key", f'The form has two parts named "{name}".', param=name)
        self._value.clear()
        self._drop(end + 4)
        self._in_head = False
        return True

    def _take(self, count: int) -> None:
        if self._name is not None:
            self._value += self._buffer[:count]
            if len(self._value) > MAX_VALUE_BYTES:
                _refuse(f'its part "{self._name}" is longer than {MAX_VALUE_BYTES} bytes', self._name)
        self._drop(count)

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._offset += count


def _text_part_name(head: bytes) -> str | None:
    """Return the name that the rest of a delimiter's line and the headers give a text part."""
    padding, _, headers = head.partition(b"\r\n")
    if padding.strip(b" \t"):
        _refuse("a boundary is followed by something else")
    disposition = None
    encoded = False
    for line in headers.split(b"\r\n") if headers else ():
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not name.strip() or b"\n" in line or b"\r" in line or line[:1].isspace():
            _refuse("a part has a malformed header")
        if name == b"content-disposition":
            if disposition is not None:
                _refuse("a part has two content-disposition headers")
            disposition = _disposition(value.strip())
        elif name == b"content-transfer-encoding":
            encoded = value.strip().lower() not in (b"7bit", b"8bit", b"binary")
    if disposition is None or b"filename" in disposition or b"filename*" in disposition:
        return None
    if encoded:
        _refuse("a text part has a content-transfer-encoding")
    return disposition.get(b"name", b"").decode("utf-8", "replace")


def _disposition(text: bytes) -> dict[bytes, bytes]:
    """Return the parameters of a content-disposition header."""
    kind, semicolon, _ = text.partition(b";")
    if kind.strip().lower() != b"form-data":
        _refuse("a part is no form-data")
    parameters: dict[bytes, bytes] = {}
    position = len(kind) if semicolon else len(text)
    while position < len(text):
        found = _PARAMETER.match(text, position)
        if found is None:
            _refuse("a part has a malformed content-disposition header")
        name, value = found[1].lower(), found[2]
        # RFC 7578 4.2: the extended form of RFC 5987 "MUST NOT be used"; for file names it is common.
        if name in parameters or name == b"name*":
            _refuse("a part is named twice or in two ways")
        parameters[name] = _ESCAPE.sub(rb"\1", value[1:-1]) if value[:1] == b'"' else value
        position = found.end()
    return parameters


def _refuse(reason: str, param: str | None = None) -> NoReturn:
    raise BadRequest("invalid_value", f"The multipart form cannot be read: {reason}.", param=param)
