"""The content blocks of a streamed message: numbered, one open at a time, each started and stopped.

What Chat interleaves (several tool calls at once, text in the midst of one) waits until the open
block can be closed; a tool call can when its arguments are whole. docs/dialects.md, "Tool calls in streams"
"""

from collections import deque

import msgspec

from proxy.dialects.chat_calls import StreamedCall
from proxy.dialects.messages_answer import CallIds

_encode = msgspec.json.encode

_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b'
_DELTA_END = b"}}\n\n"
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'

_CALL_DELTA = b'{"type":"input_json_delta","partial_json":'


class TextKind:
    """What kind of text a block holds: how it starts, and how its deltas begin."""

    __slots__ = ("delta", "start")

    def __init__(self, start: bytes, delta: bytes) -> None:
        self.start = start
        self.delta = delta


TEXT = TextKind(b'{"type":"text","text":""}', b'{"type":"text_delta","text":')
THINKING = TextKind(
    b'{"type":"thinking","thinking":"","signature":""}', b'{"type":"thinking_delta","thinking":'
)


class _Text:
    """A block of text that waits, or that is open."""

    __slots__ = ("kind", "pieces")

    def __init__(self, kind: TextKind) -> None:
        self.kind = kind
        self.pieces: list[str] = []


class BlockStream:
    """Writes the events of content blocks."""

    __slots__ = ("_calls", "_delta", "_ids", "_index", "_kind", "_open", "_waiting")

    def __init__(self, ids: CallIds) -> None:
        self._ids = ids
        self._waiting: deque[_Text | StreamedCall] = deque()
        self._open: _Text | StreamedCall | None = None
        # Calls of which a piece has come, and whether they could be opened then.
        self._calls: dict[StreamedCall, bool] = {}
        self._index = -1
        # Of the open block, for speed: its kind of text, and the beginning of its deltas.
        self._kind: TextKind | None = None
        self._delta = b""

    @property
    def begun(self) -> bool:
        """Whether there is anything yet, written or waiting."""
        return self._index >= 0 or bool(self._waiting)

    def text(self, kind: TextKind, text: str) -> bytes:
        """Write a piece of text, which is not empty."""
        if kind is self._kind and not self._waiting:
            return self._delta + _encode(text) + _DELTA_END
        newest = self._waiting[-1] if self._waiting else None
        if isinstance(newest, _Text) and newest.kind is kind:
            newest.pieces.append(text)
            return b""
        block = _Text(kind)
        block.pieces.append(text)
        self._waiting.append(block)
        return self._advance()

    def call(self, call: StreamedCall, passed: str) -> bytes:
        """Write a piece of a tool call, of which `passed` can be passed on."""
        if call is self._open:
            return self._delta + _encode(passed) + _DELTA_END if passed else b""
        was_ready = self._calls.get(call)
        if was_ready:
            return b""  # it waits for the open block, or is closed: then its arguments were whole
        if was_ready is None:
            self._waiting.append(call)
        self._calls[call] = call.ready
        return self._advance() if call.ready else b""

    def end(self) -> bytes:
        """Write all that waits, and close the last block; a message has at least one."""
        out = []
        for block in self._waiting:
            if isinstance(block, _Text) or block.name:
                out += [self._close(), self._start(block)]
        self._waiting.clear()
        if self._index < 0:
            out.append(self._start(_Text(TEXT)))
        out.append(self._close())
        return b"".join(out)

    def _advance(self) -> bytes:
        """Open blocks that wait, as long as they can be opened and the one before closed."""
        out = []
        while self._waiting and _is_ready(self._waiting[0]) and _is_closable(self._open):
            out += [self._close(), self._start(self._waiting.popleft())]
        return b"".join(out)

    def _start(self, block: _Text | StreamedCall) -> bytes:
        self._open = block
        self._index += 1
        if isinstance(block, _Text):
            self._kind = block.kind
            start, delta, settled = block.kind.start, block.kind.delta, "".join(block.pieces)
        else:
            self._kind = None
            tool = {"type": "tool_use", "id": self._ids.take(block.id), "name": block.name, "input": {}}
            start, delta, settled = _encode(tool), _CALL_DELTA, block.settled
        self._delta = _DELTA % (self._index, delta)
        started = _START % (self._index, start)
        return started + self._delta + _encode(settled) + _DELTA_END if settled else started

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        rest = self._open.rest() if isinstance(self._open, StreamedCall) else ""
        self._open = None
        last = self._delta + _encode(rest) + _DELTA_END if rest else b""
        return last + _STOP % self._index


def _is_ready(block: _Text | StreamedCall) -> bool:
    return isinstance(block, _Text) or block.ready


def _is_closable(block: _Text | StreamedCall | None) -> bool:
    return not isinstance(block, StreamedCall) or block.complete
