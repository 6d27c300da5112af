"""What a model behind Messages takes, as its name tells. docs/dialects.md, "Chat over Messages" """

import re
from dataclasses import dataclass

# claude-opus-4-6, claude-sonnet-4-20250514, claude-3-7-sonnet-latest, anthropic/claude-haiku-4.5
_CLAUDE = re.compile(r"claude-(?:[a-z]+-)?(?:(\d{1,2})(?:[-.](\d{1,2})(?!\d))?)?")


@dataclass(frozen=True, slots=True)
class MessagesTraits:
    """How to write a Messages request for one model; the defaults suit an unknown host of Messages."""

    #: How thinking is asked for: none | budget | adaptive.
    thinking: str = "budget"
    #: The efforts that a model with adaptive thinking knows.
    efforts: tuple[str, ...] = ("low", "medium", "high", "max")
    #: Takes `temperature`, `top_p` and `top_k`.
    sampling: bool = True
    #: Continues a last message of the assistant; the others refuse one.
    prefill: bool = True
    #: Takes `output_config.format` and strict tools; the others are told the schema.
    json_schema: bool = False
    #: Takes system messages in the midst of a conversation; elsewhere they become the user's text.
    late_system: bool = False


def messages_traits(model: str) -> MessagesTraits:
    """Return the traits of a Claude model by its version; those of other models are the defaults."""
    match = _CLAUDE.search(model)
    if match is None:
        return MessagesTraits()
    # A name without a version is that of something new.
    version = (int(match[1]), int(match[2] or 0)) if match[1] else (99, 0)
    if version < (4, 6):
        thinking = "budget" if version >= (3, 7) else "none"
        return MessagesTraits(thinking=thinking, json_schema=version >= (4, 5))
    if version < (4, 7):
        return MessagesTraits(thinking="adaptive", prefill=False, json_schema=True)
    return MessagesTraits(
        thinking="adaptive",
        efforts=("low", "medium", "high", "xhigh", "max"),
        sampling=False,
        prefill=False,
        json_schema=True,
    )
