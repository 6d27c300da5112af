"""A Chat stream as the events of a response. docs/dialects.md, "Responses: the stream"

A state machine without I/O: chunks in, frames out. Clients check it closely: one id for the
response and one for each item from the first event to the last, `sequence_number` without a gap,
no item that never comes to be. A delta costs what the delta is long, however long the answer.
"""

from typing import Any

import msgspec

from proxy.core.entities import Usage
from proxy.core.metering import UsageMeter
from proxy.dialects import chat_reading
from proxy.dialects.responses_calls import CallIds, StreamedCall, StreamedCalls
from proxy.dialects.responses_context import Ids, ResponsesContext
from proxy.dialects.responses_items import (
    COMPLETED,
    IN_PROGRESS,
    INCOMPLETE,
    REFUSAL,
    TEXT,
    CallItem,
    Item,
    Part,
    PartKind,
    TextItem,
    reasoning_kind,
)
from proxy.dialects.responses_object import BEGUN, ResponseWriter, State, absorb_usage, state_after, usage_of

Fields = dict[str, Any]

_encode = msgspec.json.Encoder().encode


class ResponseEvents:
    """Translates one stream. The first bytes that it returns, for whatever reason, begin the response.

    Items are written in the order in which they begin. Reasoning and messages end when the next item
    begins, calls at the end, since pieces of several may come in turns; from the first call on
    nothing ends before the end, so that items also end in their order.
    """

    def __init__(self, context: ResponsesContext, *, ids: Ids, created_at: int, model: str) -> None:
        """`created_at` is in Unix seconds; `model` is the name that the client asked for."""
        self._context = context
        self._ids = ids
        self._writer = ResponseWriter(context, id=ids("resp"), created_at=created_at, model=model)
        self._meter = UsageMeter()
        self._sequence = 0
        self._begun = False
        self._ended = False
        self._finish_reason: object = None
        self._reasoning_kind = reasoning_kind(context)
        self._items: list[Item] = []
        self._text: TextItem | None = None  # the one that is being written
        self._delta_head = b""  # of the part of it that is being written
        self._calls = StreamedCalls(context.tools)
        self._call_ids = CallIds(ids)
        self._call_items: dict[StreamedCall, tuple[CallItem, bytes]] = {}  # with the heads of their deltas
        self._has_deltas = False

    def feed(self, chunk: Fields) -> bytes:
        """Return the events for one chunk; what cannot be read in it is left out."""
        if self._ended:
            return b""
        absorb_usage(self._meter, chunk)
        out = b"" if self._begun else self._begin()
        choice = chat_reading.first_choice(chunk)
        if choice is None:
            return out
        if choice.get("finish_reason") is not None:
            self._finish_reason = choice["finish_reason"]
        delta = choice.get("delta")
        ...
