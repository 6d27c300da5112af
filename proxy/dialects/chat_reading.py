"""What a Chat message or delta says, in the shapes of all providers: text, reasoning, tool calls.

Nothing here raises: what has no known shape says nothing. docs/dialects.md, "What is read"
"""

import json
from typing import Any

import msgspec

Fields = dict[str, Any]

#: Finish reasons by which providers say that the answer was cut off, by its length or for its content.
LENGTH_REASONS = frozenset({"length", "max_tokens", "model_context_window_exceeded"})
FILTER_REASONS = frozenset({"content_filter", "sensitive"})


class CallPiece(msgspec.Struct, frozen=True):
    """A tool call, or as much of one as a delta brings. Empty text stands for what is missing."""

    index: int | None
    id: str
    name: str
    arguments: str


def clean(text: str) -> str:
    """Return text that can be written as UTF-8: joins surrogate pairs; single halves become U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def first_choice(body: Fields) -> Fields | None:
    """Return the first choice of an answer or chunk; there are no others without `n`."""
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    return None


def index_of(choice: Fields, position: int) -> int:
    """Return a choice's index; where it has none, its position among the choices stands for it."""
    index = choice.get("index")
    return index if type(index) is int else position


def reported_usage(body: Fields) -> object:
    """Return the usage that an answer or chunk reports, wherever providers put it; None if it does not."""
    for place in (body, first_choice(body), body.get("x_groq")):
        if isinstance(place, dict) and (usage := place.get("usage")) is not None:
            return usage
    return None


def content_of(message: Fields) -> str:
    """Return the text of a message: its content, or the texts among the parts of its content."""
    content = message.get("content")
    if isinstance(content, str):
        return clean(content)
    return _texts(content, "text") if content else ""


def reasoning_of(message: Fields) -> str:
    """Return the reasoning of a message, from the first of the places where providers put it."""
    for name in ("reasoning_content", "reasoning"):
        text = message.get(name)
        if text and isinstance(text, str):
            return clean(text)
    if details := message.get("reasoning_details"):  # OpenRouter, MiniMax
        return _texts(details, "text")
    if isinstance(content := message.get("content"), list):  # Mistral
        return "".join(_texts([part], "thinking") for part in content)
    return ""


def refusal_of(message: Fields) -> str:
    """Return why the model declines to answer."""
    return _text(message.get("refusal"))


def calls_of(message: Fields) -> list[CallPiece]:
    """Return the tool calls of a message; Spark writes a single one without a list around it."""
    calls = message.get("tool_calls")
    if not calls:
        return []
    return [_call(call) for call in _objects([calls] if isinstance(calls, dict) else calls)]


def _call(call: Fields) -> CallPiece:
    function = call.get("function")
    if not isinstance(function, dict):
        function = {}
    index = call.get("index")
    return CallPiece(
        index if type(index) is int else None,
        _text(call.get("id")),
        _text(function.get("name")),
        _json_text(function.get("arguments")),
    )


def _json_text(arguments: object) -> str:
    """Return the JSON text of arguments, which some providers send as the object itself."""
    if arguments is None or isinstance(arguments, str):
        return clean(arguments or "")
    try:
        return clean(json.dumps(arguments, ensure_ascii=False, separators=(",", ":")))
    except RecursionError:
        return ""


def _texts(parts: object, member: str) -> str:
    """Return the joined texts of the parts that have this member; it may hold parts itself."""
    texts = []
    for part in _objects(parts):
        value = part.get(member)
        texts.append("".join(_text(inner.get("text")) for inner in _objects(value)) or _text(value))
    return "".join(texts)


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _objects(value: object) -> list[Fields]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
