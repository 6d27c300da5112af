"""What a Chat request asks for besides its conversation, as members of a Messages request."""

from collections import Counter
from typing import Any

from proxy.core.errors import BadRequest
from proxy.dialects.efforts import BUDGETS, EFFORTS, nearest_effort
from proxy.dialects.members import invalid, text_of
from proxy.dialects.messages_json import compact
from proxy.dialects.messages_models import MessagesTraits

Fields = dict[str, Any]

_READ = {
    *("model", "messages", "max_tokens", "max_completion_tokens", "stream", "stream_options"),
    *("temperature", "top_p", "top_k", "stop", "tools", "tool_choice", "parallel_tool_calls"),
    *("response_format", "reasoning_effort", "user", "safety_identifier", "n", "modalities"),
    *("functions", "function_call"),
}
_READ_OF_FUNCTIONS = {"name", "description", "parameters", "strict"}
_LEAST_BUDGET = 1024


def options_of(
    body: Fields,
    traits: MessagesTraits,
    dropped: Counter[str],
    *,
    max_tokens_default: int,
    thinking_begun: bool,
) -> tuple[Fields, list[str]]:
    """Return the members, and what the model must be told in words because no member says it.

    `thinking_begun`: a model that thinks within a budget may do so in this turn.
    """
    _refuse(body)
    instructions: list[str] = []
    length = body.get("max_completion_tokens") or body.get("max_tokens") or max_tokens_default
    options: Fields = {"max_tokens": length}
    if body.get("stream") is not None:
        options["stream"] = body["stream"]
    thinking = _thinking(body, traits, dropped, length, thinking_begun=thinking_begun)
    options |= thinking
    options |= _sampling(body, traits, dropped, thinks="thinking" in thinking)
    options |= _tools(body, traits, dropped, thinks="thinking" in thinking)
    if schema := _schema(body, traits, instructions):
        options["output_config"] = options.get("output_config", {}) | schema
    user = body.get("safety_identifier") or body.get("user")
    if user and isinstance(user, str):
        options["metadata"] = {"user_id": user}
    dropped.update(name[:64] for name in body.keys() - _READ if body[name] is not None)
    return options, instructions


def _refuse(body: Fields) -> None:
    """Refuse what would make the answer another one than was asked for."""
    if body.get("n") not in (None, 1):
        raise _unsupported("n", "answers once to each request: 'n' must be 1")
    modalities = body.get("modalities")
    if isinstance(modalities, list) and any(kind != "text" for kind in modalities):
        raise _unsupported("modalities", "answers with text only")
    for name in ("functions", "function_call"):
        if body.get(name) not in (None, []):
            raise _unsupported(name, f"knows no {name!r}: use 'tools'")


def _unsupported(param: str, reason: str) -> BadRequest:
    return BadRequest("invalid_value", f"This model {reason}.", param=param)


