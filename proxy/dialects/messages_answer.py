"""A Chat answer as a Messages answer. docs/dialects.md, "Messages over Chat" """

import re
from dataclasses import dataclass
from typing import Any

from proxy.core.entities import Usage
from proxy.dialects import chat_reading as chat
from proxy.dialects.messages_json import arguments_object, parsed_object

Fields = dict[str, Any]

# The stop reasons that follow from the finish reason alone; any other is `end_turn`.
_STOP_REASONS = {
    **dict.fromkeys(chat.LENGTH_REASONS, "max_tokens"),
    **dict.fromkeys(chat.FILTER_REASONS, "refusal"),
    "model_context_window_exceeded": "model_context_window_exceeded",
}
# Where vLLM and SGLang name the stop sequence that was hit.
_MATCHED_STOPS = ("stop_reason", "matched_stop")
# Ids that merely count: every answer of such a provider has the same ones.
_COUNTER = re.compile(r"(?:call|tool)?[_-]?\d{0,3}\Z")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer must know of its request. `model` is the name that the client used."""

    model: str
    thinking: bool = False
    stop_sequences: tuple[str, ...] = ()


def asked_of(body: Fields) -> Asked:
    """Return what the answer must know of a Messages request."""
    model, thinking, stops = body.get("model"), body.get("thinking"), body.get("stop_sequences")
    return Asked(
        model if isinstance(model, str) else "",
        isinstance(thinking, dict) and thinking.get("type") not in (None, "disabled"),
        tuple(stop for stop in stops if isinstance(stop, str)) if isinstance(stops, list) else (),
    )


def message_from_chat(answer: Fields, *, id: str, asked: Asked, usage: Usage) -> Fields:
    """Return a whole Chat answer as a message.

    `id` is the message's own, `msg_…`; `usage` is what is charged, reported or estimated. What has
    no known shape says nothing: an answer without content is one empty text block.
    """
    choice = chat.first_choice(answer) or {}
    spoken = choice.get("message")
    message = spoken if isinstance(spoken, dict) else {}
    calls = [call for call in chat.calls_of(message) if call.name]
    refusal = chat.refusal_of(message)
    content: list[Fields] = []
    if asked.thinking and (thoughts := chat.reasoning_of(message)):
        content.append({"type": "thinking", "thinking": thoughts, "signature": ""})
    if text := chat.content_of(message) + refusal:
        content.append({"type": "text", "text": text})
    ids = CallIds(id)
    for call in calls:
        given = arguments_object(call.arguments)
        content.append({"type": "tool_use", "id": ids.take(call.id), "name": call.name, "input": given})
    return {
        **opening(id, asked.model),
        "content": content or [{"type": "text", "text": ""}],
        **ending(choice, [call.arguments for call in calls[-1:]], asked, refused=bool(refusal)),
        "usage": usage_members(usage),
    }


def opening(id: str, model: str) -> Fields:
    return {"id": id, "type": "message", "role": "assistant", "model": model}


def ending(choice: Fields, last_arguments: list[str], asked: Asked, *, refused: bool) -> Fields:
    """Return `stop_reason` and `stop_sequence`.

    `choice` has the finish reason; `last_arguments` are those of the last tool call, if there is
    one. Calls count for more than what the provider calls its reason, unless the last is cut off.
    """
    finish = choice.get("finish_reason")
    reason = _STOP_REASONS.get(finish, "end_turn") if isinstance(finish, str) else "end_turn"
    matched = next(
        (stop for name in _MATCHED_STOPS if (stop := choice.get(name)) in asked.stop_sequences), None
    )
    if last_arguments:
        is_cut_off = reason == "max_tokens" and parsed_object(last_arguments[0]) is None
        return {"stop_reason": "max_tokens" if is_cut_off else "tool_use", "stop_sequence": None}
    if refused:
        reason = "refusal"
    if reason == "end_turn" and matched is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": matched}
    return {"stop_reason": reason, "stop_sequence": None}


def usage_members(usage: Usage) -> Fields:
    """Return usage as Messages counts it: input without what was read from or written to a cache."""
    members: Fields = {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        members["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return members


class CallIds:
    """Gives each tool call of one answer its id: the provider's own where it tells calls apart."""

    __slots__ = ("_base", "_taken", "given")

    def __init__(self, message_id: str) -> None:
        self._base = message_id.removeprefix("msg_")
        self._taken: set[str] = set()
        #: The ids in the order of the calls.
        self.given: list[str] = []

    def take(self, id: str) -> str:
        if _COUNTER.match(id) or id in self._taken:
            id = f"toolu_{self._base}_{len(self._taken)}"
        self._taken.add(id)
        self.given.append(id)
        return id
