"""Chat chunks as the events of a Messages stream. docs/dialects.md, "Messages over Chat" """

from typing import Any

import msgspec

from proxy.core.entities import Usage
from proxy.dialects import chat_reading as chat
from proxy.dialects.chat_calls import StreamedCalls
from proxy.dialects.messages_answer import Asked, CallIds, ending, opening, usage_members
from proxy.dialects.messages_blocks import TEXT, THINKING, BlockStream

Fields = dict[str, Any]

#: The keep-alive of a Messages stream.
PING = b'event: ping\ndata: {"type":"ping"}\n\n'

_MESSAGE_START = b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n'
_MESSAGE_DELTA = b'event: message_delta\ndata: {"type":"message_delta","delta":%b,"usage":%b}\n\n'
_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

_encode = msgspec.json.encode


class MessageEvents:
    """Turns the chunks of one Chat stream into the bytes of a Messages stream.

    Chunks that bring no content yield no bytes: the stream starts with the first content, or when
    `start`, `keep_alive` or `ending` is called. An error event may follow in any state.
    """

    __slots__ = (
        *("_asked", "_blocks", "_calls", "_choice", "_estimate", "_id", "_ids", "_refused", "_started"),
    )

    def __init__(self, *, id: str, asked: Asked, input_tokens: int) -> None:
        """`id` is the message's, `msg_…`; `input_tokens` is an estimate, put right by `ending`."""
        self._id = id
        self._asked = asked
        self._estimate = input_tokens
        self._ids = CallIds(id)
        self._blocks = BlockStream(self._ids)
        self._calls = StreamedCalls()
        self._choice: Fields = {}
        self._refused = False
        self._started = False

    @property
    def finished(self) -> bool:
        """Whether the answer has come to an end, and not merely the stream."""
        return self._choice.get("finish_reason") is not None

    @property
    def call_ids(self) -> list[str]:
        """The ids of the calls that the client has been told of."""
        return self._ids.given

    def start(self) -> bytes:
        """Return the start of the stream, once: for when it must go out before any content."""
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

    def keep_alive(self) -> bytes:
        """Return what tells a client that the stream is alive."""
        return self.start() or PING

    def feed(self, chunk: Fields) -> bytes:
        """Return the events that a chunk brings, whatever it holds."""
        choice = chat.first_choice(chunk)
        if choice is None:
            return b""
        if choice.get("finish_reason") is not None:
            self._choice = choice
        # A whole message after deltas is a repetition.
        delta = choice.get("delta") or (None if self._blocks.begun else choice.get("message"))
        out = self._content(delta) if delta and isinstance(delta, dict) else b""
        return out if self._started or not out else self.start() + out

    def ending(self, usage: Usage) -> bytes:
        """Return the end of the stream: all that waits, and what is charged."""
        calls = [call for call in self._calls.all if call.name]
        arguments = [call.arguments for call in calls[-1:]]
        stop = ending(self._choice, arguments, self._asked, refused=self._refused)
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
                out += self._blocks.call(*self._calls.add(piece))
        return out
