"""A Responses request as a Chat request. docs/dialects.md, "Responses: the request"

Pure: a decoded body in, a Chat body and what the way back needs out.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.core.errors import BadRequest
from proxy.dialects import responses_members as members
from proxy.dialects.responses_context import ResponsesContext, ResponsesRequest
from proxy.dialects.responses_input import chat_messages
from proxy.dialects.responses_members import Fields
from proxy.dialects.responses_tools import OfferedTools
from proxy.dialects.traits import ChatTraits, reasoning_members

# What means the same in Chat; some of it is not in Responses, yet clients send it.
_PASSED = ("model", "stream", "temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty")
# The same at OpenAI; unknown to others, some of which refuse what they do not know.
_OPENAI_FIELDS = (
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    *("safety_identifier", "service_tier", "user"),
)
# The length may come under any of its names.
_LENGTHS = ("max_output_tokens", "max_completion_tokens", "max_tokens")
# What is translated, what asks for nothing that a gateway without a memory does not do anyway, and
# what only says something about the request.
_TREATED = frozenset(
    {
        *("input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text"),
        *("previous_response_id", "conversation", "prompt", "background", "store", "include"),
        *("stream_options", "truncation", "metadata", "client_metadata"),
        *_PASSED,
        *_LENGTHS,
    }
)

# What a response repeats of its request, with the defaults of the protocol.
_ECHOED: Mapping[str, object] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
}
# And what it says whatever was asked, since nothing is stored.
_STATELESS: Mapping[str, object] = {"previous_response_id": None, "store": False, "truncation": "disabled"}

_ENCRYPTED_REASONING = "reasoning.encrypted_content"


def chat_request(body: Mapping[str, Any], traits: ChatTraits) -> ResponsesRequest:
    """Translate a request; the provider's traits decide what can be told and how.

    Raises:
        BadRequest: `previous_response_not_supported` for whatever needs a stored conversation,
            `invalid_value` for what is malformed, and for what must not be left out in silence.
    """
    _refuse_state(body)
    dropped: Counter[str] = Counter()
    tools = OfferedTools(members.objects(body.get("tools"), "tools"), traits, dropped)
    chat: Fields = {name: body[name] for name in _PASSED if body.get(name) is not None}
    chat["messages"] = _messages(body, tools, traits, dropped)
    _add_tools(chat, body, tools, traits, dropped)
    _add_length(chat, body, traits)
    _add_reasoning(chat, body, traits, dropped)
    _add_format(chat, body, traits, dropped)
    _add_others(chat, body, traits, dropped)
    return ResponsesRequest(chat, dropped, _context(body, tools))


def _refuse_state(body: Mapping[str, Any]) -> None:
    for name in ("previous_response_id", "conversation"):
        if body.get(name):
            raise BadRequest(
                "previous_response_not_supported",
                f"{name!r} refers to a stored conversation, and nothing is stored here: "
                "send the whole conversation in 'input', with 'store': false.",
                param=name,
            )
    if body.get("background"):
        raise members.invalid(
            "background", "must be false: no response is kept to be fetched later; use 'stream'"
        )
    if body.get("prompt"):
        raise members.invalid("prompt", "names a stored prompt, and none is stored here; use 'instructions'")


def _messages(
    body: Mapping[str, Any], tools: OfferedTools, traits: ChatTraits, dropped: Counter[str]
) -> list[Fields]:
    instructions = members.optional_text(body.get("instructions"), "instructions")
    given = body.get("input")
    if isinstance(given, str):
        items = [{"role": "user", "content": given}]
    elif isinstance(given, list):
        items = members.objects(given, "input")
    else:
        raise members.invalid("input", "must be a string or a list of items")
    return chat_messages(instructions, items, tools, traits, dropped)


def _add_tools(
    chat: Fields, body: Mapping[str, Any], tools: OfferedTools, traits: ChatTraits, dropped: Counter[str]
) -> None:
    choice = tools.choose(body.get("tool_choice"))
    if not tools.functions:
        return
    chat["tools"] = tools.functions
    if choice is not None:
        chat["tool_choice"] = choice
    parallel = body.get("parallel_tool_calls")
    if parallel is not None:
        if traits.parallel_tool_calls:
            chat["parallel_tool_calls"] = parallel
        else:
            dropped["parallel_tool_calls"] += 1


def _add_length(chat: Fields, body: Mapping[str, Any], traits: ChatTraits) -> None:
    """Write the length under the provider's name for it; never under two."""
    length = next((body[name] for name in _LENGTHS if body.get(name) is not None), None)
    if length is not None:
        chat[traits.length_field] = length


def _add_reasoning(chat: Fields, body: Mapping[str, Any], traits: ChatTraits, dropped: Counter[str]) -> None:
    reasoning = members.optional_object(body.get("reasoning"), "reasoning")
    effort = members.optional_text(reasoning.get("effort"), "reasoning.effort")
    if effort:
        asked = reasoning_members(traits, effort)
        chat |= asked
        dropped["reasoning.effort"] += not asked


def _add_format(chat: Fields, body: Mapping[str, Any], traits: ChatTraits, dropped: Counter[str]) -> None:
    text = members.optional_object(body.get("text"), "text")
    format = members.optional_object(text.get("format"), "text.format")
    kind = format.get("type", "text")
    if kind == "json_object":
        chat["response_format"] = {"type": kind}
    elif kind == "json_schema":
        schema = {name: value for name, value in format.items() if name != "type" and value is not None}
        chat["response_format"] = {"type": kind, kind: schema}
    elif kind != "text":
        raise members.unknown(kind, "text.format.type", "text, json_object and json_schema")
    if text.get("verbosity") is not None:
        if traits.openai_fields:
            chat["verbosity"] = text["verbosity"]
        else:
            dropped["text.verbosity"] += 1


def _add_others(chat: Fields, body: Mapping[str, Any], traits: ChatTraits, dropped: Counter[str]) -> None:
    for name, value in body.items():
        if value is None or name in _TREATED:
            continue
        if traits.openai_fields and name in _OPENAI_FIELDS:
            chat[name] = value
        else:
            dropped[name] += 1


def _context(body: Mapping[str, Any], tools: OfferedTools) -> ResponsesContext:
    include = body.get("include")
    return ResponsesContext(
        echo=_echo(body),
        tools=tools.tools,
        summaries=bool((body.get("reasoning") or {}).get("summary")),
        encrypted=isinstance(include, list) and _ENCRYPTED_REASONING in include,
    )


def _echo(body: Mapping[str, Any]) -> dict[str, msgspec.Raw]:
    """Return the members that each response repeats, written once for all of its events."""
    echo = dict(_STATELESS)
    for name, default in _ECHOED.items():
        value = body.get(name)
        if isinstance(default, dict):
            echo[name] = default | members.optional_object(value, name)
        else:
            echo[name] = default if value is None else value
    try:
        return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in echo.items()}
    except RecursionError:
        raise BadRequest("invalid_json", "The request body is nested too deeply.") from None
    except UnicodeEncodeError:
        raise BadRequest("invalid_value", "The request body holds half of a surrogate pair.") from None
