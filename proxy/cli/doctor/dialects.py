"""The clients that `doctor --live` plays: what each sends, and whether it would understand the answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proxy.core.sse import Event, FrameSplitter, parse

Json = dict[str, Any]
#: Returns what is wrong with the body of an answer, None for nothing.
Flaw = Callable[[bytes], str | None]

#: The least that every provider takes: OpenAI's Responses want 16 at least.
TOKENS = 16
TEXT = "Say hello."
SAY_HELLO = [{"role": "user", "content": TEXT}]

# In the place of the field that limits a chat's length.
_LENGTH = ""
# Codes and messages are short; what else answers here is not ours.
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Play:
    """One request of one kind of client. `good` is said when the answer is what it expects."""

    name: str
    path: str
    flaw: Flaw
    good: str
    members: Mapping[str, object] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return "GET" if self.members is None else "POST"

    def body(self, model: str, length_field: str) -> Json | None:
        """Return what is sent. `length_field` is what the model's provider calls a chat's limit."""
        if self.members is None:
            return None
        members = {(length_field if name == _LENGTH else name): value for name, value in self.members.items()}
        return {"model": model, **members}


def refusal(status: int, body: bytes) -> str | None:
    """Return an error's status, code and message, None for an answer that is none."""
    if status < 400:
        return None
    told = _object(body).get("error")
    if not isinstance(told, dict) or not told.get("message"):
        return f"HTTP {status}"
    code = told.get("code") or told.get("type")
    return f"HTTP {status}{f', {code}' if code else ''}: {str(told['message'])[:_SHOWN]}"


def flaw_of_chat(body: bytes) -> str | None:
    answer = _object(body)
    if answer.get("object") != "chat.completion":
        return _not_a("chat completion")
    message = _first(answer.get("choices")).get("message")
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return "the answer has no message of the assistant"
    return None if isinstance(answer.get("usage"), dict) else "the answer says nothing of its tokens"


def flaw_of_chat_stream(body: bytes) -> str | None:
    events = _events(body)
    if (error := _told(events)) is not None:
        return error
    if not events or events[-1].data != b"[DONE]":
        return "the stream does not end with [DONE]"
    chunks = [_object(event.data) for event in events[:-1] if event.data]
    if not chunks or any(chunk.get("object") != "chat.completion.chunk" for chunk in chunks):
        return "the stream has something else than chunks of a chat completion"
    if not any(_first(chunk.get("choices")).get("finish_reason") for chunk in chunks):
        return "the stream says nowhere why it ends"
    return None


def flaw_of_message(body: bytes) -> str | None:
    answer = _object(body)
    if answer.get("type") != "message" or answer.get("role") != "assistant":
        return _not_a("message")
    if not isinstance(answer.get("content"), list) or not answer.get("stop_reason"):
        return "the message has no content, or no stop_reason"
    usage = answer.get("usage")
    counted = isinstance(usage, dict) and isinstance(usage.get("input_tokens"), int)
    return None if counted else "the message says nothing of its tokens"


def flaw_of_message_stream(body: bytes) -> str | None:
    return _flaw_of_typed_stream(body, "message_start", ("message_stop",))


def flaw_of_count(body: bytes) -> str | None:
    count = _object(body).get("input_tokens")
    return None if isinstance(count, int) and count > 0 else "the answer has no number of input_tokens"


def flaw_of_response(body: bytes) -> str | None:
    answer = _object(body)
    if answer.get("object") != "response" or not isinstance(answer.get("output"), list):
        return _not_a("response")
    # Sixteen tokens may be too few for a model that thinks first: then it is incomplete, and right.
    if answer.get("status") not in ("completed", "incomplete"):
        return f"the response is {str(answer.get('status'))[:_SHOWN]}"
    return None if isinstance(answer.get("usage"), dict) else "the response says nothing of its tokens"


def flaw_of_response_stream(body: bytes) -> str | None:
    return _flaw_of_typed_stream(body, "response.created", ("response.completed", "response.incomplete"))


def flaw_of_models(body: bytes) -> str | None:
    data = _object(body).get("data")
    if not isinstance(data, list) or not data:
        return "the list of models is empty"
    named = all(isinstance(item, dict) and isinstance(item.get("id"), str) for item in data)
    return None if named else "a model in the list has no id"


_ANTHROPIC = {"anthropic-version": "2023-06-01"}
_CHAT: Json = {_LENGTH: TOKENS, "messages": SAY_HELLO}
_MESSAGE: Json = {"max_tokens": TOKENS, "messages": SAY_HELLO}
_RESPONSE: Json = {"max_output_tokens": TOKENS, "input": TEXT}
_STREAM: Json = {"stream": True}

PLAYS = (
    Play("chat", "/v1/chat/completions", flaw_of_chat, "a chat completion", _CHAT),
    Play("chat, streamed", "/v1/chat/completions", flaw_of_chat_stream, "ends with [DONE]", _CHAT | _STREAM),
    Play("Messages", "/v1/messages", flaw_of_message, "a message", _MESSAGE, _ANTHROPIC),
    Play(
        "Messages, streamed",
        "/v1/messages",
        flaw_of_message_stream,
        "ends with message_stop",
        _MESSAGE | _STREAM,
        _ANTHROPIC,
    ),
    Play(
        "Messages, count_tokens",
        "/v1/messages/count_tokens",
        flaw_of_count,
        "a number of tokens",
        {"messages": SAY_HELLO},
        _ANTHROPIC,
    ),
    Play("Responses", "/v1/responses", flaw_of_response, "a response", _RESPONSE),
    Play(
        "Responses, streamed",
        "/v1/responses",
        flaw_of_response_stream,
        "ends with response.completed",
        _RESPONSE | _STREAM,
    ),
    Play("models", "/v1/models", flaw_of_models, "a list of models"),
)


def _flaw_of_typed_stream(body: bytes, first: str, last: tuple[str, ...]) -> str | None:
    events = [event for event in _events(body) if event.data]
    if (error := _told(events)) is not None:
        return error
    types = [str(_object(event.data).get("type")) for event in events]
    if not types or types[0] != first:
        return f"the stream does not begin with {first}"
    if types[-1] not in last:
        return f"the stream does not end with {last[0]}"
    named = all(event.event == type.encode() for event, type in zip(events, types, strict=True))
    return None if named else "an event is not named like its type"


def _told(events: list[Event]) -> str | None:
    """Return the error that ends a stream."""
    for event in events:
        told = _object(event.data)
        error = told.get("error") or (told.get("response") or {}).get("error")
        if isinstance(error, dict):
            code = error.get("code") or error.get("type")
            return f"the stream ends with an error, {code}: {str(error.get('message'))[:_SHOWN]}"
        if told.get("type") == "error":
            return f"the stream ends with an error, {told.get('code')}: {str(told.get('message'))[:_SHOWN]}"
    return None


def _events(body: bytes) -> list[Event]:
    splitter = FrameSplitter()
    frames = [*splitter.feed(body), *splitter.finish()]
    return [event for event in map(parse, frames) if event.data is not None]


def _object(data: bytes | None) -> Json:
    """Return an object, an empty one for what is none."""
    try:
        value = msgspec.json.decode(data or b"")
    except msgspec.DecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _first(items: object) -> Json:
    """Return the first object of a list, an empty one where there is none."""
    return items[0] if isinstance(items, list) and items and isinstance(items[0], dict) else {}


def _not_a(thing: str) -> str:
    return f"the answer is no {thing}"
