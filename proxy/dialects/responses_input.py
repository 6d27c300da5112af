"""The conversation of a Responses request as Chat messages. docs/dialects.md, "The conversation"

Responses has an item for each message, call, output and thought, in any grouping. Chat wants turns:
one assistant message with all that the model said and called, and right after it the output of
each call, in the order of the calls.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from proxy.core.errors import BadRequest
from proxy.dialects import responses_members as members
from proxy.dialects.responses_content import as_json, message_content, output_content
from proxy.dialects.responses_members import Fields
from proxy.dialects.responses_reasoning import unsealed
from proxy.dialects.responses_tools import OfferedTools
from proxy.dialects.traits import ChatTraits

# Calls of tools that OpenAI's models have built in: their names, and the members that are their arguments.
_BUILT_IN_CALLS = {
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
}
_CALLS = frozenset({"function_call", "custom_tool_call", *_BUILT_IN_CALLS})
_OUTPUTS = frozenset(f"{call}_output" for call in _CALLS)
_ROLES = frozenset({"user", "assistant", "system", "developer"})

# Said for a call that was never answered: clients that are interrupted leave such calls, and
# providers refuse them.
_ABORTED = "aborted"


@dataclass(slots=True)
class _Turn:
    """What the model said and called without anybody else speaking in between."""

    reasoning: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: list[Fields] = field(default_factory=list)
    outputs: list[int | None] = field(default_factory=list)  # of each call, the place of its output


def chat_messages(
    instructions: str, items: list[Fields], tools: OfferedTools, traits: ChatTraits, dropped: Counter[str]
) -> list[Fields]:
    """Return the messages for the instructions and input of a request.

    Items that Chat has no place for are counted in `dropped`. Raises BadRequest for what must not
    be left out in silence.
    """
    conversation = _Conversation(items, tools, traits, dropped)
    if instructions:
        conversation.messages.append({"role": "system", "content": instructions})
    for position, item in enumerate(items):
        conversation.add(position, item)
    conversation.end_turn()
    return conversation.messages


class _Conversation:
    """Goes through the items, and closes a turn of the model's when somebody else speaks."""

    def __init__(
        self, items: list[Fields], tools: OfferedTools, traits: ChatTraits, dropped: Counter[str]
    ) -> None:
        self.messages: list[Fields] = []
        self._items = items
        self._tools = tools
        self._traits = traits
        self._dropped = dropped
        self._turn = _Turn()
        self._outputs, self._orphans = _paired(items)

    def add(self, position: int, item: Fields) -> None:
        param = f"input[{position}]"
        kind = item.get("type")
        if kind == "message" or (kind is None and "role" in item):
            self._add_message(item, param)
        elif kind == "reasoning":
            self._turn.reasoning.append(_reasoning_text(item))
        elif kind in _CALLS:
            self._add_call(kind, position, item, param)
        elif kind in _OUTPUTS:
            self._add_output(position, item, param)
        elif kind == "item_reference" or (kind is None and "id" in item):
            raise BadRequest(
                "previous_response_not_supported",
                f"{param!r} refers to a stored item, and nothing is stored here: "
                "send the whole conversation in 'input', with 'store': false.",
                param=param,
            )
        else:
            self._dropped[f"input.{members.text(kind, param + '.type')}"] += 1

    def end_turn(self) -> None:
        """Write the model's turn, if it did anything, and what its calls brought."""
        turn, self._turn = self._turn, _Turn()
        if not turn.texts and not turn.calls:
            return
        message: Fields = {"role": "assistant", "content": "\n\n".join(turn.texts)}
        if self._traits.replays_reasoning and (turn.calls or any(turn.reasoning)):
            # Providers that want it back with the calls refuse its absence even when there was none.
            message["reasoning_content"] = "\n\n".join(filter(None, turn.reasoning))
        self.messages.append(message)
        if turn.calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = turn.calls
            self._add_outputs(turn)

    def _add_message(self, item: Fields, param: str) -> None:
        role = item.get("role")
        if role not in _ROLES:
            raise members.unknown(role, f"{param}.role", "user, assistant, system and developer")
        if role == "assistant":
            self._turn.texts += _texts(message_content(item.get("content"), f"{param}.content"))
            return
        self.end_turn()
        if role == "developer" and not self._traits.developer_role:
            role = "system"
        self.messages.append(
            {"role": role, "content": message_content(item.get("content"), f"{param}.content")}
        )

    def _add_call(self, kind: str, position: int, item: Fields, param: str) -> None:
        if kind in _BUILT_IN_CALLS:
            name, member = _BUILT_IN_CALLS[kind]
            arguments = as_json(item.get(member), param)
        else:
            name = members.text(item.get("name"), f"{param}.name")
            if kind == "custom_tool_call":
                text = members.optional_text(item.get("input"), f"{param}.input")
                arguments = as_json({"input": text}, param)
            else:
                arguments = members.optional_text(item.get("arguments"), f"{param}.arguments") or "{}"
        name = self._tools.function_name(item.get("namespace"), name)
        self._turn.calls.append(
            {
                "id": _call_id(item) or f"call_{position}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )
        self._turn.outputs.append(self._outputs.get(position))

    def _add_outputs(self, turn: _Turn) -> None:
        media = []
        for call, position in zip(turn.calls, turn.outputs, strict=True):
            text = _ABORTED
            if position is not None:
                text, more = output_content(self._items[position].get("output"), f"input[{position}].output")
                media += more
            self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
        if media:
            self.messages.append({"role": "user", "content": media})

    def _add_output(self, position: int, item: Fields, param: str) -> None:
        """Close the turn; its outputs follow it by themselves, one without a call becomes the user's."""
        self.end_turn()
        if position in self._orphans:
            text, media = output_content(item.get("output"), f"{param}.output")
            text = f"Output of an earlier tool call:\n{text}"
            content = [{"type": "text", "text": text}, *media] if media else text
            self.messages.append({"role": "user", "content": content})


def _paired(items: list[Fields]) -> tuple[dict[int, int], set[int]]:
    """Return the place of each call's output, by the place of the call, and the outputs of no call.

    Calls of the same id get their outputs in their order.
    """
    calls: dict[str, list[int]] = defaultdict(list)
    outputs: dict[str, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        kind = item.get("type")
        if kind in _CALLS:
            calls[_call_id(item)].append(position)
        elif kind in _OUTPUTS:
            outputs[_call_id(item)].append(position)
    paired = {
        call: output for id in calls for call, output in zip(calls[id], outputs.get(id, ()), strict=False)
    }
    return paired, {output for places in outputs.values() for output in places}.difference(paired.values())


def _call_id(item: Fields) -> str:
    """Return the id that joins calls and outputs; local shells have it under another name."""
    id = item.get("call_id") or item.get("id")
    return id if isinstance(id, str) else ""


def _texts(content: str | list[Fields]) -> list[str]:
    """Return the text of what the model has said; Chat takes nothing else from it."""
    if isinstance(content, list):
        content = "\n".join(part["text"] for part in content if part["type"] == "text")
    return [content] if content else []


def _reasoning_text(item: Fields) -> str:
    """Return what a reasoning item tells: the text itself, else its summary, else what we sealed."""
    for member in ("content", "summary"):
        parts = item.get(member)
        texts = (
            [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        )
        if text := "\n\n".join(text for text in texts if isinstance(text, str)):
            return text
    return unsealed(item.get("encrypted_content"))
