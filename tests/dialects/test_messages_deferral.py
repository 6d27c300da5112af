"""Which tools of a Messages request are hidden until a search finds them."""

from typing import Any

import pytest

from proxy.dialects.messages_deferral import hidden_tools
from proxy.dialects.messages_to_chat import chat_request
from proxy.dialects.traits import ChatTraits

Fields = dict[str, Any]


def tool(name: object, **members: object) -> Fields:
    return {"name": name, "input_schema": {"type": "object", "properties": {}}, **members}


def deferred(name: object, **members: object) -> Fields:
    return tool(name, defer_loading=True, **members)


def called(name: str) -> Fields:
    return {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": {}}],
    }


def answered(name: str, *found: object) -> Fields:
    return {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": f"toolu_{name}", "content": list(found)}],
    }


def reference(name: object) -> Fields:
    return {"type": "tool_reference", "tool_name": name}


HI = {"role": "user", "content": "hi"}
SEARCH = tool("ToolSearch")
TOOLS = [SEARCH, deferred("WebFetch"), deferred("Notebook")]
BOTH = {"WebFetch", "Notebook"}
SERVERS_SEARCH = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
FOUND_BY_SERVERS = {
    "type": "tool_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": {"type": "tool_search_tool_search_result", "tool_references": [reference("WebFetch")]},
}


@pytest.mark.parametrize(
    ("body", "hidden"),
    [
        pytest.param({"tools": TOOLS, "messages": [HI]}, BOTH, id="before any search"),
        pytest.param(
            {
                "tools": TOOLS,
                "messages": [HI, called("ToolSearch"), answered("ToolSearch", reference("WebFetch"))],
            },
            {"Notebook"},
            id="one found",
        ),
        pytest.param(
            {"tools": TOOLS, "messages": [{"role": "assistant", "content": [FOUND_BY_SERVERS]}]},
            {"Notebook"},
            id="found by Anthropic's servers before",
        ),
        pytest.param({"tools": TOOLS, "messages": [HI, called("Notebook")]}, {"WebFetch"}, id="called"),
        pytest.param(
            {"tools": TOOLS, "messages": [HI], "tool_choice": {"type": "tool", "name": "WebFetch"}},
            {"Notebook"},
            id="to be called",
        ),
        pytest.param(
            {"tools": [*TOOLS, SERVERS_SEARCH], "messages": [HI]}, set(), id="a search that is not here"
        ),
        pytest.param({"tools": TOOLS[1:], "messages": [HI]}, set(), id="all of them"),
        pytest.param(
            {"tools": [*TOOLS[1:], {"type": "web_search_20250305", "name": "web_search"}]},
            set(),
            id="all that can be offered",
        ),
        pytest.param({"tools": [tool("a"), tool("b", defer_loading=False)]}, set(), id="none is deferred"),
        pytest.param({"tools": [tool("a"), deferred("b", type="custom")]}, {"b"}, id="of its type"),
        pytest.param({}, set(), id="no tools"),
        pytest.param({"tools": [tool("a"), deferred(["b"]), "x"]}, set(), id="malformed tools"),
        pytest.param(
            {
                "tools": TOOLS,
                "tool_choice": "auto",
                "messages": [
                    *(
                        "x",
                        {"role": "user"},
                        {"content": ["x", {"type": ["tool_use"]}, {"type": "tool_result"}]},
                    ),
                    *(
                        answered("x", "x", reference(["WebFetch"])),
                        {"content": [FOUND_BY_SERVERS | {"content": "x"}]},
                    ),
                ],
            },
            BOTH,
            id="malformed messages",
        ),
    ],
)
def test_hidden_tools(body: Fields, hidden: set[str]) -> None:
    assert hidden_tools(body) == hidden


def test_what_is_found_is_offered_and_told() -> None:
    found = answered("ToolSearch", reference("WebFetch"), reference("Notebook"))
    first = {"model": "m", "tools": [*TOOLS, deferred("Other")], "messages": [HI]}
    second = first | {"messages": [HI, called("ToolSearch"), found]}
    before, after = (chat_request(body, ChatTraits()) for body in (first, second))
    assert [each["function"]["name"] for each in before.body["tools"]] == ["ToolSearch"]
    assert before.dropped == {"tools.deferred": 3}
    assert [each["function"]["name"] for each in after.body["tools"]] == [
        "ToolSearch",
        "WebFetch",
        "Notebook",
    ]
    assert after.dropped == {"tools.deferred": 1}
    assert after.body["messages"][-1]["content"] == "Loaded the tool WebFetch.\nLoaded the tool Notebook."


def test_a_forced_tool_is_offered() -> None:
    choice = {"type": "tool", "name": "WebFetch"}
    request = chat_request(
        {"model": "m", "tools": TOOLS, "messages": [HI], "tool_choice": choice}, ChatTraits()
    )
    assert request.body["tool_choice"] == {"type": "function", "function": {"name": "WebFetch"}}
