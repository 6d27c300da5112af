"""What providers report as usage, in all of its shapes, read into one.

They put it in different places, name its members differently, repeat it on every chunk, or
split it over two events. A report with anything negative, fractional or absurd in it counts as
none. One that only leaves out input or output holds for the other; what is missing is estimated.

Source: docs/billing.md, "Usage"
"""

from typing import Any, NamedTuple, TypeVar

import msgspec

from proxy.core.answerjson import decoded
from proxy.core.entities import Usage

T = TypeVar("T")

# No answer has a billion tokens; a larger figure would be a mistake charged to somebody.
MOST_TOKENS = 10**9


class ReportedUsage(msgspec.Struct, frozen=True):
    """Usage as far as it was reported: `input_tokens` or `output_tokens` is None where it was not."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def complete(self) -> bool:
        return self.input_tokens is not None and self.output_tokens is not None

    def completed(self, input_tokens: int, output_tokens: int) -> Usage:
        """Return whole usage, with these estimates for what was not reported."""
        return Usage(
            input_tokens=input_tokens if self.input_tokens is None else self.input_tokens,
            output_tokens=output_tokens if self.output_tokens is None else self.output_tokens,
            cached_tokens=self.cached_tokens,
            cache_write_tokens=self.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens,
        )


class UsageMeter:
    """Follows the usage of one answer, streamed or whole: the last valid report wins, never the sum."""

    __slots__ = ("_input", "_messages", "_output")

    def __init__(self) -> None:
        self._input: _Input | None = None
        self._output: _Output | None = None
        self._messages: dict[str, object] = {}

    def feed(self, data: bytes) -> None:
        """Read an answer or the data of an event; what cannot be read reports nothing."""
        envelope = _decoded(_ENVELOPE, data)
        if envelope is None:
            return
        if envelope.type == "message_start":
            message = _decoded(_HOLDER, envelope.message)
            self._merge(message and message.usage)
            # What it says about output is no count yet, only where counting begins.
            for name in ("output_tokens", "output_tokens_details"):
                self._messages.pop(name, None)
        elif envelope.type == "message_delta":
            self._merge(envelope.usage)
        else:
            self.absorb(_found(envelope))
            return
        self.absorb(self._messages)

    def absorb(self, usage: object) -> None:
        """Read a usage object that is already decoded."""
        if isinstance(usage, dict):
            try:
                counted = _input(usage)
                output = _output(usage, counted)
            except _Absurd:
                return  # one absurd member discredits the whole report
            self._input = counted or self._input
            self._output = output or self._output

    @property
    def reported(self) -> ReportedUsage | None:
        """What was reported so far; None when nothing valid was."""
        if self._input is None and self._output is None:
            return None
        return ReportedUsage(
            input_tokens=self._input.total if self._input else None,
            output_tokens=self._output.total if self._output else None,
            cached_tokens=self._input.cached if self._input else 0,
            cache_write_tokens=self._input.written if self._input else 0,
            reasoning_tokens=self._output.reasoning if self._output else 0,
        )

    def _merge(self, usage: object) -> None:
        """The events of Messages each overwrite what they name and leave the rest."""
        if isinstance(usage, dict):
            self._messages |= {name: value for name, value in usage.items() if value is not None}


def usage_from(data: bytes) -> ReportedUsage | None:
    """Return the usage that one whole answer reports; None when it does not."""
    meter = UsageMeter()
    meter.feed(data)
    return meter.reported


class _Envelope(msgspec.Struct):
    """Where usage may be in an answer or event; the rarer places are opened only when needed."""

    type: object = None
    usage: object = None
    choices: msgspec.Raw = msgspec.Raw()
    x_groq: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    meta: msgspec.Raw = msgspec.Raw()
    tokens: object = None
    timings: object = None


class _Holder(msgspec.Struct):
    """Any inner object with usage: a choice, `x_groq`, `message`, `response`; `tokens` in `meta`."""

    usage: object = None
    tokens: object = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_HOLDER = msgspec.json.Decoder(_Holder)
_CHOICES = msgspec.json.Decoder(list[_Holder])


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes) -> T | None:
    try:
        return decoded(decoder, data) if data else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _found(envelope: _Envelope) -> object:
    """Return the usage of an answer or event: OpenAI's place first, then those of others."""
    if envelope.usage is not None:
        return envelope.usage
    for choice in _decoded(_CHOICES, envelope.choices) or ():  # Moonshot
        if choice.usage is not None:
            return choice.usage
    for raw in (envelope.response, envelope.x_groq, envelope.meta):  # Responses, Groq, rerankers
        holder = _decoded(_HOLDER, raw)
        if holder and (usage := holder.usage or holder.tokens):
            return usage
    if isinstance(envelope.timings, dict):  # llama.cpp
        return {
            "input_tokens": envelope.timings.get("prompt_n"),
            "cache_read_input_tokens": envelope.timings.get("cache_n"),
            "output_tokens": envelope.timings.get("predicted_n"),
        }
    return envelope.tokens  # rerankers


