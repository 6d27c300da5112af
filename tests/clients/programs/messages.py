"""Anthropic's Messages, as a provider of the strict kind reads and answers them."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.clients.programs.turns import Tool, Turn, pieces
from tests.support.replies import Reply, event_frame, json_reply, sse

PATH = "/v1/messages"
USAGE = {
    "input_tokens": 32,
    "output_tokens": 12,
    "cache_read_input_tokens": 8,
    "cache_creation_input_tokens": 0,
}

#: Members of the other dialects, which have no business here.
_FOREIGN = {
    *("stop", "n", "user", "response_format", "stream_options", "max_completion_tokens", "reasoning_effort"),
    *("parallel_tool_calls", "frequency_penalty", "presence_penalty", "logit_bias", "seed", "store"),
    *("input", "instructions", "include", "max_output_tokens", "reasoning", "client_metadata"),
}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


def tools(body: Mapping[str, Any]) -> list[Tool]:
    return [Tool(tool["name"]) for tool in body.get("tools", [])]


def results(body: Mapping[str, Any]) -> str:
    found = [block for message in body["messages"] for block in _blocks(message)]
    contents = [block.get("content", "") for block in found if block["type"] == "tool_result"]
    return "\n".join(
        content if isinstance(content, str) else "\n".join(block.get("text", "") for block in content)
        for content in contents
    )


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def faults(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a strict provider would refuse."""
    if foreign := _FOREIGN & body.keys():
        yield f"members of another dialect: {', '.join(sorted(foreign))}"
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        yield f"max_tokens is {body.get('max_tokens')!r}"
    if "tool_choice" in body and (not body.get("tools") or not isinstance(body["tool_choice"], dict)):
        yield f"tool_choice is {body['tool_choice']!r}"
    for tool in body.get("tools", []):
        custom = tool.get("type", "custom") == "custom"
        if not _NAME.fullmatch(tool.get("name", "")):
            yield f"a tool without a proper name: {json.dumps(tool)[:200]}"
        elif custom and tool.get("input_schema", {}).get("type") != "object":
            yield f"the input of {tool['name']} is no object"
    if len(set(tools(body))) < len(tools(body)):
        yield "two tools of one name"
    yield from _message_faults(body["messages"])


def _message_faults(messages: list[dict[str, Any]]) -> Iterator[str]:
    if not messages or messages[0]["role"] != "user":
        yield "the first message is not the user's"
    pending: set[str] = set()
    for place, message in enumerate(messages):
        here = f"messages[{place}]"
        if message.get("role") not in ("user", "assistant", "system"):
            yield f"{here} has the role {message.get('role')!r}"
            continue
        blocks = _blocks(message)
        if not blocks or any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            yield f"{here} has an empty content"
        answered = {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}
        if message["role"] != "system" and answered != pending:
            yield f"{here} has results of {sorted(answered)}, wanted are those of {sorted(pending)}"
        if answered and any(block["type"] != "tool_result" for block in blocks[: len(answered)]):
            yield f"{here} has results behind something else"
        uses = [block for block in blocks if block["type"] == "tool_use"]
        if any(not isinstance(use["input"], dict) for use in uses):
            yield f"{here} has an input that is no object"
        pending = {use["id"] for use in uses} if message["role"] != "system" else pending
    if pending:
        yield f"no results of {', '.join(sorted(pending))}"


def reply(body: Mapping[str, Any], turn: Turn) -> Reply:
    """Say a turn, in one piece or as a stream; thoughts only if the request wants them."""
    thinking = body.get("thinking", {}).get("type", "disabled") != "disabled"
    blocks: list[dict[str, Any]] = [{"type": "text", "text": turn.text}]
    if thinking:
        blocks.insert(0, {"type": "thinking", "thinking": turn.thought, "signature": "c2lnbmF0dXJl"})
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.tool.name, "input": call.object}
        for call in turn.calls
    ]
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": blocks,
        "stop_reason": "tool_use" if turn.calls else "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
    }
    if not body.get("stream"):
        return json_reply(message, headers={"request-id": "req_1"})
    return sse(*(event_frame(event) for event in _events(message))).with_headers(("request-id", "req_1"))


def _events(message: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    started = {**message, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
    yield {"type": "message_start", "message": started}
    for index, block in enumerate(message["content"]):
        empty = {"text": "", "thinking": "", "signature": "", "input": {}}
        begin = {key: empty.get(key, value) for key, value in block.items()}
        yield {"type": "content_block_start", "index": index, "content_block": begin}
        yield {"type": "ping"}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": USAGE["output_tokens"]}}
    yield {"type": "message_stop"}


def _deltas(block: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    if block["type"] == "text":
        yield from ({"type": "text_delta", "text": piece} for piece in pieces(block["text"]))
    elif block["type"] == "tool_use":
        for piece in pieces(json.dumps(block["input"])):
            yield {"type": "input_json_delta", "partial_json": piece}
    else:
        yield from ({"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"]))
        yield {"type": "signature_delta", "signature": block["signature"]}


def refusal(message: str) -> Reply:
    return json_reply(
        {"type": "error", "error": {"type": "invalid_request_error", "message": message}}, status=400
    )
