"""What translations leave in a conversation, taken out before it goes to who would not know it.

A conversation that changes routes comes to providers that speak its dialect themselves. Anthropic
refuses thoughts without its signature, and OpenAI reasoning that it did not encrypt.
docs/dialects.md, "When the route changes"
"""

import re
from typing import Any

import msgspec

from proxy.core import jsonbody
from proxy.dialects.responses_reasoning import PREFIX

_UNSIGNED = re.compile(rb'"signature": ?""')
_SEALED = PREFIX.encode()


def without(members: jsonbody.Members, endpoint: str, model: str) -> dict[str, msgspec.Raw]:
    """Return the members of a native request that change; mostly none. Raises BadRequest."""
    if endpoint == "responses" and _SEALED in bytes(members.get("input", b"")):
        items = jsonbody.value_member(members, "input")
        if isinstance(items, list):
            return _raw("input", [item for item in items if not _is_sealed(item)])
    # Elsewhere an empty signature may be the provider's own.
    if (
        endpoint.startswith("messages")
        and "claude" in model
        and _UNSIGNED.search(bytes(members.get("messages", b"")))
    ):
        messages = jsonbody.value_member(members, "messages")
        if isinstance(messages, list):
            return _raw("messages", [said for said in map(_signed, messages) if said is not None])
    return {}


def _raw(name: str, value: object) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value))}


def _is_sealed(item: Any) -> bool:
    content = item.get("encrypted_content") if isinstance(item, dict) else None
    return isinstance(content, str) and content.startswith(PREFIX)


def _signed(message: Any) -> Any:
    """Return a message without unsigned thoughts, None if it held nothing else."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    kept = [block for block in content if not _is_unsigned(block)]
    if len(kept) == len(content):
        return message
    return {**message, "content": kept} if kept else None


def _is_unsigned(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "thinking" and not block.get("signature")
