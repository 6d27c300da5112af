"""Conversations of Responses as Chat messages."""

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import BadRequest
from proxy.dialects.responses_input import chat_messages
from proxy.dialects.responses_reasoning import sealed
from proxy.dialects.responses_tools import OfferedTools
from proxy.dialects.traits import ChatTraits

Fields = dict[str, Any]


def messages_of(
    *items: Fields, instructions: str = "", tools: list[Fields] | None = None, **traits: Any
) -> list[Fields]:
    known = ChatTraits(**traits)
    offered = OfferedTools(tools or [], known, Counter())
    return chat_messages([instructions] if instructions else [], list(items), offered, known, Counter())


def user(text: str) -> Fields:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def said(text: str) -> Fields:
    return {
        "type": "message",
        "id": f"msg_{text}",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }


def call(id: str, name: str = "f", **more: object) -> Fields:
    return {"type": "function_call", "id": f"fc_{id}", "call_id": id, "name": name, "arguments": "{}", **more}


def output(id: str, value: object = None) -> Fields:
    return {"type": "function_call_output", "call_id": id, "output": f"out {id}" if value is None else value}


def thought(text: str) -> Fields:
    return {"type": "reasoning", "id": f"rs_{text}", "summary": [{"type": "summary_text", "text": text}]}


def outline(messages: list[Fields]) -> list[str]:
    """Return messages in short: `assistant text [calls]`, `tool id: text`."""
    lines = []
    for message in messages:
        line = f"{message['role']} {message.get('tool_call_id', '')}: {message['content']}".replace(" :", ":")
        if calls := message.get("tool_calls"):
            line += f" {[made['id'] for made in calls]}".replace("'", "")
        if "reasoning_content" in message:
            line += f" ({message['reasoning_content']})"
        lines.append(line)
    return lines


CONVERSATIONS = {
    "text and calls are one turn": (
        [user("Hi"), said("Sure"), call("a"), call("b"), output("a"), output("b"), said("Done")],
        ["user: Hi", "assistant: Sure [a, b]", "tool a: out a", "tool b: out b", "assistant: Done"],
    ),
    "an output between calls ends the turn": (
        [call("a"), output("a"), call("b"), output("b")],
        ["assistant: None [a]", "tool a: out a", "assistant: None [b]", "tool b: out b"],
    ),
    "outputs follow in the order of their calls": (
        [call("a"), call("b"), output("b"), output("a")],
        ["assistant: None [a, b]", "tool a: out a", "tool b: out b"],
    ),
    "outputs that come late": (
        [call("a"), user("Wait"), output("a")],
        ["assistant: None [a]", "tool a: out a", "user: Wait"],
    ),
    "an output that comes in a later turn": (
        [call("a"), user("Wait"), said("x"), output("a"), said("y")],
        ["assistant: None [a]", "tool a: out a", "user: Wait", "assistant: x\n\ny"],
    ),
    "an output before its call": (
        [said("x"), output("a"), call("a")],
        ["assistant: x [a]", "tool a: out a"],
    ),
    "a call without an output": (
        [call("a"), user("Stop")],
        ["assistant: None [a]", "tool a: aborted", "user: Stop"],
    ),
    "a call without an output at the end": (
        [call("a"), call("b"), output("b")],
        ["assistant: None [a, b]", "tool a: aborted", "tool b: out b"],
    ),
    "an output without a call": (
        [user("Hi"), output("a")],
        ["user: Hi", "user: Output of an earlier tool call:\nout a"],
    ),
    "more outputs than calls of an id": (
        [call("a"), output("a"), output("a", "again")],
        ["assistant: None [a]", "tool a: out a", "user: Output of an earlier tool call:\nagain"],
    ),
    "the same id in several turns": (
        [call("a"), output("a", "one"), call("a"), output("a", "two")],
        ["assistant: None [a]", "tool a: one", "assistant: None [a]", "tool a: two"],
    ),
    "text behind a call is of the same turn": (
        [call("a"), said("x"), output("a")],
        ["assistant: x [a]", "tool a: out a"],
    ),
    "several texts": (
        [said("a"), said("b"), user("c"), user("d")],
        ["assistant: a\n\nb", "user: c", "user: d"],
    ),
    "calls without an id": (
        [{**call(""), "id": None}, {**output(""), "call_id": None}],
        ["assistant: None [call_0]", "tool call_0: out "],
    ),
    "an empty message of the assistant": ([said(""), user("Hi")], ["user: Hi"]),
    "no content": ([{"role": "user", "content": None}], ["user: "]),
    "messages without a type": (
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
        ["user: Hi", "assistant: Ho"],
    ),
    "reasoning is not sent to all": (
        [thought("why"), call("a"), output("a")],
        ["assistant: None [a]", "tool a: out a"],
    ),
    "reasoning alone is no turn": ([user("Hi"), thought("why"), user("Ho")], ["user: Hi", "user: Ho"]),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations(name: str) -> None:
    items, expected = CONVERSATIONS[name]
    assert outline(messages_of(*items)) == expected


def test_reasoning_goes_back_with_what_followed_it() -> None:
    items = [thought("one"), thought("two"), call("a"), output("a"), call("b"), output("b"), said("end")]
    assert outline(messages_of(*items, replays_reasoning=True)) == [
        "assistant: None [a] (one\n\ntwo)",
        "tool a: out a",
        "assistant: None [b] ()",
        "tool b: out b",
        "assistant: end",
    ]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"content": [{"type": "reasoning_text", "text": "a"}], "summary": [{"text": "b"}]}, "a"),
        ({"content": [], "summary": [{"text": "b"}, {"text": "c"}, {"text": 5}, "x"]}, "b\n\nc"),
        ({"summary": [], "encrypted_content": sealed("c ü")}, "c ü"),
        ({"summary": [], "encrypted_content": "gAAAAABo"}, ""),
        ({"summary": [], "encrypted_content": sealed("c")[:-1]}, ""),
        ({"summary": [], "encrypted_content": "sluice-reasoning-1:/w=="}, ""),
        ({"summary": "x", "encrypted_content": 5}, ""),
    ],
)
def test_where_reasoning_is_found(item: Fields, text: str) -> None:
    messages = messages_of({"type": "reasoning", **item}, call("a"), replays_reasoning=True)
    assert messages[0]["reasoning_content"] == text


