"""OpenAI's Responses, as a provider of the strict kind reads and answers them."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.clients.programs.turns import Call, Tool, Turn, pieces
from tests.support.replies import Reply, event_frame, json_reply, sse

PATH = "/responses"
USAGE = {
    "input_tokens": 40,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 52,
}

#: Members of the other dialects, which have no business here.
_FOREIGN = {
    *("messages", "system", "stop_sequences", "thinking", "output_config", "context_management"),
    *("max_tokens", "max_completion_tokens", "stop", "response_format", "reasoning_effort", "n"),
}
_CALLS = ("function_call", "custom_tool_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def tools(body: Mapping[str, Any]) -> list[Tool]:
    """Return what can be called; Codex offers tools in the input, too."""
    offers = [body, *(item for item in _items(body) if item.get("type") == "additional_tools")]
    return [found for offer in offers for tool in offer.get("tools", []) for found in _callable(tool)]


def _callable(tool: Mapping[str, Any]) -> list[Tool]:
    if tool["type"] == "namespace":
        return [Tool(inner["name"], tool["name"]) for inner in tool["tools"]]
    return [Tool(tool["name"])] if tool["type"] in ("function", "custom") else []


def results(body: Mapping[str, Any]) -> str:
    outputs = [item["output"] for item in _items(body) if item.get("type") in _OUTPUTS]
    return "\n".join(
        output if isinstance(output, str) else "\n".join(part.get("text", "") for part in output)
        for output in outputs
    )


def _items(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = body["input"]
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def faults(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a strict provider would refuse."""
    if foreign := _FOREIGN & body.keys():
        yield f"members of another dialect: {', '.join(sorted(foreign))}"
    for tool in tools(body):
        if not _NAME.fullmatch(tool.name):
            yield f"the tool's name {tool.name}"
    if len(set(tools(body))) < len(tools(body)):
        yield "two tools of one name"
    calls: set[str] = set()
    answered: set[str] = set()
    for place, item in enumerate(_items(body)):
        kind = item.get("type", "message")
        if kind == "message" and item.get("role") not in ("user", "assistant", "system", "developer"):
            yield f"input[{place}] has the role {item.get('role')!r}"
        elif kind in _CALLS:
            calls.add(item["call_id"])
            if kind == "function_call" and not isinstance(json.loads(item["arguments"]), dict):
                yield f"input[{place}] has arguments that are no object"
        elif kind in _OUTPUTS:
            if item["call_id"] not in calls - answered:
                yield f"input[{place}] answers {item['call_id']}, which nobody called"
            answered.add(item["call_id"])
    if not _items(body):
        yield "no input"
    if missing := calls - answered:
        yield f"no results of {', '.join(sorted(missing))}"


def reply(body: Mapping[str, Any], turn: Turn) -> Reply:
    """Say a turn, in one piece or as a stream."""
    items = [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": turn.thought}],
            "encrypted_content": "c2VjcmV0",
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": turn.text, "annotations": [], "logprobs": []}],
        },
    ]
    items += [_call(call) for call in turn.calls]
    response = {**_empty(body), "status": "completed", "output": items, "usage": USAGE}
    if not body.get("stream"):
        return json_reply(response)
    numbered = ({**event, "sequence_number": place} for place, event in enumerate(_events(response)))
    return sse(*(event_frame(event) for event in numbered))


def _call(call: Call) -> dict[str, Any]:
    item = {"id": f"item_{call.id}", "call_id": call.id, "name": call.tool.name, "status": "completed"}
    if call.tool.namespace is not None:
        item["namespace"] = call.tool.namespace
    if isinstance(call.input, str):
        return {"type": "custom_tool_call", **item, "input": call.input}
    return {"type": "function_call", **item, "arguments": call.arguments}


def _empty(body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "metadata": {},
        "store": False,
        "usage": None,
    }


def _events(response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response["output"]):
        empty = {"summary": [], "content": [], "arguments": "", "input": "", "status": "in_progress"}
        added = {key: empty.get(key, value) for key, value in item.items()}
        yield {"type": "response.output_item.added", "output_index": index, "item": added}
        for event in _item_events(item):
            yield {"item_id": item["id"], "output_index": index, **event}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": response}


def _item_events(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if item["type"] == "function_call":
        for piece in pieces(item["arguments"]):
            yield {"type": "response.function_call_arguments.delta", "delta": piece}
        done = {"name": item["name"], "arguments": item["arguments"]}
        yield {"type": "response.function_call_arguments.done", **done}
    elif item["type"] == "custom_tool_call":
        for piece in pieces(item["input"]):
            yield {"type": "response.custom_tool_call_input.delta", "delta": piece}
        yield {"type": "response.custom_tool_call_input.done", "input": item["input"]}
    elif item["type"] == "reasoning":
        yield from _part_events(
            item["summary"][0], "reasoning_summary_part", "reasoning_summary_text", "summary"
        )
    else:
        yield from _part_events(item["content"][0], "content_part", "output_text", "content")


def _part_events(part: Mapping[str, Any], name: str, text: str, index: str) -> Iterator[dict[str, Any]]:
    place = {f"{index}_index": 0}
    extra: dict[str, Any] = {"logprobs": []} if text == "output_text" else {}
    yield {"type": f"response.{name}.added", **place, "part": {**part, "text": ""}}
    for piece in pieces(part["text"]):
        yield {"type": f"response.{text}.delta", **place, "delta": piece, **extra}
    yield {"type": f"response.{text}.done", **place, "text": part["text"], **extra}
    yield {"type": f"response.{name}.done", **place, "part": part}


def refusal(message: str) -> Reply:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return json_reply({"error": error}, status=400)
