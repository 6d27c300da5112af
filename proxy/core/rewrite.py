"""The few changes that a request body undergoes on its way to a provider; docs/api.md lists them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

# One internal value has three spellings: Chat's old and new one, and Responses'.
LENGTH_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")

_LEAST_BUDGET = 1024

_encode = msgspec.json.encode
_TRUE = msgspec.Raw(b"true")
_ASK_FOR_USAGE = msgspec.Raw(b'{"include_usage":true}')


@dataclass(frozen=True, slots=True)
class Overrides:
    """Configured changes to every request body; values are JSON of any depth, and whole members."""

    set: Mapping[str, object] = field(default_factory=dict)
    default: Mapping[str, object] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


def ask_for_usage(members: dict[str, msgspec.Raw]) -> None:
    """Set `stream_options.include_usage`, keeping the client's other stream options."""
    options = _object(members.get("stream_options"))
    if not options:
        members["stream_options"] = _ASK_FOR_USAGE
    else:
        options["include_usage"] = _TRUE
        members["stream_options"] = msgspec.Raw(_encode(options))


def wants_usage(members: Mapping[str, msgspec.Raw]) -> bool:
    """Return whether the client asked for the usage event of a stream."""
    options = _object(members.get("stream_options")) or {}
    return bytes(options.get("include_usage", b"")) == b"true"


def clamp_length(
    members: dict[str, msgspec.Raw],
    asked: Mapping[str, int],
    *,
    ceiling: int | None,
    fill: int | None,
    field: str,
) -> None:
    """Bound the length fields by `ceiling`; where the client sent none, set `field` to `fill`.

    `asked` holds the length fields that the client sent, already validated; None: no bound, no
    filling. A length is never invented unless a plan or key limits the output.
    """
    if ceiling is not None:
        for name, value in asked.items():
            if value > ceiling:
                members[name] = msgspec.Raw(b"%d" % ceiling)
    if not asked and fill is not None:
        members[field] = msgspec.Raw(b"%d" % fill)


def fit_thinking(members: dict[str, msgspec.Raw], max_tokens: int) -> None:
    """Lower a thinking budget that no longer fits; thinking goes where not even the least one does.

    Anthropic: `budget_tokens` is at least 1,024 and less than `max_tokens`.
    """
    thinking = _object(members.get("thinking")) or {}
    try:
        budget = msgspec.json.decode(thinking.get("budget_tokens", b"0"), type=int)
    except msgspec.MsgspecError:
        return  # the provider says what is wrong with it
    if budget < max_tokens:
        return
    if max_tokens <= _LEAST_BUDGET:
        del members["thinking"]
    else:
        thinking["budget_tokens"] = msgspec.Raw(b"%d" % max(_LEAST_BUDGET, max_tokens // 2))
        members["thinking"] = msgspec.Raw(_encode(thinking))


def apply_overrides(members: dict[str, msgspec.Raw], overrides: Overrides) -> None:
    """Apply the configured overrides of a provider or a route: remove, then default, then set."""
    for name in overrides.remove:
        members.pop(name, None)
    for name, value in overrides.default.items():
        if name not in members:
            members[name] = msgspec.Raw(_encode(value))
    for name, value in overrides.set.items():
        members[name] = msgspec.Raw(_encode(value))


def _object(raw: msgspec.Raw | None) -> dict[str, Any] | None:
    """Return a raw member as an object of raw members; None when absent or not an object."""
    if raw is None or bytes(raw)[:1] != b"{":
        return None
    return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
