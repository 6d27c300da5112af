"""The output items of a response, filled at once or piece by piece. docs/dialects.md, "Responses over Chat"

Their JSON can be had at any time: for the event that begins an item, for the one that ends it, and
for the response.
"""

from dataclasses import dataclass
from typing import Any

from proxy.dialects.responses_context import Ids, ResponsesContext, Tool
from proxy.dialects.responses_freeform import FreeformInput
from proxy.dialects.responses_reasoning import sealed

Fields = dict[str, Any]

IN_PROGRESS = "in_progress"
COMPLETED = "completed"
INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True, eq=False)
class PartKind:
    """A kind of text: the item and its member that hold it, how it is written, its events' names."""

    item: str
    place: str
    type: str
    member: str
    text_event: str
    part_event: str
    annotated: bool = False

    @property
    def index(self) -> str:
        """The member of events that says which part of the item is meant."""
        return f"{self.place}_index"

    @property
    def event_members(self) -> Fields:
        """Further members of the events about the text."""
        return {"logprobs": []} if self.annotated else {}

    def as_json(self, text: str) -> Fields:
        more: Fields = {"annotations": [], "logprobs": []} if self.annotated else {}
        return {"type": self.type, self.member: text, **more}


_PART = "response.content_part"
TEXT = PartKind("message", "content", "output_text", "text", "response.output_text", _PART, annotated=True)
REFUSAL = PartKind("message", "content", "refusal", "refusal", "response.refusal", _PART)
THOUGHT = PartKind("reasoning", "content", "reasoning_text", "text", "response.reasoning_text", _PART)
SUMMARY = PartKind(
    *("reasoning", "summary", "summary_text", "text"),
    *("response.reasoning_summary_text", "response.reasoning_summary_part"),
)


class Part:
    """One text of an item, in the pieces in which it came."""

    __slots__ = ("delta_head", "kind", "pieces")

    def __init__(self, kind: PartKind, text: str = "") -> None:
        self.kind = kind
        self.pieces = [text] if text else []
        #: While it is streamed: how the events of its pieces begin.
        self.delta_head = b""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def as_json(self) -> Fields:
        return self.kind.as_json(self.text)


class TextItem:
    """A message or a reasoning item."""

    __slots__ = ("_encrypted", "id", "index", "parts", "status", "type")

    def __init__(self, type: str, parts: list[Part], context: ResponsesContext, ids: Ids) -> None:
        self.type = type
        self.id = ids("msg" if type == "message" else "rs")
        #: While it is streamed: its place in the output.
        self.index = 0
        self.status = IN_PROGRESS
        self.parts = parts
        self._encrypted = context.encrypted and type == "reasoning"

    def as_json(self) -> Fields:
        item: Fields = {"type": self.type, "id": self.id, "status": self.status}
        item |= {"role": "assistant", "content": []} if self.type == "message" else {"summary": []}
        for part in self.parts:
            item.setdefault(part.kind.place, []).append(part.as_json())
        if self._encrypted and self.status != IN_PROGRESS:
            item["encrypted_content"] = sealed("".join(part.text for part in self.parts))
        return item


class CallItem:
    """A call of one of the client's tools."""

    __slots__ = ("_freeform", "_pieces", "call_id", "delta_head", "id", "index", "status", "tool")

    def __init__(self, tool: Tool, call_id: str, ids: Ids) -> None:
        self.tool = tool
        self.id = ids("ctc" if tool.custom else "fc")
        self.call_id = call_id
        self.index = 0
        self.delta_head = b""
        self.status = IN_PROGRESS
        self._freeform = FreeformInput() if tool.custom else None
        self._pieces: list[str] = []

    @property
    def event(self) -> str:
        return "response.custom_tool_call_input" if self.tool.custom else "response.function_call_arguments"

    @property
    def member(self) -> str:
        return "input" if self.tool.custom else "arguments"

    @property
    def input(self) -> str:
        return "".join(self._pieces)

    def add(self, arguments: str) -> str:
        """Take a piece of the arguments; return what it adds to the input that the client sees."""
        delta = self._freeform.feed(arguments) if self._freeform else arguments
        self._pieces.append(delta)
        return delta

    def finish(self) -> str:
        """Take note that no more comes; return what that adds."""
        if self._freeform:
            delta = self._freeform.finish()
        else:
            delta = "" if self.input.strip() else "{}"  # a call without arguments, which clients parse
        self._pieces.append(delta)
        return delta

    def as_json(self) -> Fields:
        item: Fields = {
            "type": "custom_tool_call" if self.tool.custom else "function_call",
            "id": self.id,
            "status": self.status,
            "call_id": self.call_id,
            "name": self.tool.name,
            self.member: self.input,
        }
        if self.tool.namespace:
            item["namespace"] = self.tool.namespace
        return item


Item = TextItem | CallItem


class CallIds:
    """Gives each call of an answer an id of its own: some providers send none, or one for all."""

    __slots__ = ("_ids", "_used")

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._used: set[str] = set()

    def unique(self, id: str) -> str:
        if not id or id in self._used:
            id = self._ids("call")
        self._used.add(id)
        return id


def reasoning_kind(context: ResponsesContext) -> PartKind:
    """Return as what the client wants to be told the reasoning."""
    return SUMMARY if context.summaries else THOUGHT
