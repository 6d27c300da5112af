"""A Chat request as Messages: for clients of Chat whose model is served by Messages alone.

docs/dialects.md, "Chat over Messages"
"""

import itertools
import re
from collections import Counter
from typing import Any

from proxy.dialects.members import invalid
from proxy.dialects.messages_from_chat_blocks import (
    assistant_blocks,
    content_blocks,
    result_block,
    text_blocks,
)
from proxy.dialects.messages_from_chat_options import options_of
from proxy.dialects.messages_models import MessagesTraits
from proxy.dialects.messages_request import Translated
from proxy.dialects.messages_turns import Block, Turn, call_id, merged, paired, text_block

Fields = dict[str, Any]

# Text where Messages demands some and the client said none. It may not be blank.
_SOMETHING = "."
_CONTINUE = "Continue."

_READ = {
    "system": {"role", "content"},
    "developer": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "thinking_blocks"},
    "tool": {"role", "content", "tool_call_id"},
}


def messages_request(body: Fields, *, max_tokens_default: int, traits: MessagesTraits) -> Translated:
    """Return a Chat request as the Messages request that says the same to one model.

    `max_tokens_default` is sent where the client set no length, since Messages demands one. What
    Messages or the model has no place for is left out and counted.

    Raises:
        BadRequest: something has not the shape that Chat gives it, or the answer would make no
            sense without something that cannot be said: several choices, audio, files by id.
    """
    dropped: Counter[str] = Counter()
    system, turns = _read(body.get("messages"), traits, dropped)
    turns = _with_safe_ids(paired(merged(turns)))
    options, instructions = options_of(
        body,
        traits,
        dropped,
        max_tokens_default=max_tokens_default,
        thinking_begun=not _lacks_thinking(turns),
    )
    system += [text_block(instruction) for instruction in instructions]
    request: Fields = {"model": body.get("model"), **options}
    if system:
        request["system"] = [block.value for block in system]
    request["messages"] = [
        {"role": turn.role, "content": [block.value for block in turn.blocks]}
        for turn in _framed(turns, traits)
    ]
    return Translated(request, dropped)


def _read(messages: object, traits: MessagesTraits, dropped: Counter[str]) -> tuple[list[Block], list[Turn]]:
    """Return the blocks of the leading system messages, and the turns."""
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", "must be a list of at least one message")
    system: list[Block] = []
    turns: list[Turn] = []
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message, dict):
            raise invalid(where, "must be an object")
        role = message.get("role")
        if not isinstance(role, str) or role not in _READ:
            raise invalid(f"{where}.role", f"must be one of {', '.join(_READ)}")
        dropped.update(
            f"messages.{name[:64]}" for name in message.keys() - _READ[role] if message[name] is not None
        )
        match role:
            case "user":
                turns.append(Turn("user", content_blocks(message, where)))
            case "assistant":
                turns.append(Turn("assistant", assistant_blocks(message, where)))
            case "tool":
                turns.append(Turn("user", [result_block(message, where)]))
            case _ if turns:
                late = "system" if traits.late_system else "user"
                turns.append(Turn(late, text_blocks(message, where)))
            case _:
                system += text_blocks(message, where)
    return system, turns


def _with_safe_ids(turns: list[Turn]) -> list[Turn]:
    """Give the calls ids that Messages takes: no two alike, of letters, digits, `_` and `-`."""
    taken: set[str] = set()
    numbers = itertools.count()
    for turn, following in itertools.pairwise(turns):
        calls = [block for block in turn.blocks if block.kind == "tool_use"]
        for call, result in zip(calls, following.blocks, strict=False):  # results come first, in this order
            base = re.sub(r"[^a-zA-Z0-9_-]", "_", call_id(call)) or "call"
            id = base
            while id in taken:
                id = f"{base}_{next(numbers)}"
            taken.add(id)
            call.value["id"] = result.value["tool_use_id"] = id
    return turns


def _lacks_thinking(turns: list[Turn]) -> bool:
    """Return whether the model is in the midst of calling tools without the thoughts it had before.

    Models that think within a budget refuse that, so that they cannot think in such a turn.
    """
    if len(turns) < 2 or all(block.kind != "tool_result" for block in turns[-1].blocks):
        return False
    return turns[-2].blocks[0].kind not in ("thinking", "redacted_thinking")


def _framed(turns: list[Turn], traits: MessagesTraits) -> list[Turn]:
    """Return the turns with the beginning and the end that Messages demands."""
    if not turns or turns[0].role != "user":
        turns = [Turn("user", [text_block(_SOMETHING)]), *turns]
    if turns[-1].role == "assistant":
        if not traits.prefill:
            return [*turns, Turn("user", [text_block(_CONTINUE)])]
        last = turns[-1].blocks[-1].value  # text, since results follow a call
        last["text"] = last["text"].rstrip()  # whitespace at its end is refused
    return turns
