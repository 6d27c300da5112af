"""The conversation of a Responses request as Chat messages. docs/dialects.md, "Responses over Chat"

Responses has an item for each message, call, output and thought, in any grouping. Chat wants turns:
one assistant message with all that the model said and called, and right after it the output of
each call, in the order of the calls.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from proxy.core.errors import BadRequest
from proxy.dialects import members
from proxy.dialects.members import Fields
from proxy.dialects.responses_content import as_json, message_content, output_content
from proxy.dialects.responses_reasoning import unsealed
from proxy.dialects.responses_tools import ADDITIONAL_TOOLS, OfferedTools
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
    instructions: list[str],
    items: list[Fields],
    tools: OfferedTools,
    traits: ChatTraits,
    dropped: Counter[str],
) -> list[Fields]:
    """Return the messages for the instructions and the input of a request.

    Items that Chat has no place for are counted in `dropped`. Raises BadRequest for what must not
    be left out in silence.
    """
    conversation = _Conversation(instructions, items, tools, traits, dropped)
    for position, item in enumerate(items):
        conversation.add(position, item)
    return conversation.finish()


class _Conversation:
    """Goes through the items, and closes a turn of the model's when somebody else speaks."""

    def __init__(
        self,
        instructions: list[str],
        items: list[Fields],
        tools: OfferedTools,
        traits: ChatTraits,
        dropped: Counter[str],
    ) -> None:
        self._instructions = list(instructions)
        self._items = items
        self._tools = tools
        self._traits = traits
        self._dropped = dropped
        self._messages: list[Fields] = []
        self._turn = _Turn()
        self._outputs = _outputs_of_calls(items)
        self._answers = set(self._outputs.values())
        self._awaiting: dict[int, _Turn] = {}  # by the place of the output, the turn that called for it

    def add(self, position: int, item: Fields) -> None:
        param = f"input[{position}]"
        kind = _kind(item, position)
        if kind == "message":
            self._add_message(item, param)
        elif kind == "reasoning":
            self._turn.reasoning.append(_reasoning_text(item))
        elif kind in _CALLS:
            self._add_call(kind, position, item, param)
        elif kind in _OUTPUTS:
            self._add_output(position)
        elif kind == "item_reference":
            raise stored(param)
        elif kind != ADDITIONAL_TOOLS:  # those are offered with the others
            self._dropped[f"input.{kind[:64]}"] += 1

    def finish(self) -> list[Fields]:
        self._end_turn()
        content = "\n\n".join(self._instructions)
        return [{"role": "system", "content": content}, *self._messages] if content else self._messages

    def _end_turn(self) -> None:
        """Write the model's turn, if it did anything, and what its calls brought."""
        turn, self._turn = self._turn, _Turn()
        if not turn.texts and not turn.calls:
            return
        message: Fields = {"role": "assistant", "content": "\n\n".join(turn.texts)}
        if self._traits.replays_reasoning and (turn.calls or any(turn.reasoning)):
            # Providers that want it back with the calls refuse its absence even when there was none.
            message["reasoning_content"] = "\n\n".join(filter(None, turn.reasoning))
        self._messages.append(message)
        if turn.calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = turn.calls
            self._add_outputs(turn)

    def _add_message(self, item: Fields, param: str) -> None:
        role = item.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise members.unknown(role, f"{param}.role", "user, assistant, system and developer")
        content = message_content(item.get("content"), f"{param}.content", files=self._traits.files)
        if role == "assistant":
            self._turn.texts += _texts(content)
            return
        self._end_turn()
        if role == "user":
            self._messages.append({"role": role, "content": content})
        else:
            self._add_instructions(role, content)

    def _add_instructions(self, role: str, content: str | list[Fields]) -> None:
        """Add a developer's message: where only the first may be the system's, a later one is the user's."""
        if self._traits.developer_role or self._traits.late_system:
            role = role if self._traits.developer_role else "system"
            self._messages.append({"role": role, "content": content})
        elif isinstance(content, str) and not self._messages:
            self._instructions.append(content)
        else:
            self._messages.append({"role": "user", "content": content})

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
                **self._traits.call_extras,
            }
        )
        output = self._outputs.get(position)
        self._turn.outputs.append(output)
        if output is not None:
            self._awaiting[output] = self._turn

    def _add_outputs(self, turn: _Turn) -> None:
        media = []
        for call, position in zip(turn.calls, turn.outputs, strict=True):
            text = _ABORTED
            if position is not None:
                text, more = self._output(position)
                media += more
            self._messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
        if media:
            self._messages.append({"role": "user", "content": media})

    def _add_output(self, position: int) -> None:
        """End the turn that made the call, which writes the output; one without a call is the user's."""
        if self._awaiting.get(position) is self._turn:
            self._end_turn()
        elif position not in self._answers:
            self._end_turn()
            text, media = self._output(position)
            text = f"Output of an earlier tool call:\n{text}"
            content = [{"type": "text", "text": text}, *media] if media else text
            self._messages.append({"role": "user", "content": content})

    def _output(self, position: int) -> tuple[str, list[Fields]]:
        output = self._items[position].get("output")
        return output_content(output, f"input[{position}].output", files=self._traits.files)


def stored(param: str) -> BadRequest:
    """Return the error for what only somebody who keeps conversations could know."""
    return BadRequest(
        "previous_response_not_supported",
        f"{param!r} refers to something stored, and nothing is stored here: "
        "send the whole conversation in 'input', with 'store': false.",
        param=param,
    )


def _outputs_of_calls(items: list[Fields]) -> dict[int, int]:
    """Return the place of each call's output, by the place of the call.

    Calls of the same id get the outputs of that id in their order.
    """
    calls: dict[str, list[int]] = defaultdict(list)
    outputs: dict[str, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        kind = _kind(item, position)
        if kind in _CALLS:
            calls[_call_id(item)].append(position)
        elif kind in _OUTPUTS:
            outputs[_call_id(item)].append(position)
    return {call: output for id in calls for call, output in zip(calls[id], outputs[id], strict=False)}


def _kind(item: Fields, position: int) -> str:
    """Return an item's type; messages may do without, and so may references."""
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else "item_reference" if "id" in item else None
    return members.text(kind, f"input[{position}].type")


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
