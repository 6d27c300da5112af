"""What a Messages request asks for besides its conversation, as members of a Chat request."""

from collections import Counter
from typing import Any

from proxy.dialects.efforts import effort_for_budget, nearest_effort
from proxy.dialects.members import invalid, text_of
from proxy.dialects.messages_deferral import hidden_tools, is_clients
from proxy.dialects.messages_json import compact
from proxy.dialects.traits import ChatTraits, reasoning_members

Fields = dict[str, Any]

_READ_ELSEWHERE = {"model", "messages", "system", "metadata"}
_READ = _READ_ELSEWHERE | {
    *("max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "stream"),
    *("tools", "tool_choice", "thinking", "output_config"),
}
_READ_OF_TOOLS = {"type", "name", "description", "input_schema", "defer_loading"}


def options_of(body: Fields, traits: ChatTraits, dropped: Counter[str]) -> tuple[Fields, list[str]]:
    """Return the members, and what the model must be told in words because no member says it."""
    instructions: list[str] = []
    options = {
        **_plain(body, traits, dropped),
        **_tools(body, traits, dropped, instructions),
        **_reasoning(body, traits, dropped),
        **_format(body, traits, instructions),
    }
    dropped.update(name[:64] for name in body.keys() - _READ if body[name] is not None)
    return options, instructions


def _plain(body: Fields, traits: ChatTraits, dropped: Counter[str]) -> Fields:
    names = {"max_tokens": traits.length_field, "stream": "stream"}
    names |= {"temperature": "temperature", "top_p": "top_p"} if traits.sampling else {}
    names |= {"top_k": "top_k"} if traits.top_k else {}
    options = {names[name]: body[name] for name in names if body.get(name) is not None}
    dropped.update(
        name for name in ("temperature", "top_p", "top_k") if name not in names and body.get(name) is not None
    )
    given = body.get("stop_sequences")
    stops = [stop for stop in given if isinstance(stop, str) and stop] if isinstance(given, list) else []
    if stops:
        options["stop"] = stops[: traits.max_stops]
    if len(stops) > traits.max_stops:
        dropped["stop_sequences"] += len(stops) - traits.max_stops
    return options


def _tools(body: Fields, traits: ChatTraits, dropped: Counter[str], instructions: list[str]) -> Fields:
    given = body.get("tools")
    if given is None:
        given = []
    if not isinstance(given, list):
        raise invalid("tools", "must be a list")
    hidden = hidden_tools(body)
    tools = []
    for position, tool in enumerate(given):
        where = f"tools[{position}]"
        if not isinstance(tool, dict):
            raise invalid(where, "must be an object")
        if is_clients(tool):
            function = _tool(tool, where, traits, dropped)
            if function["function"]["name"] in hidden:
                dropped["tools.deferred"] += 1
            else:
                tools.append(function)
        else:
            dropped[f"tools.{str(tool['type'])[:64]}"] += 1  # one that Anthropic's servers run
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        choice = {}
    if not tools and choice.get("type") != "tool":
        return {}
    options: Fields = {"tools": tools, **_choice(choice, tools, traits, instructions)}
    if choice.get("disable_parallel_tool_use") is True:
        if traits.parallel_tool_calls:
            options["parallel_tool_calls"] = False
        else:
            dropped["tool_choice.disable_parallel_tool_use"] += 1
    return options


def _tool(tool: Fields, where: str, traits: ChatTraits, dropped: Counter[str]) -> Fields:
    function: Fields = {"name": text_of(tool, "name", where)}
    if tool.get("description") is not None:
        function["description"] = tool["description"]
    function["parameters"] = {"type": "object", "properties": {}} | _object(tool.get("input_schema"))
    read = _READ_OF_TOOLS
    if traits.strict_tools:
        read = read | {"strict"}
        if tool.get("strict") is not None:
            function["strict"] = tool["strict"]
    dropped.update(f"tools.{name[:64]}" for name in tool.keys() - read if tool[name] is not None)
    return {"type": "function", "function": function}


def _choice(choice: Fields, tools: list[Fields], traits: ChatTraits, instructions: list[str]) -> Fields:
    match choice.get("type"):
        case "auto" | "none" as word:
            return {"tool_choice": word}
        case "any" if traits.tool_choice_required:
            return {"tool_choice": traits.tool_choice_required}
        case "any":
            instructions.append("Call one of the tools; do not answer without.")
            return {"tool_choice": "auto"}
        case "tool":
            name = text_of(choice, "name", "tool_choice")
            if all(tool["function"]["name"] != name for tool in tools):
                raise invalid("tool_choice.name", "is not among the tools that this model can be given")
            if traits.tool_choice_required:
                return {"tool_choice": {"type": "function", "function": {"name": name}}}
            instructions.append(f"Call the tool {name}; do not answer without.")
            return {"tool_choice": "auto"}
    return {}


def _reasoning(body: Fields, traits: ChatTraits, dropped: Counter[str]) -> Fields:
    """Return how the provider is asked to think, and how hard.

    Nothing is sent for a request that says nothing about it.
    """
    thinking, config = _object(body.get("thinking")), _object(body.get("output_config"))
    kind, effort, budget = thinking.get("type"), config.get("effort"), thinking.get("budget_tokens")
    if kind is None and effort is None:
        return {}
    if traits.reasoning_switch == "none":
        dropped.update(name for name, given in (("thinking", kind), ("effort", effort)) if given is not None)
        return {}
    knows_efforts = traits.reasoning_switch == "reasoning_effort"
    if kind == "disabled":
        if knows_efforts and "none" not in traits.efforts:
            dropped["thinking"] += 1
            return {}
        return reasoning_members(traits, "none")
    if not isinstance(effort, str):
        effort = effort_for_budget(budget) if isinstance(budget, int) else None
    if knows_efforts:
        return reasoning_members(traits, nearest_effort(effort, traits.efforts)) if effort else {}
    members = reasoning_members(traits, effort or "medium")
    if traits.reasoning_switch == "enable_thinking" and isinstance(budget, int):
        members["thinking_budget"] = budget
    return members


def _format(body: Fields, traits: ChatTraits, instructions: list[str]) -> Fields:
    wanted = _object(_object(body.get("output_config")).get("format"))
    schema = wanted.get("schema")
    if wanted.get("type") != "json_schema" or not isinstance(schema, dict):
        return {}
    if traits.json_schema:
        described = {"name": "output", "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": described}}
    instructions.append(f"Answer with one JSON object that fits this JSON schema: {compact(schema)}")
    return {"response_format": {"type": "json_object"}}


def _object(value: object) -> Fields:
    return value if isinstance(value, dict) else {}
