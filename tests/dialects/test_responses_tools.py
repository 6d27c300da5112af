"""Tools of Responses as functions of Chat, and choices among them."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import BadRequest
from proxy.dialects.responses_context import ResponsesContext, Tool
from proxy.dialects.responses_tools import OfferedTools
from proxy.dialects.traits import ChatTraits

Fields = dict[str, Any]


def offered(*tools: Fields, dropped: Counter[str] | None = None, **traits: Any) -> OfferedTools:
    return OfferedTools(list(tools), ChatTraits(**traits), Counter() if dropped is None else dropped)


def function(name: str, **more: object) -> Fields:
    return {"type": "function", "name": name, **more}


def namespace(name: str, *tools: Fields) -> Fields:
    return {"type": "namespace", "name": name, "description": "x", "tools": list(tools)}


def names(tools: OfferedTools) -> list[str]:
    return [each["function"]["name"] for each in tools.functions]


SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
NOTHING = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("tool", "traits", "made"),
    [
        pytest.param(
            function("f", description="d", parameters=SCHEMA, strict=True, defer_loading=True),
            {},
            {"name": "f", "description": "d", "parameters": SCHEMA},
            id="a function",
        ),
        pytest.param(
            function("f", parameters=SCHEMA, strict=True),
            {"strict_tools": True},
            {"name": "f", "parameters": SCHEMA, "strict": True},
            id="strictly",
        ),
        pytest.param(
            function("f", description=None, parameters=None, strict=None),
            {"strict_tools": True},
            {"name": "f", "parameters": NOTHING},
            id="with nulls",
        ),
        pytest.param(
            {"type": "function", "function": {"name": "f", "parameters": SCHEMA}},
            {},
            {"name": "f", "parameters": SCHEMA},
            id="as in Chat",
        ),
    ],
)
def test_functions_are_nested(tool: Fields, traits: Fields, made: Fields) -> None:
    tools = offered(tool, **traits)
    assert tools.functions == [{"type": "function", "function": made}]
    assert tools.tools == {"f": Tool("f")}


@pytest.mark.parametrize(
    ("format", "told"),
    [
        (None, ""),
        ({"type": "text"}, ""),
        (
            {"type": "grammar", "syntax": "lark", "definition": "start: x"},
            "\n\nThe input must match this Lark grammar:\nstart: x",
        ),
        (
            {"type": "grammar", "syntax": "regex", "definition": "a+"},
            "\n\nThe input must match this regular expression:\na+",
        ),
    ],
)
def test_a_freeform_tool_is_a_function_with_one_text(format: object, told: str) -> None:
    tools = offered({"type": "custom", "name": "apply_patch", "description": "Edits.", "format": format})
    made = tools.functions[0]["function"]
    assert made["description"] == (
        f"Edits.\n\nPut the whole input into the string `input`, as plain text.{told}"
    )
    assert list(made["parameters"]["properties"]) == made["parameters"]["required"] == ["input"]
    assert tools.tools == {"apply_patch": Tool("apply_patch", custom=True)}


def test_tools_in_namespaces_get_joined_names() -> None:
    tools = offered(
        namespace(
            "crm", function("find"), {"type": "custom", "name": "note"}, {"type": "mcp"}, function("find")
        ),
        namespace("a.b", function("find")),
        function("find"),
        namespace("", function("plain")),
    )
    assert names(tools) == ["crm__find", "crm__note", "a_b__find", "find", "plain"]
    assert tools.tools["crm__find"] == Tool("find", "crm")
    assert tools.tools["crm__note"] == Tool("note", "crm", custom=True)
    assert tools.tools["a_b__find"] == Tool("find", "a.b")
    assert tools.function_name("a.b", "find") == "a_b__find"
    assert tools.function_name("gone", "find") == "gone__find"
    assert tools.function_name(None, "find") == tools.function_name(5, "find") == "find"


def test_joined_names_fit_and_give_way() -> None:
    long = "x" * 70
    tools = offered(
        namespace("a", function("b_c"), function(long)),
        namespace("a__b", function("c")),
        namespace("a", function("b__c")),
        function("a__b_c"),
    )
    made = names(tools)
    assert made[4] == "a__b_c"
    assert made[2] == "a__b__c"
    assert len(set(made)) == 5
    assert max(map(len, made)) == 64
    assert all(
        tools.function_name("a", name) == made[at] for at, name in ((0, "b_c"), (1, long), (3, "b__c"))
    )


def additional(*tools: Fields) -> Fields:
    return {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": list(tools)}


def test_items_of_the_input_offer_tools_too() -> None:
    dropped: Counter[str] = Counter()
    items = [
        {"role": "user", "content": "Hi"},
        additional(
            namespace("functions", {"type": "custom", "name": "exec"}, function("wait")),
            function("f", description="other"),
            {"type": "web_search"},
        ),
        additional(namespace("functions", function("wait"), function("more")), function("crm__find")),
    ]
    given = [function("f"), function("f"), namespace("crm", function("find"))]
    tools = OfferedTools(given, ChatTraits(), dropped, items=items)
    made = names(tools)
    assert made[0] == "f"
    assert made[1].startswith("crm__find_")  # since another has the name that it would get
    assert made[2:] == ["functions__exec", "functions__wait", "functions__more", "crm__find"]
    assert tools.functions[0]["function"] == {"name": "f", "parameters": NOTHING}
    assert tools.tools["functions__exec"] == Tool("exec", "functions", custom=True)
    assert tools.function_name("functions", "exec") == "functions__exec"
    assert dropped == {"tools.web_search": 1}
    assert tools.choose("auto") == "auto"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "additional_tools", "tools": 5}, "input[1].tools"),
        (additional({"type": "function"}), "input[1].tools[0].name"),
        (additional(namespace("a", {})), "input[1].tools[0].tools[0].type"),
    ],
)
def test_malformed_tools_of_the_input_are_refused(item: Fields, param: str) -> None:
    items = [{"role": "user", "content": "Hi"}, item]
    with pytest.raises(BadRequest) as caught:
        OfferedTools([], ChatTraits(), Counter(), items=items)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


def test_others_are_dropped_and_counted() -> None:
    dropped: Counter[str] = Counter()
    kinds = ["web_search", "web_search", "file_search", "mcp", "tool_search", "local_shell"]
    nested = namespace("a", {"type": "namespace", "name": "b", "tools": []})
    assert offered(*({"type": kind} for kind in kinds), nested, dropped=dropped).functions == []
    assert dropped == {
        "tools.web_search": 2,
        "tools.file_search": 1,
        "tools.mcp": 1,
        "tools.tool_search": 1,
        "tools.local_shell": 1,
        "tools.namespace": 1,
    }


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({}, "tools[0].type"),
        ({"type": "function"}, "tools[0].name"),
        ({"type": "function", "name": 5}, "tools[0].name"),
        (function("f", description=5), "tools[0].description"),
        ({"type": "namespace", "name": "a", "tools": {}}, "tools[0].tools"),
        ({"type": "namespace", "tools": []}, "tools[0].name"),
        (namespace("a", function("f"), {"type": "custom"}), "tools[0].tools[1].name"),
        (namespace("a", {"name": "x"}), "tools[0].tools[0].type"),
    ],
)
def test_malformed_tools_are_refused(tool: Fields, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        offered(tool)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


TOOLS = (
    function("f"),
    {"type": "custom", "name": "g"},
    namespace("crm", function("find"), function("note")),
    {"type": "web_search"},
)
ALL = ["f", "g", "crm__find", "crm__note"]


def forced(name: str) -> Fields:
    return {"type": "function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("choice", "made", "left"),
    [
        (None, None, ALL),
        ("auto", "auto", ALL),
        ("required", "required", ALL),
        ("none", "none", ALL),
        ({"type": "auto"}, "auto", ALL),
        ({"type": "required"}, "required", ALL),
        ({"type": "none"}, "none", ALL),
        ({"type": "function", "name": "f"}, forced("f"), ALL),
        ({"type": "function", "function": {"name": "f"}}, forced("f"), ALL),
        ({"type": "custom", "name": "g"}, forced("g"), ALL),
        ({"type": "function", "name": "find", "namespace": "crm"}, forced("crm__find"), ALL),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}, {"type": "mcp"}],
            },
            "auto",
            ["f"],
        ),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "namespace", "name": "crm"}]},
            "required",
            ["crm__find", "crm__note"],
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "find", "namespace": "crm"}]},
            "auto",
            ["crm__find"],
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}, None, []),
    ],
)
def test_choices(choice: object, made: object, left: list[str]) -> None:
    tools = offered(*TOOLS)
    assert tools.choose(choice) == made
    assert names(tools) == left


@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "auto"}])
def test_without_tools_there_is_no_choice(choice: object) -> None:
    assert offered({"type": "web_search"}).choose(choice) is None


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        (TOOLS, {"type": "web_search"}, "tool_choice"),
        (TOOLS, {"type": "mcp", "server_label": "x"}, "tool_choice"),
        (({"type": "web_search"},), "required", "tool_choice"),
        ((), {"type": "required"}, "tool_choice"),
        ((), {"type": "function", "name": "f"}, "tool_choice"),
        (TOOLS, {"type": "allowed_tools", "mode": "required", "tools": []}, "tool_choice"),
        (TOOLS, {"type": "allowed_tools", "tools": [{"name": "f"}]}, "tool_choice.mode"),
        (TOOLS, {"type": "allowed_tools", "mode": "auto", "tools": "f"}, "tool_choice.tools"),
        (TOOLS, {"type": "function"}, "tool_choice.name"),
        (TOOLS, {}, "tool_choice.type"),
        (TOOLS, 5, "tool_choice"),
    ],
)
def test_what_cannot_be_forced_is_refused(tools: tuple[Fields, ...], choice: object, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        offered(*tools).choose(choice)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


NAMES = st.text(alphabet="ab_.", min_size=1, max_size=3) | st.just("x" * 64)


@given(
    plain=st.lists(NAMES, max_size=3, unique=True),
    spaces=st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=3)), max_size=3),
)
def test_every_function_leads_back_to_its_tool(plain: list[str], spaces: list[tuple[str, list[str]]]) -> None:
    tools = offered(
        *map(function, plain), *(namespace(space, *map(function, inner)) for space, inner in spaces)
    )
    context = ResponsesContext(tools=tools.tools)
    wanted = {(None, name) for name in plain} | {(space, name) for space, inner in spaces for name in inner}
    assert len(names(tools)) == len(set(names(tools))) == len(wanted)
    for space, name in wanted:
        called = tools.function_name(space, name)
        assert called in names(tools)
        assert context.tool(called) == Tool(name, space)
    assert context.tool("made up") == Tool("made up")