def _thinking(
    body: Fields, traits: MessagesTraits, dropped: Counter[str], max_tokens: object, *, thinking_begun: bool
) -> Fields:
    """Return `thinking` where the model is to think; without it, it does not."""
    effort = body.get("reasoning_effort")
    if effort is None or effort == "none":
        return {}
    if not isinstance(effort, str) or effort not in EFFORTS:
        effort = "medium"
    if traits.thinking == "adaptive":
        chosen = nearest_effort(effort, traits.efforts)
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": chosen}}
    if traits.thinking == "budget" and thinking_begun and isinstance(max_tokens, int):
        # Half of a short answer at most, so that something is left to say.
        budget = min(BUDGETS[effort], max(max_tokens // 2, _LEAST_BUDGET))
        if budget < max_tokens:
            return {"thinking": {"type": "enabled", "budget_tokens": budget}}
    dropped["reasoning_effort"] += 1
    return {}


def _sampling(body: Fields, traits: MessagesTraits, dropped: Counter[str], *, thinks: bool) -> Fields:
    options: Fields = {}
    given = body.get("stop")
    stops = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    if stops := [stop for stop in stops if isinstance(stop, str) and stop.strip()]:
        options["stop_sequences"] = stops
    names = [name for name in ("temperature", "top_p", "top_k") if body.get(name) is not None]
    for name in names:
        # A model that thinks samples its own way; and newer ones refuse both of these together.
        if not traits.sampling or thinks or (name == "top_p" and "temperature" in names):
            dropped[name] += 1
        elif name == "temperature" and isinstance(body[name], int | float):
            options[name] = min(max(body[name], 0), 1)
        else:
            options[name] = body[name]
    return options


def _tools(body: Fields, traits: MessagesTraits, dropped: Counter[str], *, thinks: bool) -> Fields:
    given = body.get("tools")
    if given is None:
        given = []
    if not isinstance(given, list):
        raise invalid("tools", "must be a list")
    tools = []
    for position, tool in enumerate(given):
        where = f"tools[{position}]"
        if not isinstance(tool, dict):
            raise invalid(where, "must be an object")
        if isinstance(tool.get("function"), dict):
            tools.append(_tool(tool, f"{where}.function", traits, dropped))
        else:
            dropped[f"tools.{str(tool.get('type'))[:64]}"] += 1
    choice, names = _choice(body.get("tool_choice"))
    if names is not None:
        tools = [tool for tool in tools if tool["name"] in names]
    if choice["type"] == "tool" and all(tool["name"] != choice["name"] for tool in tools):
        raise invalid("tool_choice", "names a tool that is not among the tools that this model can be given")
    if not tools:
        return {}
    if thinks and choice["type"] in ("any", "tool"):
        dropped["tool_choice"] += 1  # a call cannot be forced from a model that thinks
        choice = {"type": "auto"}
    if body.get("parallel_tool_calls") is False and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return {"tools": tools} if choice == {"type": "auto"} else {"tools": tools, "tool_choice": choice}


def _tool(tool: Fields, where: str, traits: MessagesTraits, dropped: Counter[str]) -> Fields:
    function = tool["function"]
    schema = function.get("parameters")
    written: Fields = {"name": text_of(function, "name", where)}
    if isinstance(function.get("description"), str):
        written["description"] = function["description"]
    written["input_schema"] = (schema if isinstance(schema, dict) else {}) | {"type": "object"}
    if traits.json_schema and function.get("strict") is True:
        written["strict"] = True
    if marker := tool.get("cache_control"):
        written["cache_control"] = marker
    dropped.update(f"tools.{name[:64]}" for name in function.keys() - _READ_OF_FUNCTIONS)
    return written


def _choice(choice: object) -> tuple[Fields, set[str] | None]:
    """Return a tool choice, and the names of the tools that it leaves, None for all."""
    match choice:
        case None | "auto":
            return {"type": "auto"}, None
        case "none":
            return {"type": "none"}, None
        case "required":
            return {"type": "any"}, None
        case {"type": "function", "function": {"name": str(name)}}:
            return {"type": "tool", "name": name}, None
        case {"type": "allowed_tools", "allowed_tools": {"tools": list(allowed), **rest}}:
            names = {tool["function"]["name"] for tool in allowed if _is_named(tool)}
            return {"type": "any" if rest.get("mode") == "required" else "auto"}, names
    raise invalid("tool_choice", "must be none, auto, required, or name a function among the tools")


def _is_named(tool: object) -> bool:
    match tool:
        case {"function": {"name": str()}}:
            return True
    return False


def _schema(body: Fields, traits: MessagesTraits, instructions: list[str]) -> Fields:
    match body.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            if traits.json_schema:
                return {"format": {"type": "json_schema", "schema": schema}}
            instructions.append(f"Answer with one JSON object that fits this JSON schema: {compact(schema)}")
        case {"type": "json_object" | "json_schema"}:
            instructions.append("Answer with one JSON object and nothing else.")
    return {}
