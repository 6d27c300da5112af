"""What the way back from Chat needs to know of the request. docs/dialects.md, "Responses over Chat" """

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

#: Makes a new id of the kind that its prefix names: resp, msg, rs, fc, ctc, call.
Ids = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Tool:
    """What a function that was offered upstream is to the client.

    `custom`: a freeform tool, whose input is text and not JSON.
    """

    name: str
    namespace: str | None = None
    custom: bool = False


@dataclass(frozen=True, slots=True)
class ResponsesContext:
    """`echo`: members of every response that repeat the request, as JSON.

    `tools`: by the name of the function upstream. `summaries`: reasoning is told as summaries,
    else as it is. `encrypted`: reasoning items carry `encrypted_content`.
    """

    echo: Mapping[str, msgspec.Raw] = field(default_factory=dict)
    tools: Mapping[str, Tool] = field(default_factory=dict)
    summaries: bool = False
    encrypted: bool = False

    def tool(self, function: str) -> Tool:
        """Return what a called function is to the client; models call some that were never offered."""
        return self.tools.get(function) or Tool(function)


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A Responses request as Chat: the body, and what there is to know besides.

    `dropped` counts what Chat, or this provider, has no place for: "max_tool_calls",
    "tools.web_search", "input.compaction". Names of unknown things are the client's own text.
    """

    chat: dict[str, Any]
    dropped: Mapping[str, int]
    context: ResponsesContext
