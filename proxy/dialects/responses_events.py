"""A Chat stream as the events of a response. docs/dialects.md, "Responses over Chat"

A state machine without I/O: chunks in, frames out. Clients check it closely: one id for the
response and one for each item from the first event to the last, `sequence_number` without a gap,
no item that never comes to be. A delta costs what its own length costs, however long the answer is.
"""

from typing import Any

import msgspec

from proxy.core.entities import Usage
from proxy.core.metering import UsageMeter
from proxy.dialects import chat_reading
from proxy.dialects.chat_calls import StreamedCall, StreamedCalls
from proxy.dialects.chat_reading import CallPiece
from proxy.dialects.responses_context import Ids, ResponsesContext
from proxy.dialects.responses_frames import Frames
from proxy.dialects.responses_items import (
    COMPLETED,
    IN_PROGRESS,
    INCOMPLETE,
    REFUSAL,
    TEXT,
    CallIds,
    CallItem,
    Item,
    Part,
    PartKind,
    TextItem,
    reasoning_kind,
)
from proxy.dialects.responses_object import BEGUN, ResponseWriter, State, absorb_usage, state_after, usage_of

Fields = dict[str, Any]


class ResponseEvents:
    """Translates one stream. Whatever it returns first begins with the beginning of the response.

    Items stand in the order in which they begin. Reasoning and messages end when the next item
    begins; calls end at the end, since the pieces of several may alternate. From the first call on
    nothing ends before the end, so that items end in their order, too.
    """

    def __init__(self, context: ResponsesContext, *, ids: Ids, created_at: int, model: str) -> None:
        """`created_at` is in Unix seconds; `model` is the name that the client asked for."""
        self._context = context
        self._ids = ids
        self._writer = ResponseWriter(context, id=ids("resp"), created_at=created_at, model=model)
        self._meter = UsageMeter()
        self._frames = Frames()
        self._first: msgspec.Raw | None = None  # the response as it begins
        self._ended = False
        self._finish_reason: object = None
        self._items: list[Item] = []
        self._part: Part | None = None  # the one that is being written,
        self._text: TextItem | None = None  # and its item
        self._reasoning_kind = reasoning_kind(context)
        self._calls = StreamedCalls()
        self._call_items: dict[StreamedCall, CallItem] = {}
        self._call_ids = CallIds(ids)

    @property
    def call_ids(self) -> list[str]:
        """The ids of the calls that the client has been told of."""
        return [item.call_id for item in self._call_items.values()]

    def feed(self, chunk: Fields) -> bytes:
        """Return the events for one chunk; what cannot be read in it is left out."""
        if self._ended:
            return b""
        absorb_usage(self._meter, chunk)
        out = self._begin()
        choice = chat_reading.first_choice(chunk)
        if choice is None:
            return out
        if choice.get("finish_reason") is not None:
            self._finish_reason = choice["finish_reason"]
        delta = choice.get("delta") or (None if self._items else choice.get("message"))
        return out + self._read(delta) if isinstance(delta, dict) else out

    def ending(self, usage: Usage | None = None) -> bytes:
        """Return the ends of all items and of the response; afterwards nothing comes any more.

        `usage` is what was metered, by default what the chunks have reported.
        """
        if self._ended:
            return b""
        out = [self._begin(), self._begin_calls()]
        out += [self._extend(item, call.rest()) for call, item in self._call_items.items()]
        if not self._items:
            out.append(self._begin_part(Part(TEXT)))  # an answer without anything is an empty message
        state = state_after(self._finish_reason)
        for item in self._items:
            if item.status == IN_PROGRESS:
                # What cut the answer off cut off its last item.
                status = state.status if item is self._items[-1] else COMPLETED
                out.append(self._frames.end(item, status))
        return b"".join(out) + self._end(state, usage)

    def fail(self, code: str, message: str, **details: object) -> bytes:
        """Return the end of a response that failed, with what there is of it; nothing comes afterwards.

        `details` are further members of its error.
        """
        if self._ended:
            return b""
        out = self._begin()
        for item in self._items:
            if item.status == IN_PROGRESS:
                item.status = INCOMPLETE
        error = {"code": code, "message": message, **details}
        return out + self._end(State("failed", error=error), None)

    def keep_alive(self) -> bytes:
        """Return an event that changes nothing: some clients count the time between events, not bytes."""
        if self._ended:
            return b""
        return self._begin() or self._frames.event("response.in_progress", response=self._first)

    def _begin(self) -> bytes:
        if self._first is not None:
            return b""
        self._first = msgspec.Raw(msgspec.json.encode(self._writer.write(BEGUN, [], None)))
        created = self._frames.event("response.created", response=self._first)
        return created + self._frames.event("response.in_progress", response=self._first)

    def _end(self, state: State, usage: Usage | None) -> bytes:
        self._ended = True
        usage = usage_of(self._meter) if usage is None else usage
        response = self._writer.write(state, self._items, usage)
        return self._frames.event(f"response.{state.status}", response=response)

    def _read(self, delta: Fields) -> bytes:
        out = b""
        if reasoning := chat_reading.reasoning_of(delta):
            out = self._write(self._reasoning_kind, reasoning)
        if content := chat_reading.content_of(delta):
            out += self._write(TEXT, content)
        if refusal := chat_reading.refusal_of(delta):
            out += self._write(REFUSAL, refusal)
        for piece in chat_reading.calls_of(delta):
            out += self._call(piece)
        return out

    def _write(self, kind: PartKind, text: str) -> bytes:
        part, out = self._part, b""
        if part is None or part.kind is not kind:
            part = Part(kind)
            out = self._begin_part(part)
        part.pieces.append(text)
        return out + self._frames.delta(part.delta_head, text)

    def _begin_part(self, part: Part) -> bytes:
        """Begin a text, and an item for it unless it goes into the one that is being written."""
        if self._text is not None and self._text.type == part.kind.item:
            out = self._frames.end_part(self._text)
        else:
            out = self._leave_text()
            self._text = TextItem(part.kind.item, [], self._context, self._ids)
            out += self._begin_item(self._text)
        self._part = part
        return out + self._frames.begin_part(self._text, part)

    def _leave_text(self) -> bytes:
        text, self._text, self._part = self._text, None, None
        if text is None or self._call_items:
            return b""
        return self._frames.end(text, COMPLETED)

    def _begin_item(self, item: Item) -> bytes:
        item.index = len(self._items)
        self._items.append(item)
        return self._frames.begin(item)

    def _call(self, piece: CallPiece) -> bytes:
        call, arguments = self._calls.add(piece)
        item = self._call_items.get(call)
        if item is not None:
            return self._extend(item, arguments)
        return self._begin_calls() if call.ready else b""

    def _begin_calls(self) -> bytes:
        """Begin all calls that have a name: when the newest has arguments, the others do without."""
        named = [call for call in self._calls.all if call.name and call not in self._call_items]
        return b"".join(map(self._begin_call, named))

    def _begin_call(self, call: StreamedCall) -> bytes:
        out = self._leave_text()
        item = CallItem(self._context.tool(call.name), self._call_ids.unique(call.id), self._ids)
        self._call_items[call] = item
        return out + self._begin_item(item) + self._extend(item, call.settled)

    def _extend(self, item: CallItem, arguments: str) -> bytes:
        delta = item.add(arguments) if arguments else ""
        return self._frames.delta(item.delta_head, delta) if delta else b""
