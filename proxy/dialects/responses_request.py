"""A Responses request as a Chat request. docs/dialects.md, "Responses over Chat" """

from collections import Counter
from collections.abc import Mapping

import msgspec

from proxy.core.errors import BadRequest
from proxy.dialects import members
from proxy.dialects.members import Fields
from proxy.dialects.responses_context import ResponsesContext, ResponsesRequest
from proxy.dialects.responses_input import chat_messages, stored
from proxy.dialects.responses_options import options_of
from proxy.dialects.responses_tools import OfferedTools
from proxy.dialects.traits import ChatTraits

# What a response repeats of its request, with the protocol's defaults.
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
#: What `refuse_state` looks at.
STATE = ("previous_response_id", "conversation", "background", "prompt")
_STATELESS: Mapping[str, object] = {"previous_response_id": None, "store": False, "truncation": "disabled"}

_ENCRYPTED_REASONING = "reasoning.encrypted_content"


def chat_request(body: Fields, traits: ChatTraits) -> ResponsesRequest:
    """Return a Responses request as the Chat request that says the same to one provider.

    What Chat or the provider has no place for is left out and counted. `stream_options` is not
    set: whether usage is asked for is the gateway's to decide.

    Raises:
        BadRequest: `previous_response_not_supported` for whatever needs a stored conversation,
            `invalid_value` for what is malformed, and for what must not be left out in silence.
    """
    refuse_state(body)
    dropped: Counter[str] = Counter()
    items = _items(body.get("input"))
    tools = OfferedTools(members.objects(body.get("tools"), "tools"), traits, dropped, items=items)
    options, instructions = options_of(body, tools, traits, dropped)
    if given := members.optional_text(body.get("instructions"), "instructions"):
        instructions.insert(0, given)
    messages = chat_messages(instructions, items, tools, traits, dropped)
    return ResponsesRequest({**options, "messages": messages}, dropped, _context(body, tools))


def refuse_state(body: Fields) -> None:
    """Refuse what needs a conversation kept somewhere: the next turn may go to another provider.

    Raises BadRequest, as `chat_request` does.
    """
    for name in ("previous_response_id", "conversation"):
        if body.get(name):
            raise stored(name)
    if body.get("background"):
        raise members.invalid(
            "background", "must be false: responses are not kept here to be fetched later; use 'stream'"
        )
    if body.get("prompt"):
        raise members.invalid("prompt", "names a stored prompt, and none is stored here; use 'instructions'")


def _items(given: object) -> list[Fields]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if given is None:
        raise members.invalid("input", "must be a string or a list of items")
    items = members.objects(given, "input")
    if not items:
        raise members.invalid("input", "must hold at least one item")
    return items


def _context(body: Fields, tools: OfferedTools) -> ResponsesContext:
    include = body.get("include")
    reasoning = members.optional_object(body.get("reasoning"), "reasoning")
    return ResponsesContext(
        echo=_echo(body),
        tools=tools.tools,
        summaries=bool(reasoning.get("summary")),
        encrypted=isinstance(include, list) and _ENCRYPTED_REASONING in include,
    )


def _echo(body: Fields) -> dict[str, msgspec.Raw]:
    """Return the members that each response repeats, written once for all of a stream's events."""
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
