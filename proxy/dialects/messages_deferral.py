"""Which tools of a Messages request the model is not to see yet. docs/dialects.md, "Deferred tools"

A tool with `defer_loading` is unknown to the model until a search has brought a reference to it.
Source: Anthropic, "Tool search tool"
"""

from proxy.dialects.members import Fields

# How the types of the tools begin by which Anthropic's servers search.
_SERVERS_SEARCH = "tool_search_tool"


def is_clients(tool: Fields) -> bool:
    """Whether a tool is one that the client defines and runs itself."""
    return tool.get("type") in (None, "custom")


def hidden_tools(body: Fields) -> set[str]:
    """Return the names of the deferred tools that no search of the client's has brought yet.

    There are none where hiding would be for ever: Anthropic's servers were to search, and here
    they do not, or there is no other tool that could.
    """
    tools = _objects(body.get("tools"))
    if any(str(tool.get("type")).startswith(_SERVERS_SEARCH) for tool in tools):
        return set()
    clients = [tool for tool in tools if is_clients(tool)]
    deferred = _names([tool for tool in clients if tool.get("defer_loading") is True], "name")
    hidden = deferred - _known(body) if deferred else deferred
    return hidden if hidden < _names(clients, "name") else set()


def _known(body: Fields) -> set[str]:
    """Return the names that a search brought, and those that were, or must be, called all the same."""
    choice = body.get("tool_choice")
    names = _names([choice], "name") if isinstance(choice, dict) else set()
    for message in _objects(body.get("messages")):
        for block in _objects(message.get("content")):
            match block:
                case {"type": "tool_use"}:
                    names |= _names([block], "name")
                case {"type": "tool_result", "content": found}:
                    names |= _names(_objects(found), "tool_name")
                case {"type": "tool_search_tool_result", "content": {"tool_references": found}}:
                    names |= _names(_objects(found), "tool_name")
    return names


def _names(values: list[Fields], member: str) -> set[str]:
    return {name for value in values if isinstance(name := value.get(member), str)}


def _objects(value: object) -> list[Fields]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
