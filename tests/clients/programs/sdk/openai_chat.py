"""Chat Completions through the openai SDK: whole, by the stream helper, and by the idiom of all samples."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai

Message = dict[str, Any]

TOOL = {
    "name": "read_half",
    "description": "Reads one half of the token.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": ["first", "second"]}},
        "required": ["name"],
        "additionalProperties": False,
    },
}
client = openai.OpenAI(max_retries=0)
request: dict[str, Any] = {"model": os.environ["MODEL"], "tools": [{"type": "function", "function": TOOL}]}


def whole(messages: list[Any]) -> Message:
    answer = client.chat.completions.create(messages=messages, **request)
    assert answer.usage.total_tokens == 52
    message: Message = answer.choices[0].message.to_dict()
    return message


def helper(messages: list[Any]) -> Message:
    with client.chat.completions.stream(messages=messages, **request) as stream:
        stream.until_done()
    return stream.get_final_completion().choices[0].message.to_dict()


def idiom(messages: list[Any]) -> Message:
    message: Message = {"role": "assistant", "content": ""}
    for chunk in client.chat.completions.create(messages=messages, stream=True, **request):
        delta = chunk.choices[0].delta
        message["content"] += delta.content or ""
        for part in delta.tool_calls or []:
            calls = message.setdefault("tool_calls", [])
            if part.index == len(calls):
                function = {"name": part.function.name, "arguments": ""}
                calls.append({"id": part.id, "type": "function", "function": function})
            calls[part.index]["function"]["arguments"] += part.function.arguments or ""
    return message


def converse(ask: Callable[[list[Any]], Message]) -> str:
    messages: list[Any] = [{"role": "user", "content": os.environ["PROMPT"]}]
    while True:
        message = ask(messages)
        if not message.get("tool_calls"):
            return str(message["content"])
        messages.append(message)
        for call in message["tool_calls"]:
            half = json.loads(call["function"]["arguments"])["name"]
            result = Path(f"{half}.txt").read_text()
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


for ask in (whole, helper, idiom):
    sys.stdout.write(f"{ask.__name__}: {converse(ask)}\n")