def test_calls_of_all_kinds() -> None:
    patch = {"type": "custom_tool_call", "call_id": "p", "name": "apply_patch", "input": "+a\n"}
    shell = {"type": "local_shell_call", "call_id": "s", "action": {"command": ["ls"]}}
    result = [{"stdout": "ü", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]
    items = [
        patch,
        {**patch, "call_id": "q", "input": None},
        shell,
        {"type": "shell_call", "call_id": "t", "action": {"commands": ["ls"]}},
        {"type": "apply_patch_call", "call_id": "u", "operation": {"type": "delete_file"}},
        call("v", "find", namespace="crm", arguments=""),
        {"type": "custom_tool_call_output", "call_id": "p", "output": "ok"},
        {"type": "local_shell_call_output", "id": "s", "output": "README"},
        {"type": "shell_call_output", "call_id": "t", "output": result},
    ]
    assistant, *outputs = messages_of(*items)
    assert [made["function"] for made in assistant["tool_calls"]] == [
        {"name": "apply_patch", "arguments": '{"input":"+a\\n"}'},
        {"name": "apply_patch", "arguments": '{"input":""}'},
        {"name": "local_shell", "arguments": '{"command":["ls"]}'},
        {"name": "shell", "arguments": '{"commands":["ls"]}'},
        {"name": "apply_patch", "arguments": '{"type":"delete_file"}'},
        {"name": "crm__find", "arguments": "{}"},
    ]
    assert [message["content"] for message in outputs] == [
        *("ok", "aborted", "README"),
        '[{"stdout":"ü","stderr":"","outcome":{"type":"exit","exit_code":0}}]',
        *("aborted", "aborted"),
    ]


def test_calls_carry_what_the_provider_needs() -> None:
    extras = {"extra_content": {"google": {"thought_signature": "x"}}}
    assistant, _ = messages_of(call("a"), call_extras=extras)
    assert assistant["tool_calls"][0]["extra_content"] == extras["extra_content"]


def test_calls_have_the_name_under_which_the_tool_is_offered() -> None:
    name = "x" * 70
    tools = [{"type": "namespace", "name": "crm", "tools": [{"type": "function", "name": name}]}]
    offered = OfferedTools(tools, ChatTraits(), Counter()).functions[0]["function"]["name"]
    assistant, _ = messages_of(call("a", name, namespace="crm"), tools=tools)
    assert assistant["tool_calls"][0]["function"]["name"] == offered
    assistant, _ = messages_of(call("a", name, namespace="crm"))
    assert assistant["tool_calls"][0]["function"]["name"] == offered


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}


