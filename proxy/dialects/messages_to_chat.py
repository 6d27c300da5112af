"""A Messages request as Chat: for clients of Messages whose model is served by Chat.

docs/dialects.md, "Messages over Chat"
"""

import hashlib
from collections import Counter
from typing import Any

from proxy.dialects.members import invalid
from proxy.dialects.messages_parts import PartWriter, blocks_of
from proxy.dialects.messages_request import Translated
from proxy.dialects.messages_to_chat_options import options_of
from proxy.dialects.messages_turns import Block, Turn, merged, paired
from proxy.dialects.traits import ChatTraits

Fields = dict[str, Any]


def chat_request(body: Fields, traits: ChatTraits) -> Translated:
    """Return a Messages request as the Chat request that says the same to one provider.

    What Chat or the provider has no place for is left out and counted. `stream_options` is not
    set: whether usage is asked for is the gateway's to decide.

    Raises:
        BadRequest: something has not the shape that Messages gives it, or the answer would make no
            sense without something that cannot be said.
    """
    writer = PartWriter(traits, Counter())
    options, instructions = options_of(body, traits, writer.dropped)
    messages = _system(body.get("system"), instructions, writer)
    turns = _turns(body.get("messages"), writer)
    for turn in paired(turns):
        messages += _messages(turn, writer)
    _mark_prefill(messages, writer)
    if all(message["role"] == "system" for message in messages):
        raise invalid("messages", "must hold at least one message of a user")
    chat: Fields = {"model": body.get("model"), "messages": messages, **options}
    if user := _user(body.get("metadata")):
        chat |= {traits.user_field: user} if traits.user_field else {}
    return Translated(chat, writer.dropped)


def _system(system: object, instructions: list[str], writer: PartWriter) -> list[Fields]:
    """Return the system message; `instructions` are what the provider must be told in words."""
    parts = [part for part in writer.parts(blocks_of(system, "system")) if part.get("text") != ""]
    parts += [{"type": "text", "text": instruction} for instruction in instructions]
    return [{"role": "system", "content": _content(parts)}] if parts else []


def _turns(messages: object, writer: PartWriter) -> list[Turn]:
    """Return the messages as turns, neighbours of one role made one as Messages does it."""
    if not isinstance(messages, list):
        raise invalid("messages", "must be a list")
    turns = []
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message, dict):
            raise invalid(where, "must be an object")
        role = message.get("role")
        if role not in ("user", "assistant", "system"):
            raise invalid(f"{where}.role", 'must be "user", "assistant" or "system"')
        if role == "system" and not writer.traits.late_system:
            role = "user"
        writer.dropped.update(f"messages.{name[:64]}" for name in message.keys() - {"role", "content"})
        turns.append(Turn(role, blocks_of(message.get("content"), f"{where}.content")))
    return merged(turns)


def _messages(turn: Turn, writer: PartWriter) -> list[Fields]:
    if turn.role == "assistant":
        return [_assistant(turn.blocks, writer)]
    tools: list[Fields] = []
    shown: list[Fields] = []
    said: list[Block] = []
    for block in turn.blocks:
        if block.kind == "tool_result":
            message, parts = writer.tool_message(block)
            tools.append(message)
            shown += parts
        else:
            said.append(block)
    parts = shown + writer.parts(said)
    if parts or not tools:
        tools.append({"role": turn.role, "content": _content(parts)})
    return tools


def _assistant(blocks: list[Block], writer: PartWriter) -> Fields:
    thoughts: list[str] = []
    texts: list[str] = []
    calls: list[Fields] = []
    for block in blocks:
        match block.kind:
            case "text":
                texts += [part["text"] for part in writer.parts([block])]
            case "tool_use":
                calls.append(writer.tool_call(block))
            case "thinking" if writer.traits.replays_reasoning:
                thoughts.append(writer.thinking(block))
            case _:
                writer.drop(block)
    text = "".join(texts)
    message: Fields = {"role": "assistant", "content": text if text or not calls else None}
    if thoughts or (calls and writer.traits.replays_reasoning):
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _content(parts: list[Fields]) -> str | list[Fields]:
    """Return parts as plain text where they are nothing else: some providers refuse lists."""
    if all(part["type"] == "text" and len(part) == 2 for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def _mark_prefill(messages: list[Fields], writer: PartWriter) -> None:
    """Have a last message of the assistant continued; where it cannot be, leave it out."""
    if not messages or messages[-1]["role"] != "assistant":
        return
    if writer.traits.prefill_field:
        messages[-1][writer.traits.prefill_field] = True
    else:
        messages.pop()
        writer.dropped["prefill"] += 1


def _user(metadata: object) -> str | None:
    """Return the end user's id, hashed: clients put accounts and sessions into it."""
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    return hashlib.sha256(user.encode()).hexdigest() if user and isinstance(user, str) else None
