"""What a Responses request asks for besides its conversation, as members of a Chat request.

docs/dialects.md, "Responses over Chat"
"""

from collections import Counter

from proxy.dialects import members
from proxy.dialects.efforts import nearest_effort
from proxy.dialects.members import Fields
from proxy.dialects.responses_content import as_json
from proxy.dialects.responses_tools import OfferedTools
from proxy.dialects.traits import ChatTraits, reasoning_members

# What is called the same in Chat.
_PASSED = ("model", "stream")
_SAMPLING = ("temperature", "top_p")
_OPENAI_FIELDS = (
    *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    *("safety_identifier", "service_tier"),
)
# The length, under whichever of its names it comes.
_LENGTHS = ("max_output_tokens", "max_completion_tokens", "max_tokens")
# What is translated elsewhere, and what asks for nothing that a gateway without a memory does not
# do anyway, or merely describes the request: leaving it out changes nothing.
_READ = frozenset(
    {
        *("input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text"),
        *("previous_response_id", "conversation", "prompt", "background", "store", "include"),
        *("stream_options", "truncation", "metadata", "client_metadata"),
        *(*_PASSED, *_LENGTHS),
    }
)


def options_of(
    body: Fields, tools: OfferedTools, traits: ChatTraits, dropped: Counter[str]
) -> tuple[Fields, list[str]]:
    """Return the members, and what the model must be told in words because no member says it.

    Raises:
        BadRequest: `invalid_value`.
    """
    instructions: list[str] = []
    options = {
        **_plain(body, traits, dropped),
        **_tools(body, tools, traits, dropped, instructions),
        **_reasoning(body, traits, dropped),
        **_text(body, traits, dropped, instructions),
    }
    return options, instructions


def _plain(body: Fields, traits: ChatTraits, dropped: Counter[str]) -> Fields:
    options = {name: body[name] for name in _PASSED if body.get(name) is not None}
    lengths = [body[name] for name in _LENGTHS if body.get(name) is not None]
    if lengths:
        options[traits.length_field] = lengths[0]
    names = {
        *(_SAMPLING if traits.sampling else ()),
        *(_OPENAI_FIELDS if traits.openai_fields else ()),
        *(("user",) if traits.user_field == "user" else ()),
    }
    for name in body.keys() - _READ:
        if body[name] is None:
            continue
        if name in names:
            options[name] = body[name]
        else:
            dropped[name[:64]] += 1
    return options


def _tools(
    body: Fields, tools: OfferedTools, traits: ChatTraits, dropped: Counter[str], instructions: list[str]
) -> Fields:
    choice = tools.choose(body.get("tool_choice"))
    if not tools.functions:
        return {}
    options: Fields = {"tools": tools.functions}
    if choice is not None:
        options["tool_choice"] = _demanded(choice, traits, instructions)
    parallel = body.get("parallel_tool_calls")
    if traits.parallel_tool_calls and parallel is not None:
        options["parallel_tool_calls"] = parallel
    elif parallel is False:
        dropped["parallel_tool_calls"] += 1
    return options


def _demanded(choice: str | Fields, traits: ChatTraits, instructions: list[str]) -> str | Fields:
    """Return the choice as the provider takes it; what it cannot be made to do it is told to do."""
    if choice in ("auto", "none"):
        return choice
    if traits.tool_choice_required is None:
        tool = f"the tool {choice['function']['name']}" if isinstance(choice, dict) else "one of the tools"
        instructions.append(f"Call {tool}; do not answer without.")
        return "auto"
    return traits.tool_choice_required if choice == "required" else choice


def _reasoning(body: Fields, traits: ChatTraits, dropped: Counter[str]) -> Fields:
    reasoning = members.optional_object(body.get("reasoning"), "reasoning")
    effort = members.optional_text(reasoning.get("effort"), "reasoning.effort")
    if not effort:
        return {}
    if traits.reasoning_switch == "reasoning_effort" and effort not in traits.efforts:
        # A word that is not known is worth the next one up; doing without is none of them.
        effort = "" if effort == "none" else nearest_effort(effort, traits.efforts)
    options = reasoning_members(traits, effort) if effort else {}
    if not options:
        dropped["reasoning.effort"] += 1
    return options


def _text(body: Fields, traits: ChatTraits, dropped: Counter[str], instructions: list[str]) -> Fields:
    text = members.optional_object(body.get("text"), "text")
    options: Fields = {}
    if text.get("verbosity") is not None:
        if traits.openai_fields:
            options["verbosity"] = text["verbosity"]
        else:
            dropped["text.verbosity"] += 1
    format = members.optional_object(text.get("format"), "text.format")
    match format.get("type", "text"):
        case "text":
            pass
        case "json_object":
            options["response_format"] = {"type": "json_object"}
        case "json_schema" if traits.json_schema:
            schema = {name: value for name, value in format.items() if name != "type" and value is not None}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        case "json_schema":
            wanted = as_json(format.get("schema"), "text.format.schema")
            instructions.append(f"Answer with one JSON object that fits this JSON schema: {wanted}")
            options["response_format"] = {"type": "json_object"}
        case kind:
            raise members.unknown(kind, "text.format.type", "text, json_object and json_schema")
    return options