def test_images_of_outputs_follow_all_outputs() -> None:
    pictured = [{"type": "input_text", "text": "see"}, IMAGE]
    messages = messages_of(call("a"), call("b"), output("a", pictured), output("b"))
    assert [message["role"] for message in messages] == ["assistant", "tool", "tool", "user"]
    assert messages[1]["content"] == "see\n[image]"
    assert messages[3]["content"] == [{"type": "image_url", "image_url": {"url": IMAGE["image_url"]}}]
    orphan = messages_of(output("a", [IMAGE]))
    assert [part["type"] for part in orphan[0]["content"]] == ["text", "image_url"]


DEVELOPER = {"role": "developer", "content": "Be brief"}


@pytest.mark.parametrize(
    ("traits", "roles"),
    [
        pytest.param({}, ["system", "user", "user", "user"], id="one system message, at the start"),
        pytest.param(
            {"late_system": True}, ["system", "system", "system", "user", "system", "user"], id="system"
        ),
        pytest.param(
            {"developer_role": True},
            ["system", "developer", "system", "user", "developer", "user"],
            id="developer",
        ),
    ],
)
def test_what_developers_say(traits: Fields, roles: list[str]) -> None:
    system = {
        "role": "system",
        "content": [{"type": "input_text", "text": "a"}, {"type": "text", "text": "b"}],
    }
    messages = messages_of(DEVELOPER, system, user("Hi"), DEVELOPER, user("Ho"), instructions="Do", **traits)
    assert [message["role"] for message in messages] == roles
    if not traits:
        assert messages[0]["content"] == "Do\n\nBe brief\n\na\nb"


def test_a_developer_without_instructions_is_the_system() -> None:
    assert outline(messages_of(DEVELOPER, user("Hi"))) == ["system: Be brief", "user: Hi"]
    pictured = {"role": "developer", "content": [IMAGE]}
    assert [message["role"] for message in messages_of(pictured, DEVELOPER)] == ["user", "user"]


def test_the_assistant_shows_no_pictures() -> None:
    pictured = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}, IMAGE]}
    assert messages_of(pictured) == [{"role": "assistant", "content": "no"}]


def test_other_items_are_counted() -> None:
    dropped: Counter[str] = Counter()
    traits = ChatTraits()
    kinds = ["web_search_call", "compaction", "compaction", "mcp_call"]
    items = [{"type": kind, "id": "x"} for kind in kinds]
    assert chat_messages([], items, OfferedTools([], traits, dropped), traits, dropped) == []
    assert dropped == {"input.web_search_call": 1, "input.compaction": 2, "input.mcp_call": 1}


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "critic", "content": "x"}, "input[0].role"),
        ({"type": "message"}, "input[0].role"),
        ({"role": ["user"]}, "input[0].role"),
        ({"content": "x"}, "input[0].type"),
        ({"type": 5}, "input[0].type"),
        ({"type": "function_call", "call_id": "a"}, "input[0].name"),
        ({"type": "function_call", "name": "f", "arguments": {}}, "input[0].arguments"),
        ({"type": "custom_tool_call", "name": "f", "input": 5}, "input[0].input"),
        (output("a", 5), "input[0].output"),
        ({"role": "user", "content": 5}, "input[0].content"),
    ],
)
def test_malformed_items_are_refused(item: Fields, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        messages_of(item)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


ITEMS = st.one_of(
    st.sampled_from([user("u"), said("s"), thought("t"), DEVELOPER]),
    st.sampled_from("abc").map(call),
    st.sampled_from("abc").map(output),
)


@given(items=st.lists(ITEMS, max_size=15), replays=st.booleans())
def test_every_call_is_answered_right_behind_it(items: list[Fields], replays: bool) -> None:
    messages = messages_of(*items, replays_reasoning=replays)
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
        else:
            assert not waiting
            waiting = [made["id"] for made in message.get("tool_calls", [])]
    assert not waiting
    roles = [message["role"] for message in messages]
    assert ("assistant", "assistant") not in itertools.pairwise(roles)
    told = sum(message.get("content") in ("out a", "out b", "out c") for message in messages)
    orphans = sum("earlier tool call" in (message.get("content") or "") for message in messages)
    assert told + orphans == sum(item.get("type") == "function_call_output" for item in items)
