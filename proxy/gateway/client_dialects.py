"""What a client speaks: its request as chat completions, and answers back in its own dialect."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from proxy.core import jsonbody
from proxy.core.entities import Usage
from proxy.core.errors import SluiceError
from proxy.dialects import chat_reading, messages_to_chat, responses_request
from proxy.dialects.messages_answer import asked_of, message_from_chat
from proxy.dialects.messages_events import MessageEvents
from proxy.dialects.responses_answer import response_from_chat
from proxy.dialects.responses_context import ResponsesContext
from proxy.dialects.responses_events import ResponseEvents
from proxy.dialects.traits import ChatTraits
from proxy.gateway.admission import Admitted

Fields = dict[str, Any]

# On the way to another dialect chat completions is only a form: nothing is left out for a provider's sake.
HUB_TRAITS = ChatTraits(
    reasoning_switch="reasoning_effort",
    replays_reasoning=True,
    developer_role=True,
    strict_tools=True,
    openai_fields=True,
    efforts=("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    top_k=True,
    max_stops=1000,
    late_system=True,
    keeps_cache_control=True,
    files=True,
)

#: Takes how often each of some things happened, by name.
Counting = Callable[[Mapping[str, int]], None]

_encode = msgspec.json.encode


class ChunkTarget(Protocol):
    """Chat chunks in, bytes of the client's stream out."""

    def feed(self, chunk: Fields) -> bytes: ...

    def ending(self, usage: Usage) -> bytes:
        """Return the end of the stream, with the usage that is charged."""

    def keep_alive(self) -> bytes: ...

    def call_ids(self, sent: list[str]) -> list[str]:
        """Return the ids by which the client knows the calls; `sent` are those of the provider."""

    def fail(self, error: SluiceError, request_id: str) -> bytes | None:
        """Return the end of a stream that failed; None: the dialect's ordinary error event does."""


class ClientDialect(Protocol):
    """One client's half of a translation."""

    def chat_request(self, traits: ChatTraits) -> Fields:
        """Return the request as chat completions. Raises BadRequest."""

    def target(self) -> ChunkTarget: ...

    def whole(self, answer: Fields, usage: Usage) -> Fields:
        """Return a whole chat answer in the client's dialect."""

    def call_ids(self, whole: Fields) -> list[str]:
        """Return the ids of the calls in what `whole` has returned."""


def client_dialect(admitted: Admitted, count: Counting) -> ClientDialect:
    """Return the half of a translation for the client of a request.

    `count` is told how often each thing had to be left out of the request.
    """
    request = admitted.request
    fields = {name: jsonbody.value_member(request.members, name) for name in request.members}
    match request.endpoint.dialect:
        case "messages":
            return MessagesClient(admitted, fields, count)
        case "responses":
            return ResponsesClient(admitted, fields, count)
    return ChatClient(admitted, fields)


class ChatClient:
    """A client of chat completions."""

    def __init__(self, admitted: Admitted, fields: Fields) -> None:
        self._fields = fields
        self._usage_wanted = admitted.request.usage_wanted

    def chat_request(self, traits: ChatTraits) -> Fields:
        return self._fields

    def target(self) -> ChunkTarget:
        return ChatChunks(self._usage_wanted)

    def whole(self, answer: Fields, usage: Usage) -> Fields:
        return answer

    def call_ids(self, whole: Fields) -> list[str]:
        message = (chat_reading.first_choice(whole) or {}).get("message")
        calls = chat_reading.calls_of(message) if isinstance(message, dict) else []
        return [call.id for call in calls if call.id]


class ChatChunks:
    """The chunks of a stream themselves."""

    def __init__(self, usage_wanted: bool) -> None:
        self._usage_wanted = usage_wanted

    def feed(self, chunk: Fields) -> bytes:
        if chunk.get("choices") == [] and not self._usage_wanted:
            return b""
        try:
            return b"data: %b\n\n" % _encode(chunk)
        except UnicodeEncodeError:  # half of a surrogate pair: JSON can say it, UTF-8 cannot
            return b"data: %b\n\n" % json.dumps(chunk).encode("ascii")

    def ending(self, usage: Usage) -> bytes:
        return b"data: [DONE]\n\n"

    def keep_alive(self) -> bytes:
        return b": keep-alive\n\n"

    def call_ids(self, sent: list[str]) -> list[str]:
        return sent

    def fail(self, error: SluiceError, request_id: str) -> bytes | None:
        return None


class MessagesClient:
    """A client of Messages."""

    def __init__(self, admitted: Admitted, fields: Fields, count: Counting) -> None:
        self._admitted = admitted
        self._fields = fields
        self._count = count
        self._asked = asked_of(fields)
        self._id = new_id("msg")

    def chat_request(self, traits: ChatTraits) -> Fields:
        translated = messages_to_chat.chat_request(self._fields, traits)
        self._count(translated.dropped)
        return translated.body

    def target(self) -> ChunkTarget:
        return MessagesTarget(
            MessageEvents(id=self._id, asked=self._asked, input_tokens=self._admitted.estimated_input())
        )

    def whole(self, answer: Fields, usage: Usage) -> Fields:
        return message_from_chat(answer, id=self._id, asked=self._asked, usage=usage)

    def call_ids(self, whole: Fields) -> list[str]:
        return [block["id"] for block in whole["content"] if block["type"] == "tool_use"]


class MessagesTarget:
    """The events of a Messages stream."""

    def __init__(self, events: MessageEvents) -> None:
        self._events = events
        self.feed = events.feed
        self.ending = events.ending
        self.keep_alive = events.keep_alive

    def call_ids(self, sent: list[str]) -> list[str]:
        return self._events.call_ids

    def fail(self, error: SluiceError, request_id: str) -> bytes | None:
        return None


class ResponsesClient:
    """A client of Responses."""

    def __init__(self, admitted: Admitted, fields: Fields, count: Counting) -> None:
        self._fields = fields
        self._count = count
        self._model = admitted.request.model
        self._created_s = admitted.created_ms // 1000
        self._context = ResponsesContext()

    def chat_request(self, traits: ChatTraits) -> Fields:
        request = responses_request.chat_request(self._fields, traits)
        self._context = request.context
        self._count(request.dropped)
        return request.chat

    def target(self) -> ChunkTarget:
        events = ResponseEvents(self._context, ids=new_id, created_at=self._created_s, model=self._model)
        return ResponsesTarget(events)

    def whole(self, answer: Fields, usage: Usage) -> Fields:
        return response_from_chat(
            answer,
            self._context,
            ids=new_id,
            created_at=self._created_s,
            model=self._model,
            usage=usage,
        )

    def call_ids(self, whole: Fields) -> list[str]:
        return [item["call_id"] for item in whole["output"] if "call_id" in item]


class ResponsesTarget:
    """The events of a Responses stream, which ends with a whole response even when it fails."""

    def __init__(self, events: ResponseEvents) -> None:
        self._events = events
        self.feed = events.feed
        self.ending = events.ending
        self.keep_alive = events.keep_alive

    def call_ids(self, sent: list[str]) -> list[str]:
        return self._events.call_ids

    def fail(self, error: SluiceError, request_id: str) -> bytes | None:
        return self._events.fail(error.code, error.message, type=error.type, request_id=request_id)


def new_id(prefix: str) -> str:
    """Return a new id of the kind that its prefix names: `msg_…`, `resp_…`."""
    return f"{prefix}_{os.urandom(12).hex()}"
