"""The conversation of a Responses request as Chat messages. docs/dialects.md, "The conversation"

Responses has an item for each message, call, output and thought, in any grouping. Chat wants turns:
one assistant message with all that the model said and called, and right after it the output of
each call, in the order of the calls.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from proxy.dialects import responses_members as members
from proxy.dialects.responses_content import as_json, message_content, output_content
from proxy.dialects.responses_members import Fields
from proxy.dialects.responses_reasoning import unsealed
from proxy.dialects.responses_tools import OfferedTools
from proxy.dialects.traits import ChatTraits

#: What becomes a call of a function, and for tools built into OpenAI's models its name and arguments.
CALLS = {
    "function_call": None,
    "custom_tool_call": None,
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
}
OUTPUTS = frozenset(f"{call}_output" for call in CALLS)
_ROLES = ("user", "assistant", "system", "developer")

# The output of a call that was never answered: clients that are interrupted leave such, and no
# provider takes one.
_ABORTED = "aborted"


@dataclass(slots=True)
class _Turn:
    """What the model said and called without anybody else speaking in between."""

    reasoning: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    calls: list[Fields] = field(default_factory=list)
    outputs: list[tuple[object, str]] = field(default_factory=list)  # of the calls, and their places


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
