"""Watching streams that are passed on in their own protocol: how they end, and what text they bring.

Events of Responses and Messages say by their `type` what they are. Deltas, which are nearly all of
a stream, are kept and only decoded when somebody asks what they hold; mostly nobody does, since
the provider reports its usage. docs/dialects.md, "Native streams"
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from proxy.core.answerjson import decoded
from proxy.core.received import FOLD_AT_BYTES, TextCounter

_TYPE_FIRST = b'{"type":"'


class _Event(msgspec.Struct):
    """What is read of an event, in either protocol."""

    type: Any = None
    delta: Any = None
    item: Any = None
    content_block: Any = None
    error: Any = None


_decode = partial(decoded, msgspec.json.Decoder(_Event))


class StreamWatch(ABC):
    """What both protocols have in common. They differ in their words, and in where the text is."""

    #: Events by what they mean.
    deltas: frozenset[bytes]
    beginnings: frozenset[bytes]
    ends: frozenset[bytes]
    failures: frozenset[bytes]

    __slots__ = ("_counter", "_kept", "_seen", "_size", "complete", "failure")

    def __init__(self, counter: TextCounter) -> None:
        #: The stream has come to its proper end.
        self.complete = False
        #: The data of the event by which the provider reported a failure.
        self.failure: bytes | None = None
        self._counter = counter
        self._kept: list[bytes] = []
        self._size = 0
        self._seen = False

    def feed(self, data: bytes) -> None:
        """Take the data of one event; what is none of the protocol's means nothing."""
        kind = _type_of(data)
        if kind in self.deltas:
            self._kept.append(data)
            self._size += len(data)
            if self._size > FOLD_AT_BYTES:
                self.fold()
        elif kind in self.ends:
            self.complete = True
        elif kind in self.failures:
            self.failure = data
        elif kind in self.beginnings:
            self._count(data)

    @property
    def has_content(self) -> bool:
        """Whether anything was generated: lifecycle events are not content."""
        if not self._seen:
            self.fold()
        return self._seen

    @property
    def tokens(self) -> int:
        """The estimate of what was generated, in LLM tokens."""
        self.fold()
        return self._counter.tokens

    def fold(self) -> None:
        """Count the deltas that were kept, and let go of them."""
        for data in self._kept:
            self._count(data)
        self._kept.clear()
        self._size = 0

    def _count(self, data: bytes) -> None:
        try:
            event = _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        for text in self._texts(event):
            if isinstance(text, str) and text:
                self._seen = True
                self._counter.add(text)

    @abstractmethod
    def _texts(self, event: _Event) -> Iterator[object]:
        """Find what was generated, in a delta or a beginning."""


class ResponsesWatch(StreamWatch):
    """Watches a stream of the Responses protocol."""

    deltas = frozenset(
        {
            b"response.output_text.delta",
            b"response.refusal.delta",
            b"response.reasoning_text.delta",
            b"response.reasoning_summary_text.delta",
            b"response.function_call_arguments.delta",
            b"response.custom_tool_call_input.delta",
        }
    )
    beginnings = frozenset({b"response.output_item.added"})
    ends = frozenset({b"response.completed", b"response.incomplete"})
    failures = frozenset({b"response.failed", b"error"})

    __slots__ = ()

    def _texts(self, event: _Event) -> Iterator[object]:
        yield event.delta
        if isinstance(event.item, dict):
            yield event.item.get("name")


class MessagesWatch(StreamWatch):
    """Watches a stream of the Messages protocol."""

    deltas = frozenset({b"content_block_delta"})
    beginnings = frozenset({b"content_block_start"})
    ends = frozenset({b"message_stop"})
    failures = frozenset({b"error"})

    __slots__ = ()

    def _texts(self, event: _Event) -> Iterator[object]:
        for part in (event.delta, event.content_block):
            if isinstance(part, dict):
                for name in ("text", "thinking", "partial_json", "name"):
                    yield part.get(name)


def _type_of(data: bytes) -> bytes:
    """Return an event's type; most providers write it first. An error may come without one."""
    if data.startswith(_TYPE_FIRST):
        return data[len(_TYPE_FIRST) : data.find(b'"', len(_TYPE_FIRST))]
    try:
        event = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return b""
    if isinstance(event.type, str):
        return event.type.encode()
    return b"error" if event.error else b""
