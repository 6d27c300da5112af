"""How the chunks of a chat stream say that the answer is over."""

from enum import Enum, auto

# Finish reasons by which some providers say that generation failed.
_FAILED = ("error", "network_error")


class Ending(Enum):
    """What the finish reasons of a chunk say."""

    NONE = auto()
    COMPLETE = auto()
    FAILED = auto()


def ending_of(choices: object) -> Ending:
    """Return what the choices of a chunk say; any finish reason that is not null is an end, "" too."""
    found = Ending.NONE
    for choice in choices if isinstance(choices, list) else ():
        reason = choice.get("finish_reason") if isinstance(choice, dict) else None
        if reason in _FAILED:
            return Ending.FAILED
        if reason is not None:
            found = Ending.COMPLETE
    return found
