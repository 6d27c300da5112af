"""The response object: its identity, its state, what it repeats of the request, its usage."""

from dataclasses import dataclass
from typing import Any

from proxy.core.entities import Usage
from proxy.core.metering import UsageMeter
from proxy.dialects.chat_reading import FILTER_REASONS, LENGTH_REASONS, reported_usage
from proxy.dialects.responses_context import ResponsesContext
from proxy.dialects.responses_items import COMPLETED, IN_PROGRESS, INCOMPLETE, Item

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class State:
    """The status of a response, and why it is not complete."""

    status: str
    incomplete_details: Fields | None = None
    error: Fields | None = None


BEGUN = State(IN_PROGRESS)


def state_after(finish_reason: object) -> State:
    """Return the last state of a response whose Chat answer ended for this reason."""
    reason = finish_reason if isinstance(finish_reason, str) else None
    if reason in LENGTH_REASONS:
        return State(INCOMPLETE, {"reason": "max_output_tokens"})
    if reason in FILTER_REASONS:
        return State(INCOMPLETE, {"reason": "content_filter"})
    return State(COMPLETED)


class ResponseWriter:
    """Writes one response as it is at different times."""

    __slots__ = ("_echo", "_identity")

    def __init__(self, context: ResponsesContext, *, id: str, created_at: int, model: str) -> None:
        self._identity = {"id": id, "object": "response", "created_at": created_at, "model": model}
        self._echo = context.echo

    def write(self, state: State, output: list[Item], usage: Usage | None) -> Fields:
        """Return the response object; the members that repeat the request are raw JSON."""
        return {
            **self._identity,
            "status": state.status,
            "error": state.error,
            "incomplete_details": state.incomplete_details,
            "output": [item.as_json() for item in output],
            "usage": None if usage is None else _usage(usage),
            **self._echo,
        }


def absorb_usage(meter: UsageMeter, body: Fields) -> None:
    """Read the usage that an answer or a chunk reports, if it does."""
    if (usage := reported_usage(body)) is not None:
        meter.absorb(usage)


def usage_of(meter: UsageMeter) -> Usage | None:
    """Return what was reported; a side of which nothing is known counts 0."""
    reported = meter.reported
    return None if reported is None else reported.completed(0, 0)


def _usage(usage: Usage) -> Fields:
    """Return usage as clients parse it: both details are there, and whole numbers."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
