"""Responses through the openai SDK: whole, and by the stream helper."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
from openai.types.responses import Response

TOOL = {
    "type": "function",
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
request: dict[str, Any] = {"model": os.environ["MODEL"], "tools": [TOOL], "store": False}


def whole(items: list[Any]) -> Response:
    response: Response = client.responses.create(input=items, **request)
    return response


def helper(items: list[Any]) -> Response:
    with client.responses.stream(input=items, **request) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert "".join(deltas) == response.output_text
    return response


def converse(ask: Callable[[list[Any]], Response]) -> str:
    items: list[Any] = [{"role": "user", "content": os.environ["PROMPT"]}]
    while True:
        response = ask(items)
        assert response.usage
        assert response.usage.total_tokens == 52
        items += [item.to_dict() for item in response.output]
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text
        for call in calls:
            output = Path(f"{json.loads(call.arguments)['name']}.txt").read_text()
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": output})


for ask in (whole, helper):
    sys.stdout.write(f"{ask.__name__}: {converse(ask)}\n")
