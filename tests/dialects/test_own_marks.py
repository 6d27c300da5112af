"""Marks of earlier translations never reach who would not know them."""

import json
from typing import Any

import msgspec
import pytest

from proxy.dialects.own_marks import without
from proxy.dialects.responses_reasoning import sealed

OURS = {"type": "thinking", "thinking": "hm", "signature": ""}
THEIRS = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
TEXT = {"type": "text", "text": "Hi"}


def left(endpoint: str, model: str, **body: Any) -> dict[str, Any]:
    members = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}
    return {name: json.loads(bytes(value)) for name, value in without(members, endpoint, model).items()}


def said(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


@pytest.mark.parametrize("endpoint", ["messages", "messages/count_tokens"])
def test_unsigned_thoughts_go_and_signed_ones_stay(endpoint: str) -> None:
    messages = [{"role": "user", "content": "Hi"}, said(OURS, TEXT), said(THEIRS, TEXT), said(OURS)]
    expected = [messages[0], said(TEXT), messages[2]]
    assert left(endpoint, "claude-opus-5", messages=messages) == {"messages": expected}


def test_sealed_reasoning_goes() -> None:
    ours = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed("hm")}
    theirs = {**ours, "encrypted_content": "gAAAA"}
    message = {"type": "message", "role": "user", "content": "Hi"}
    assert left("responses", "gpt-6", input=[message, ours, theirs]) == {"input": [message, theirs]}


@pytest.mark.parametrize(
    ("endpoint", "model", "body"),
    [
        ("messages", "claude-opus-5", {"messages": [said(THEIRS, TEXT)]}),
        ("messages", "glm-5", {"messages": [said(OURS, TEXT)]}),
        ("messages", "claude-opus-5", {"messages": '"signature":""'}),
        ("responses", "gpt-6", {"input": sealed("what is this?")}),
        ("responses", "gpt-6", {}),
        ("chat/completions", "claude-opus-5", {"messages": [said(OURS, TEXT)]}),
    ],
)
def test_all_else_stays_as_it_was_sent(endpoint: str, model: str, body: dict[str, Any]) -> None:
    assert left(endpoint, model, **body) == {}
