"""What a stream has brought so far, for the day on which its usage must be estimated."""

from typing import Any, Protocol

import msgspec

from proxy.core.answerjson import decoded

# Raw frames are kept until they reach this size and only then decoded, or never, when the provider
# reports its usage first. 150 frames of the usual size: short answers are not decoded at all, and
# 1,000 streams hold at most 16 MiB.
FOLD_AT_BYTES = 16 * 1024


class TextCounter(Protocol):
    """Counts LLM tokens of text that comes in pieces: `core.estimation.OutputCounter`."""

    def add(self, text: str) -> None: ...

    @property
    def tokens(self) -> int: ...


class _Delta(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None  # of an answer that is not streamed
    text: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class ReceivedOutput:
    """Collects the output of a chat or completions answer: text, reasoning, tool arguments."""

    __slots__ = ("_counter", "_frames", "_size", "_text_seen")

    def __init__(self, counter: TextCounter) -> None:
        self._counter = counter
        self._frames: list[bytes] = []
        self._size = 0
        self._text_seen = False

    def keep(self, block: bytes) -> None:
        """Take canonical frames: `data: {…}` blocks, each ended by an empty line."""
        self._frames.append(block)
        self._size += len(block)
        if self._size > FOLD_AT_BYTES:
            self.fold()

    @property
    def has_content(self) -> bool:
        """Whether anything was generated: roles and lifecycle events are not content."""
        self.fold()
        return self._text_seen

    @property
    def tokens(self) -> int:
        """The estimate of what was generated, in LLM tokens."""
        self.fold()
        return self._counter.tokens

    def fold(self) -> None:
        """Count what was kept and let go of it."""
        if not self._frames:
            return
        blocks = b"".join(self._frames)
        self._frames.clear()
        self._size = 0
        for frame in blocks.split(b"\n\n"):
            if frame:
                self.add_data(frame.removeprefix(b"data: "))

    def add_data(self, data: bytes) -> None:
        """Count one event's data; what is not a chat chunk has no output to count."""
        try:
            chunk = decoded(_CHUNK, data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        for choice in chunk.choices or ():
            if choice.text:
                self._add(choice.text)
            if choice.delta is not None:
                self._add_part(choice.delta)
            if choice.message is not None:
                self._add_part(choice.message)

    def _add_part(self, part: _Delta) -> None:
        reasoning = part.reasoning_content or part.reasoning or part.reasoning_details
        for text in (part.content, reasoning, part.refusal):
            if text:
                self._add(text)
        if part.tool_calls:
            self._add_calls(part.tool_calls)

    def _add_calls(self, calls: object) -> None:
        for call in _objects([calls] if isinstance(calls, dict) else calls):  # Spark sends one alone
            function = call.get("function")
            if isinstance(function, dict):
                arguments = function.get("arguments")
                if isinstance(arguments, dict):
                    arguments = msgspec.json.encode(arguments).decode()
                self._add(function.get("name"))
                self._add(arguments)

    def _add(self, text: object) -> None:
        """Count a text, or the texts in a list of parts, which may hold parts themselves."""
        if isinstance(text, str):
            if text:
                self._text_seen = True
                self._counter.add(text)
            return
        for part in _objects(text):
            for member in (part.get("text"), part.get("thinking")):
                for said in (member, *(inner.get("text") for inner in _objects(member))):
                    if isinstance(said, str):
                        self._add(said)


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
