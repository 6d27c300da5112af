"""Whole messages as Chat answers."""

from typing import Any

import pytest
from hypothesis import given

from proxy.core.entities import Usage
from proxy.dialects.messages_chat_answer import chat_from_message, chat_usage, usage_of
from tests.support.messages import json_values

Fields = dict[str, Any]


def translated(**message: object) -> Fields:
    return chat_from_message(message, id="chatcmpl-1", model="m", created=1700000000)


def spoken(*blocks: object) -> Fields:
    message: Fields = translated(content=list(blocks))["choices"][0]["message"]
    return message


def test_everything_at_once() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "Let "},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "text", "text": "me see."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"city": "Ulm"}},
        {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
    ]
    usage = {"input_tokens": 50, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 10}
    usage |= {"output_tokens": 50, "output_tokens_details": {"thinking_tokens": 20}}  # type: ignore[dict-item]
    assert translated(content=content, stop_reason="tool_use", usage=usage) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Let me see.",
                    "refusal": None,
                    "reasoning_content": "hm",
                    "thinking_blocks": [
                        {"type": "thinking", "thinking": "hm", "signature": "sig"},
                        {"type": "redacted_thinking", "data": "x"},
                    ],
                    "tool_calls": [
                        {
                            "id": "toolu_1",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"city":"Ulm"}'},
                        },
                        {"id": "toolu_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                    ],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
    }


def test_without_text() -> None:
    assert spoken()["content"] == ""
    assert spoken({"type": "tool_use", "id": "t", "name": "f", "input": {}})["content"] is None


def test_unsigned_thoughts_are_not_kept() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    assert "thinking_blocks" not in spoken(thought, {"type": "redacted_thinking"})


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("odd", "stop"),
        (None, "stop"),
    ],
)
def test_finish_reasons(stop: str | None, finish: str) -> None:
    assert translated(stop_reason=stop)["choices"][0]["finish_reason"] == finish


def test_calls_without_a_stop_reason() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f"}
    assert translated(content=[call])["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 1}, {"input_tokens": -1, "output_tokens": 1}])
def test_usage_that_was_not_reported_is_left_out(usage: object) -> None:
    assert usage_of(usage) is None
    assert "usage" not in translated(usage=usage)


def test_usage_without_reasoning() -> None:
    assert chat_usage(Usage(input_tokens=1, output_tokens=2)) == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    }


@given(json_values)
def test_whatever_a_provider_answers_is_an_answer(value: Any) -> None:
    kinds = ("text", "thinking", "redacted_thinking", "tool_use", value)
    members = dict.fromkeys(["text", "thinking", "signature", "data", "id", "name", "input"], value)
    message = spoken(value, *({"type": kind, **members} for kind in kinds))
    assert message["role"] == "assistant"
    assert translated(content=value, stop_reason=value, usage=value)["choices"]
