"""A Messages answer as a Chat answer. docs/dialects.md, "Chat over Messages" """

from typing import Any

from proxy.core.entities import Usage
from proxy.core.metering import UsageMeter
from proxy.dialects.messages_json import compact

Fields = dict[str, Any]

_FINISH_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def chat_from_message(message: Fields, *, id: str, model: str, created: int) -> Fields:
    """Return a whole message as a Chat answer.

    `id` is the answer's, `chatcmpl-…`; `model` the client's word; `created` is in Unix seconds.
    Usage that was not reported is left out. What has no known shape says nothing.
    """
    blocks = objects(message.get("content"))
    spoken: Fields = {"role": "assistant", "content": None, "refusal": None}
    calls = [_call(block) for block in blocks if block.get("type") == "tool_use"]
    text = "".join(text_of(block, "text") for block in blocks if block.get("type") == "text")
    if text or not calls:
        spoken["content"] = text
    if thoughts := "".join(text_of(block, "thinking") for block in blocks if block.get("type") == "thinking"):
        spoken["reasoning_content"] = thoughts
    if kept := [thought for block in blocks if (thought := kept_thought(block)) is not None]:
        spoken["thinking_blocks"] = kept
    if calls:
        spoken["tool_calls"] = calls
    finish = finish_reason(message.get("stop_reason"), has_calls=bool(calls))
    answer: Fields = {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": spoken, "logprobs": None, "finish_reason": finish}],
    }
    if usage := usage_of(message.get("usage")):
        answer["usage"] = usage
    return answer


def finish_reason(stop_reason: object, *, has_calls: bool) -> str:
    """Return the finish reason for a stop reason; an unknown one is an ordinary end."""
    if not isinstance(stop_reason, str):
        return "tool_calls" if has_calls else "stop"
    return _FINISH_REASONS.get(stop_reason, "stop")


def usage_of(usage: object) -> Fields | None:
    """Return Messages' usage as Chat's; None unless input and output were both reported."""
    meter = UsageMeter()
    meter.absorb(usage)
    reported = meter.reported
    return chat_usage(reported.completed(0, 0)) if reported is not None and reported.complete else None


def chat_usage(usage: Usage) -> Fields:
    members: Fields = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
    }
    if usage.reasoning_tokens:
        members["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return members


def kept_thought(block: Fields) -> Fields | None:
    """Return what a client must give back of a block of thinking: nothing without a signature."""
    if block.get("type") == "thinking" and text_of(block, "signature"):
        thinking, signature = text_of(block, "thinking"), block["signature"]
        return {"type": "thinking", "thinking": thinking, "signature": signature}
    if block.get("type") == "redacted_thinking" and text_of(block, "data"):
        return {"type": "redacted_thinking", "data": block["data"]}
    return None


def objects(value: object) -> list[Fields]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(fields: Fields, name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _call(block: Fields) -> Fields:
    given = block.get("input")
    function = {
        "name": text_of(block, "name"),
        "arguments": compact(given if isinstance(given, dict) else {}),
    }
    return {"id": text_of(block, "id"), "type": "function", "function": function}
