"""Upstream streams as chat chunks, the form in which every translation meets."""

import json
from typing import Any, Protocol

import msgspec

from proxy.core import sse
from proxy.core.answerjson import decoded
from proxy.core.metering import UsageMeter
from proxy.core.received import ReceivedOutput, TextCounter
from proxy.dialects.messages_chunks import ChunksFromMessages
from proxy.dialects.watch import MessagesWatch
from proxy.gateway.endings import Ending, ending_of
from proxy.gateway.repair import Repair
from proxy.upstream.errorbody import error_in

Fields = dict[str, Any]

_OBJECT = msgspec.json.Decoder(dict[str, Any])


class ChunkSource(Protocol):
    """Bytes of an upstream stream in, chat chunks out; its members are those of a relay."""

    @property
    def complete(self) -> bool: ...

    @property
    def done(self) -> bool: ...

    @property
    def failure(self) -> bytes | None: ...

    def feed(self, chunk: bytes) -> list[Fields]: ...

    def close(self) -> list[Fields]: ...

    @property
    def has_content(self) -> bool: ...

    @property
    def tokens(self) -> int: ...


class ChatSource:
    """A chat stream, mended where the provider needs it."""

    def __init__(self, meter: UsageMeter, counter: TextCounter, repair: Repair | None) -> None:
        self.complete = False
        self.done = False
        self.failure: bytes | None = None
        self._meter = meter
        self._output = ReceivedOutput(counter)
        self._repair = repair
        self._splitter = sse.FrameSplitter()

    @property
    def has_content(self) -> bool:
        return self._output.has_content

    @property
    def tokens(self) -> int:
        return self._output.tokens

    def feed(self, chunk: bytes) -> list[Fields]:
        return self._chunks(self._splitter.feed(chunk))

    def close(self) -> list[Fields]:
        chunks = self._chunks(self._splitter.finish())
        if not self.done and self.failure is None:
            chunks += self._held_back()
        if self._repair is not None and self._repair.missing_done and self.has_content:
            self.complete = True
        return chunks

    def _chunks(self, frames: list[bytes]) -> list[Fields]:
        chunks: list[Fields] = []
        for frame in frames:
            if self.done or self.failure is not None:
                break
            data = sse.parse(frame).data
            if data is None:
                continue
            if data.strip() == b"[DONE]":
                self.complete = self.done = True
                chunks += self._held_back()
                break
            chunk = self._read(data)
            if chunk is not None:
                chunks.append(chunk)
        return chunks

    def _held_back(self) -> list[Fields]:
        rest = None if self._repair is None else self._repair.rest()
        return [] if rest is None else [rest]

    def _read(self, data: bytes) -> Fields | None:
        try:
            if error_in(data) is not None:
                self.failure = data
                return None
            chunk = _OBJECT.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = _with_halves(data)
            if found is None:
                return None  # nothing that could be translated
            chunk = found
        self._meter.feed(data)
        self._output.keep(b"data: %b\n\n" % data)
        if self._repair is not None:
            chunk = self._repair.chunk(chunk)
        match ending_of(chunk.get("choices")):
            case Ending.FAILED:
                self.failure = data
                return None
            case Ending.COMPLETE:
                self.complete = True
        return chunk


class MessagesSource:
    """A Messages stream as chat chunks."""

    def __init__(self, meter: UsageMeter, counter: TextCounter, chunks: ChunksFromMessages) -> None:
        self.done = False
        self._meter = meter
        self._watch = MessagesWatch(counter)
        self._chunks_of = chunks
        self._splitter = sse.FrameSplitter()

    @property
    def complete(self) -> bool:
        return self._watch.complete

    @property
    def failure(self) -> bytes | None:
        return self._watch.failure

    @property
    def has_content(self) -> bool:
        return self._watch.has_content

    @property
    def tokens(self) -> int:
        return self._watch.tokens

    def feed(self, chunk: bytes) -> list[Fields]:
        return self._chunks(self._splitter.feed(chunk))

    def close(self) -> list[Fields]:
        return self._chunks(self._splitter.finish())

    def _chunks(self, frames: list[bytes]) -> list[Fields]:
        chunks: list[Fields] = []
        for frame in frames:
            if self.done or self.failure is not None:
                break
            data = sse.parse(frame).data
            if data is None:
                continue
            self._watch.feed(data)
            try:
                event = decoded(_OBJECT, data)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            if b'"usage"' in data:
                self._meter.feed(data)
            chunks += self._chunks_of.feed(event)
            self.done = self._watch.complete
        return chunks


def _with_halves(data: bytes) -> Fields | None:
    """Return a chunk with half of a surrogate pair as it is: the next one may bring the other half."""
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return chunk if isinstance(chunk, dict) else None
