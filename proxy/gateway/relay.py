"""What happens to an answer's bytes between the provider and the client.

A relay is fed the bytes as they arrive and returns those that may go out at once. It does no I/O:
`gateway/delivery.py` reads and sends. docs/api.md, "Streaming"
"""

from functools import partial
from typing import Any, Protocol

import msgspec

from proxy.core import sse
from proxy.core.answerjson import decoded
from proxy.core.entities import Usage
from proxy.core.errors import SluiceError
from proxy.core.metering import UsageMeter
from proxy.core.received import ReceivedOutput
from proxy.gateway.endings import Ending, ending_of
from proxy.upstream.errorbody import error_in

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


class Relay(Protocol):
    """Turns the bytes of an upstream answer into those for the client, and keeps the accounts."""

    @property
    def events(self) -> bool:
        """Whether the answer is a stream of events; anything else in its place is a failure."""

    @property
    def complete(self) -> bool:
        """Whether the answer reached its end; what the connection does afterwards does not matter."""

    @property
    def done(self) -> bool:
        """Whether nothing more is expected, so that reading may stop."""

    @property
    def failure(self) -> bytes | None:
        """The data of the event by which the provider reported a failure."""

    @property
    def has_content(self) -> bool:
        """Whether anything was generated."""

    @property
    def tokens(self) -> int:
        """The estimate of what was generated, in LLM tokens."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be sent to the client now."""

    def close(self) -> bytes:
        """The upstream ended: return what may be sent of the rest."""

    def ending(self, usage: Usage) -> bytes:
        """Return what is held back until the usage record is committed; `usage` is what it charges."""

    def keep_alive(self) -> bytes:
        """Return what to send while the provider is silent; empty where nothing may be."""

    def fail(self, error: SluiceError, request_id: str) -> bytes | None:
        """Return the end of a stream that failed; None: the dialect's ordinary error event does."""


class _Chunk(msgspec.Struct):
    choices: Any = None


_decode = partial(decoded, msgspec.json.Decoder(_Chunk))


class ChatRelay:
    """Chat completions and completions streams.

    Blocks of canonical frames without anything to act on are passed on as the very object that
    was received; only frames with usage, an end or an error are looked into.
    """

    __slots__ = (
        "_meter",
        "_output",
        "_splitter",
        "_usage_wanted",
        "complete",
        "done",
        "failure",
    )
    events = True

    def __init__(self, meter: UsageMeter, output: ReceivedOutput, *, usage_wanted: bool) -> None:
        self._meter = meter
        self._output = output
        self.complete = False
        self.done = False
        self.failure: bytes | None = None
        self._usage_wanted = usage_wanted
        self._splitter = sse.FrameSplitter()

    @property
    def has_content(self) -> bool:
        return self._output.has_content

    @property
    def tokens(self) -> int:
        return self._output.tokens

    def feed(self, chunk: bytes) -> bytes:
        """Return what may go to the client now; raises sse.EventTooLarge."""
        if not self._splitter.pending and sse.is_canonical_block(chunk) and _is_plain(chunk):
            self._output.keep(chunk)
            return chunk
        return self._frames(self._splitter.feed(chunk))

    def close(self) -> bytes:
        """The upstream ended: a last frame may lack its blank line."""
        return self._frames(self._splitter.finish())

    def ending(self, usage: Usage) -> bytes:
        return DONE

    def keep_alive(self) -> bytes:
        return KEEP_ALIVE

    def fail(self, error: SluiceError, request_id: str) -> bytes | None:
        return None

    def _frames(self, frames: list[bytes]) -> bytes:
        out = []
        for frame in frames:
            if self.done or self.failure is not None:
                break
            out.append(self._frame(frame))
        return b"".join(out)

    def _frame(self, frame: bytes) -> bytes:
        data = sse.parse(frame).data
        if data is None:
            return sse.canonical(frame, keep_event=False)
        if data.strip() == b"[DONE]":
            self.complete = self.done = True
            return b""
        try:
            chunk = _decode(data)
            is_error = error_in(data) is not None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return sse.canonical(frame, keep_event=False)  # not ours to judge: passed on, never counted
        if is_error:
            self.failure = data
            return b""
        self._meter.feed(data)
        match ending_of(chunk.choices):
            case Ending.FAILED:
                self.failure = data
                return b""
            case Ending.COMPLETE:
                self.complete = True
        if chunk.choices == [] and not self._usage_wanted:
            return b""  # clients that did not ask for usage index choices[0] of every chunk
        self._output.add_data(data)
        return sse.canonical(frame, keep_event=False)


class RawRelay:
    """Anything else: passed on unread, except that events are searched for usage.

    The last received block is held back, so that the client cannot have the end of the answer
    before its record is committed.
    """

    __slots__ = (
        "_begun",
        "_held",
        "_meter",
        "_splitter",
        "complete",
        "done",
        "failure",
    )
    events = False

    def __init__(self, meter: UsageMeter, content_type: bytes) -> None:
        self._meter = meter
        self.complete = False
        self.done = False
        self.failure: bytes | None = None
        self._begun = False
        self._held = b""
        self._splitter = sse.FrameSplitter() if b"event-stream" in content_type else None

    @property
    def has_content(self) -> bool:
        return self._begun

    @property
    def tokens(self) -> int:
        return 0  # of what is passed through, nothing is estimated

    def feed(self, chunk: bytes) -> bytes:
        self._begun = True
        if self._splitter is not None:
            for frame in self._splitter.feed(chunk):
                self._read_event(frame)
        out, self._held = self._held, chunk
        return out

    def close(self) -> bytes:
        self.complete = True
        return b""

    def ending(self, usage: Usage) -> bytes:
        return self._held

    def keep_alive(self) -> bytes:
        return b""

    def fail(self, error: SluiceError, request_id: str) -> bytes | None:
        return None

    def _read_event(self, frame: bytes) -> None:
        if b'"usage"' in frame:
            data = sse.parse(frame).data
            if data is not None:
                self._meter.feed(data)


def _is_plain(block: bytes) -> bool:
    """Return whether canonical frames hold nothing to act on: no usage, no end, no error.

    Substring counts suffice: JSON strings cannot hold an unescaped quotation mark, so a text that
    talks of "usage" does not match, and one that matches all the same is merely looked into.
    """
    return (
        _all_null(block, b'"finish_reason"')
        and _all_null(block, b'"usage"')
        # how the providers' errors in a good stream begin: `upstream/errorbody.py` knows them all
        and b'"error' not in block
        and b'"base_resp"' not in block
        and b'"code"' not in block
        and b'"choices":[]' not in block
        and b'"choices": []' not in block
    )


def _all_null(block: bytes, key: bytes) -> bool:
    count = block.count(key)
    return not count or count == block.count(key + b":null") or count == block.count(key + b": null")
