"""Chat Completions, as a provider of the strict kind reads and answers them."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.clients.programs.turns import Tool, Turn, pieces
from tests.support.replies import Reply, chat, chat_chunk, json_reply, sse

PATH = "/chat/completions"
USAGE = {
    "prompt_tokens": 40,
    "completion_tokens": 12,
    "total_tokens": 52,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 3},
}

#: Members of the other dialects, which have no business here.
_FOREIGN = {
    *("system", "stop_sequences", "thinking", "output_config", "context_management", "mcp_servers"),
    *("input", "instructions", "include", "max_output_tokens", "text", "client_metadata", "truncation"),
}
_ROLES = {"system", "user", "assistant", "tool"}  # few providers know "developer"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def tools(body: Mapping[str, Any]) -> list[Tool]:
    return [Tool(tool["function"]["name"]) for tool in body.get("tools", [])]


def results(body: Mapping[str, Any]) -> str:
    return "\n".join(text_of(message["content"]) for message in body["messages"] if message["role"] == "tool")


def text_of(content: object) -> str:
    """Return the text of a content: a string, a list of parts, or null."""
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content)
    return content if isinstance(content, str) else ""


def faults(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a strict provider would refuse."""
    if foreign := _FOREIGN & body.keys():
        yield f"members of another dialect: {', '.join(sorted(foreign))}"
    if "stream_options" in body and not body.get("stream"):
        yield "stream_options without stream"
    if {"max_tokens", "max_completion_tokens"} <= body.keys():
        yield "two limits of the output"
    if "tool_choice" in body and not body.get("tools"):
        yield "tool_choice without tools"
    for tool in body.get("tools", []):
        yield from _tool_faults(tool)
    if len(set(tools(body))) < len(tools(body)):
        yield "two tools of one name"
    yield from _message_faults(body["messages"])


def _tool_faults(tool: Mapping[str, Any]) -> Iterator[str]:
    if tool.get("type") != "function" or not _NAME.fullmatch(tool["function"].get("name", "")):
        yield f"not a function with a proper name: {json.dumps(tool)[:200]}"
    elif tool["function"].get("parameters", {"type": "object"}).get("type") != "object":
        yield f"the parameters of {tool['function']['name']} are no object"


def _message_faults(messages: list[dict[str, Any]]) -> Iterator[str]:
    if not messages:
        yield "no messages"
    pending: set[str] = set()
    for place, message in enumerate(messages):
        here = f"messages[{place}]"
        if message.get("role") not in _ROLES:
            yield f"{here} has the role {message.get('role')!r}"
        elif message["role"] == "system" and place > 0:
            yield f"{here} is the system's, but not the first"
        elif message["role"] == "tool":
            if message.get("tool_call_id") not in pending:
                yield f"{here} answers {message.get('tool_call_id')!r}, which nobody called"
            pending.discard(message.get("tool_call_id", ""))
        elif pending:
            yield f"{here} comes before the results of {', '.join(sorted(pending))}"
            pending.clear()
        yield from (f"{here} {fault}" for fault in _content_faults(message))
        for call in message.get("tool_calls") or []:
            if call["id"] in pending or call["type"] != "function":
                yield f"{here} has an odd call: {call}"
            if not isinstance(json.loads(call["function"]["arguments"]), dict):
                yield f"{here} has arguments that are no object"
            pending.add(call["id"])
    if pending:
        yield f"no results of {', '.join(sorted(pending))}"


def _content_faults(message: Mapping[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, list):
        wrong = [part for part in content if part.get("type") not in ("text", "image_url", "file")]
        if wrong or not content:
            yield f"has odd parts: {wrong}"
        if any("cache_control" in part for part in content):
            yield "has cache_control"
    elif not isinstance(content, str) and not message.get("tool_calls"):
        yield f"has the content {content!r}"


def reply(body: Mapping[str, Any], turn: Turn) -> Reply:
    """Say a turn, in one piece or as a stream, with reasoning as DeepSeek has it."""
    if not body.get("stream"):
        message: dict[str, Any] = {"reasoning_content": turn.thought}
        if turn.calls:
            message["tool_calls"] = [_call(call.id, call.tool.name, call.arguments) for call in turn.calls]
        return chat(turn.text, usage=USAGE, finish=_finish(turn), **message)
    return sse(*_chunks(turn, usage=bool(body.get("stream_options", {}).get("include_usage"))), "[DONE]")


def _chunks(turn: Turn, *, usage: bool) -> Iterator[dict[str, object]]:
    yield chat_chunk({"role": "assistant", "content": ""})
    yield from (chat_chunk({"reasoning_content": piece}) for piece in pieces(turn.thought))
    yield from (chat_chunk({"content": piece}) for piece in pieces(turn.text))
    for index, call in enumerate(turn.calls):
        yield chat_chunk({"tool_calls": [{"index": index, **_call(call.id, call.tool.name, "")}]})
        for piece in pieces(call.arguments):
            yield chat_chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chat_chunk({}, finish=_finish(turn))
    if usage:
        yield chat_chunk(usage=USAGE)


def _finish(turn: Turn) -> str:
    return "tool_calls" if turn.calls else "stop"


def _call(id: str, name: str, arguments: str) -> dict[str, object]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def refusal(message: str) -> Reply:
    return json_reply({"error": {"message": message, "type": "invalid_request_error"}}, status=400)