class _Input(NamedTuple):
    total: int
    cached: int
    written: int


class _Output(NamedTuple):
    total: int
    reasoning: int


class _Absurd(ValueError):
    """A member that should be a count of tokens is none."""


_Fields = dict[str, Any]

_INPUTS = ("prompt_tokens", "input_tokens")
_OUTPUTS = ("completion_tokens", "output_tokens")
_CACHE_READS = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
_CACHE_WRITES = ("cache_write_tokens", "cache_creation_input_tokens", "cache_creation_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")


def _input(usage: _Fields) -> _Input | None:
    total = _count(usage, _INPUTS)
    cached = _detail(usage, _INPUT_DETAILS, _CACHE_READS)
    written = _detail(usage, _INPUT_DETAILS, _CACHE_WRITES)
    if total is None:
        # Rerankers report a total alone, which is all input.
        whole = _count(usage, ("total_tokens",))
        total = None if whole is None else whole - (_count(usage, _OUTPUTS) or 0)
    elif _excludes_caches(usage):
        total += cached + written
    if total is None:
        return None
    if not cached + written <= total <= MOST_TOKENS:
        raise _Absurd("input")
    return _Input(total, cached, written)


def _output(usage: _Fields, counted: _Input | None) -> _Output | None:
    total = _count(usage, _OUTPUTS)
    reasoning = _detail(usage, _OUTPUT_DETAILS, ("reasoning_tokens", "thinking_tokens"))
    if total is None and counted is not None:
        # Embeddings report their input twice, as such and as the total.
        whole = _count(usage, ("total_tokens",))
        total = None if whole is None or whole < counted.total else whole - counted.total
    elif total is not None and reasoning and _leaves_out(reasoning, usage, counted, total):
        total += reasoning
    if total is None:
        return None
    if not reasoning <= total <= MOST_TOKENS:
        raise _Absurd("output")
    return _Output(total, reasoning)


def _excludes_caches(usage: _Fields) -> bool:
    """Return whether input is what Messages calls so: what was neither read from nor written to a cache."""
    return usage.get("prompt_tokens") is None and (
        usage.get("cache_read_input_tokens") is not None
        or usage.get("cache_creation_input_tokens") is not None
    )


def _leaves_out(reasoning: int, usage: _Fields, counted: _Input | None, total: int) -> bool:
    """Return whether output was reported without its reasoning, as xAI does: only the total shows it."""
    return counted is not None and usage.get("total_tokens") == counted.total + total + reasoning


def _detail(usage: _Fields, places: tuple[str, ...], names: tuple[str, ...]) -> int:
    """Return a part of input or output: from its details, else from beside the whole, else 0."""
    for place in places:
        details = usage.get(place)
        if isinstance(details, dict) and (count := _count(details, names)) is not None:
            return count
    return _count(usage, names) or 0


def _count(fields: _Fields, names: tuple[str, ...]) -> int | None:
    """Return the first of these members that is given; _Absurd unless it is a count of tokens."""
    for name in names:
        value = fields.get(name)
        if value is not None:
            if type(value) is not int or not 0 <= value <= MOST_TOKENS:
                raise _Absurd(name)
            return value
    return None
