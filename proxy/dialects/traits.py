"""What a Chat provider takes beyond, or short of, what any OpenAI-compatible server takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ChatTraits:
    """How to write a Chat request for one provider; the defaults suit an unknown server.

    Source: docs/providers.md, "Peculiarities"
    """

    #: How reasoning is asked for: none | reasoning_effort | thinking_type | enable_thinking.
    reasoning_switch: str = "none"
    #: The assistant's `reasoning_content` must come back with its tool calls.
    replays_reasoning: bool = False
    #: Knows the role `developer`; the others know it as `system`.
    developer_role: bool = False
    #: max_tokens | max_completion_tokens
    length_field: str = "max_tokens"
    #: Takes `parallel_tool_calls`.
    parallel_tool_calls: bool = True
    #: Takes `strict` on tools.
    strict_tools: bool = False
    #: Takes what only OpenAI's own API has: `prompt_cache_key`, `service_tier`, `verbosity` and their like.
    openai_fields: bool = False
    #: The efforts that it knows; any other is sent as the next one up.
    efforts: tuple[str, ...] = ("low", "medium", "high")
    #: Takes `temperature` and `top_p`.
    sampling: bool = True
    #: Takes `top_k`.
    top_k: bool = False
    #: How many stop sequences it takes.
    max_stops: int = 4
    #: Takes system messages other than the first; elsewhere they become the user's text.
    late_system: bool = False
    #: Honours `cache_control` on parts of content.
    keeps_cache_control: bool = False
    #: Takes PDF files as parts of content.
    files: bool = False
    #: Takes `response_format` of type `json_schema`; the others are told the schema.
    json_schema: bool = True
    #: How a tool call is demanded: required | any; None where it cannot be.
    tool_choice_required: str | None = "required"
    #: The member by which a last message of the assistant is continued: prefix | partial; None: it cannot be.
    prefill_field: str | None = None
    #: Where the end user's id goes: user | user_id; None where nowhere.
    user_field: str | None = "user"
    #: Members that every tool call of the history needs: a thought signature, at Gemini.
    call_extras: Mapping[str, object] = field(default_factory=dict)


def reasoning_members(traits: ChatTraits, effort: str) -> dict[str, object]:
    """Return the members by which the provider is asked to reason with this effort.

    `effort` is OpenAI's: none, minimal, low, medium, high and whatever comes to be added. Providers
    that can only switch reasoning on or off take `none` and `minimal` for off.
    """
    thinks = effort not in ("none", "minimal")
    match traits.reasoning_switch:
        case "reasoning_effort":
            return {"reasoning_effort": effort}
        case "thinking_type":
            return {"thinking": {"type": "enabled" if thinks else "disabled"}}
        case "enable_thinking":
            return {"enable_thinking": thinks}
    return {}
