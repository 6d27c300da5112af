"""Chat chunks as the events of a Messages stream. docs/dialects.md, "Messages over Chat" """

from typing import Any

import msgspec

from proxy.core.entities import Usage
from proxy.dialects import chat_reading as chat
from proxy.dialects.messages_answer import Asked, CallIds, ending, opening, usage_members
from proxy.dialects.messages_blocks import TEXT, THINKING, BlockStream
from proxy.dialects.messages_calls import StreamedCall

Fields = dict[str, Any]

#: The keep-alive of a Messages stream.
PING = b'event: ping\ndata: {"type":"ping"}\n\n'

_MESSAGE_START = b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n'
_MESSAGE_DELTA = b'event: message_delta\ndata: {"type":"message_delta","delta":%b,"usage":%b}\n\n'
_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

_encode = msgspec.json.encode


class MessageEvents:
    """Turns the chunks of one Chat stream into the bytes of a Messages stream.

    Chunks that bring no content yield no bytes: the stream starts with the first content, with
    `start`, or with `ending`. An error ends a stream in any state and needs nothing from here.
    """

    __slots__ = ("_asked", "_blocks", "_calls", "_choice", "_estimate", "_id", "_refused", "_started")

    def __init__(self, *, id: str, asked: Asked, input_tokens: int) -> None:
        """`id` is the message's, `msg_…`; `input_tokens` is an estimate, put right by `ending`."""
        self._id = id
        self._asked = asked
        self._estimate = input_tokens
        self._blocks = BlockStream(CallIds(id))
        self._calls = _Calls()
        self._choice: Fields = {}
        self._refused = False
        self._started = False

    @property
    def finished(self) -> bool:
        """Whether the answer has come to an end, and not merely the stream."""
        return self._choice.get("finish_reason") is not None

    def start(self) -> bytes:
        """Return the start of the stream if it has not been sent: what a keep-alive needs before it."""
        if self._started:
            return b""
        self._started = True
        message = {
            **opening(self._id, self._asked.model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_members(Usage(input_tokens=self._estimate)),
        }
        return _MESSAGE_START % _encode(message) + PING

    def feed(self, chunk: Fields) -> bytes:
        """Return the events that a chunk brings, whatever it holds."""
        choice = chat.first_choice(chunk)
        if choice is None:
            return b""
        if choice.get("finish_reason") is not None:
            self._choice = choice
        delta = choice.get("delta")
        out = self._content(delta) if delta and isinstance(delta, dict) else b""
        return out if self._started or not out else self.start() + out

    def ending(self, usage: Usage) -> bytes:
        """Return the end of the stream: all that waits, and what is charged."""
        calls = self._calls.named()
        stop = ending(self._choice, calls[-1].arguments if calls else None, self._asked, refused=self._refused)
        delta = _MESSAGE_DELTA % (_encode(stop), _encode(usage_members(usage)))
        return self.start() + self._blocks.end() + delta + _MESSAGE_STOP

    def _content(self, delta: Fields) -> bytes:
        out = b""
        if self._asked.thinking and (thoughts := chat.reasoning_of(delta)):
            out = self._blocks.text(THINKING, thoughts)
        if text := chat.content_of(delta):
            out += self._blocks.text(TEXT, text)
        if refusal := chat.refusal_of(delta):
            self._refused = True
            out += self._blocks.text(TEXT, refusal)
        if delta.get("tool_calls"):
            for piece in chat.calls_of(delta):
                call, is_new = self._calls.find(piece)
                if is_new:
                    self._blocks.begin(call)
                out += self._blocks.piece(call, piece.name, piece.arguments)
        return out


class _Calls:
    """The tool calls of one answer, and to which of them each piece belongs."""

    __slots__ = ("_all", "_by_id", "_by_index")

    def __init__(self) -> None:
        self._all: list[StreamedCall] = []
        self._by_index: dict[int, StreamedCall] = {}
        self._by_id: dict[str, StreamedCall] = {}

    def find(self, piece: chat.CallPiece) -> tuple[StreamedCall, bool]:
        """Return the call that a piece belongs to, and whether it is a new one.

        By index, else by id, else the last: a name after whole arguments begins another.
        """
        if piece.index is not None:
            known = self._by_index.get(piece.index)
            if known is not None and piece.name and piece.id and known.id and piece.id != known.id:
                known = None  # providers exist that give every call the index 0
        elif piece.id:
            known = self._by_id.get(piece.id)
        else:
            known = self._all[-1] if self._all else None
            if known is not None and piece.name and known.complete:
                known = None
        return (self._new(piece), True) if known is None else (known, False)

    def named(self) -> list[StreamedCall]:
        return [call for call in self._all if call.name]

    def _new(self, piece: chat.CallPiece) -> StreamedCall:
        call = StreamedCall(piece.id)
        self._all.append(call)
        if piece.index is not None:
            self._by_index[piece.index] = call
        if piece.id:
            self._by_id[piece.id] = call
        return call
