"""A whole Chat answer as a response. docs/dialects.md, "Responses over Chat" """

from typing import Any

from proxy.core.entities import Usage
from proxy.core.metering import UsageMeter
from proxy.dialects import chat_reading
from proxy.dialects.responses_context import Ids, ResponsesContext
from proxy.dialects.responses_items import (
    COMPLETED,
    REFUSAL,
    TEXT,
    CallIds,
    CallItem,
    Item,
    Part,
    TextItem,
    reasoning_kind,
)
from proxy.dialects.responses_object import ResponseWriter, absorb_usage, state_after, usage_of

Fields = dict[str, Any]


def response_from_chat(
    answer: Fields,
    context: ResponsesContext,
    *,
    ids: Ids,
    created_at: int,
    model: str,
    usage: Usage | None = None,
) -> Fields:
    """Return the response for a Chat answer; what cannot be read in it is left out.

    `created_at` is in Unix seconds; `model` is the name that the client asked for; `usage` is what
    was metered, by default what the answer reports. Members that repeat the request are raw JSON.
    """
    writer = ResponseWriter(context, id=ids("resp"), created_at=created_at, model=model)
    choice = chat_reading.first_choice(answer) or {}
    message = choice.get("message")
    output = _output(message if isinstance(message, dict) else {}, context, ids)
    state = state_after(choice.get("finish_reason"))
    for item in output:
        item.status = COMPLETED
    output[-1].status = state.status  # what cut the answer off cut off its last item
    if usage is None:
        meter = UsageMeter()
        absorb_usage(meter, answer)
        usage = usage_of(meter)
    return writer.write(state, output, usage)


def _output(message: Fields, context: ResponsesContext, ids: Ids) -> list[Item]:
    """Return reasoning, message and calls, in this order; an answer without any is an empty message."""
    output: list[Item] = []
    if reasoning := chat_reading.reasoning_of(message):
        output.append(TextItem("reasoning", [Part(reasoning_kind(context), reasoning)], context, ids))
    texts = (TEXT, chat_reading.content_of(message)), (REFUSAL, chat_reading.refusal_of(message))
    parts = [Part(kind, text) for kind, text in texts if text]
    calls = _calls(message, context, ids)
    if parts or not (output or calls):
        output.append(TextItem("message", parts or [Part(TEXT)], context, ids))
    return [*output, *calls]


def _calls(message: Fields, context: ResponsesContext, ids: Ids) -> list[CallItem]:
    call_ids = CallIds(ids)
    calls = []
    for call in chat_reading.calls_of(message):
        if call.name:
            item = CallItem(context.tool(call.name), call_ids.unique(call.id), ids)
            item.add(call.arguments)
            item.finish()
            calls.append(item)
    return calls
