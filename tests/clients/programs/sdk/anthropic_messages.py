"""Messages through the anthropic SDK: whole, by the stream helper, and a count of tokens."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
from anthropic.types import Message

TOOL = {
    "name": "read_half",
    "description": "Reads one half of the token.",
    "input_schema": {
        "type": "object",
        "properties": {"name": {"type": "string", "enum": ["first", "second"]}},
        "required": ["name"],
    },
}
client = anthropic.Anthropic(max_retries=0)
request: dict[str, Any] = {"model": os.environ["MODEL"], "tools": [TOOL], "system": "Be brief."}


def whole(messages: list[Any]) -> Message:
    message: Message = client.messages.create(messages=messages, max_tokens=1000, **request)
    return message


def helper(messages: list[Any]) -> Message:
    with client.messages.stream(messages=messages, max_tokens=1000, **request) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert "".join(pieces) == "".join(block.text for block in message.content if block.type == "text")
    return message


def converse(ask: Callable[[list[Any]], Message]) -> str:
    messages: list[Any] = [{"role": "user", "content": os.environ["PROMPT"]}]
    while True:
        message = ask(messages)
        assert message.usage.output_tokens == 12
        messages.append({"role": "assistant", "content": message.content})
        calls = [block for block in message.content if block.type == "tool_use"]
        if not calls:
            return "".join(block.text for block in message.content if block.type == "text")
        results = [(call.id, Path(f"{call.input['name']}.txt").read_text()) for call in calls]
        content = [{"type": "tool_result", "tool_use_id": id, "content": text} for id, text in results]
        messages.append({"role": "user", "content": content})


for ask in (whole, helper):
    sys.stdout.write(f"{ask.__name__}: {converse(ask)}\n")
count = client.messages.count_tokens(messages=[{"role": "user", "content": os.environ["PROMPT"]}], **request)
assert count.input_tokens > 0
