r"""The text of a freeform ("custom") tool, out of the arguments of the function it was offered as.

A Chat model calls functions with JSON, so a freeform tool is offered as a function with one string,
`{"input": "…"}`. docs/dialects.md, "Responses over Chat"
"""

import json
import re
from enum import Enum, auto

from proxy.dialects.chat_reading import clean

_START = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# Longer than any way of writing the beginning that a model would think of.
_START_CHARS = 64

# As much of a JSON string as can be read whatever comes next: the halves of a surrogate pair are
# read together, so one at the end waits for its other half. Bad escapes are read as they stand.
_READABLE = re.compile(
    r"""(?: [^"\\]++
          | \\[^u]
          | \\u(?![dD][89abAB])[0-9a-fA-F]{4}
          | \\u[dD][89abAB][0-9a-fA-F]{2}(?: \\u[dD][c-fC-F][0-9a-fA-F]{2}
                                           | (?= [^\\] | \\[^u] | \\u[^dD] | \\u[dD][^c-fC-F] ) )
          | \\u(?=[0-9a-fA-F]{0,3}[^0-9a-fA-F])
        )*""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}


class _At(Enum):
    START = auto()
    TEXT = auto()
    END = auto()
    ELSEWHERE = auto()  # in arguments that do not begin as expected


class FreeformInput:
    """Reads the text while its JSON arrives; how that is cut into pieces makes no difference."""

    __slots__ = ("_at", "_held", "_pieces")

    def __init__(self) -> None:
        self._at = _At.START
        self._held = ""  # what cannot be read yet
        self._pieces: list[str] = []  # all there is elsewhere

    def feed(self, piece: str) -> str:
        """Return the text that can be read now."""
        if self._at is _At.START:
            piece = self._begin(self._held + piece)
        if self._at is _At.TEXT:
            return self._read(self._held + piece)
        if self._at is _At.ELSEWHERE:
            self._pieces.append(piece)
        return ""

    def finish(self) -> str:
        """Return what is left when no more comes: everything, unless it began as expected."""
        if self._at is _At.START:
            return _other_text(self._held)
        return _other_text("".join(self._pieces))

    def _begin(self, arguments: str) -> str:
        """Find out where this is, as soon as there is enough; return what follows."""
        start = _START.match(arguments, 0, _START_CHARS)
        if start is None and len(arguments) < _START_CHARS:
            self._held = arguments
            return ""
        self._held = ""
        self._at = _At.TEXT if start else _At.ELSEWHERE
        return arguments[start.end() :] if start else arguments

    def _read(self, arguments: str) -> str:
        readable = _READABLE.match(arguments)
        assert readable is not None, "it matches nothing at all, too"
        self._held = arguments[readable.end() :]
        if self._held.startswith('"'):
            self._at = _At.END
        return clean(_ESCAPE.sub(_unescaped, readable[0]))


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else _ESCAPED.get(escape[2], escape[0])


def _other_text(arguments: str) -> str:
    """Return the text that arguments of another form most likely mean: their only string, or themselves."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    if not isinstance(value, dict):
        return arguments
    texts = [value["input"]] if "input" in value else list(value.values())
    if len(texts) == 1 and isinstance(texts[0], str):
        return clean(texts[0])
    return arguments
