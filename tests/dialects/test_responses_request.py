"""Responses requests as Chat requests: what is refused, what is repeated, what Codex sends."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import BadRequest
from proxy.dialects.responses_answer import response_from_chat
from proxy.dialects.responses_context import ResponsesRequest, Tool
from proxy.dialects.responses_request import chat_request
from proxy.dialects.traits import ChatTraits
from tests.support.responses import CountedIds

Fields = dict[str, Any]

GENEROUS = ChatTraits(
    reasoning_switch="reasoning_effort",
    replays_reasoning=True,
    developer_role=True,
    length_field="max_completion_tokens",
    strict_tools=True,
    openai_fields=True,
    late_system=True,
    files=True,
)
FRUGAL = ChatTraits(
    parallel_tool_calls=False, sampling=False, json_schema=False, tool_choice_required=None, user_field=None
)
ALL_TRAITS = [ChatTraits(), GENEROUS, FRUGAL]

# As the command line tool of version 0.169 sends it, shortened.
CODEX: Fields = {
    "model": "gpt-5.5-codex",
    "instructions": "You are Codex, a coding agent.",
    "input": [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "<permissions>read-only</permissions>"}],
        },
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "<environment_context>/tmp</environment_context>"},
                {"type": "input_text", "text": "Say hello"},
            ],
        },
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Hm"}],
            "encrypted_content": "gAAAA",
        },
        {"type": "function_call", "name": "exec_command", "arguments": '{"cmd":"ls"}', "call_id": "call_1"},
        {"type": "function_call_output", "call_id": "call_1", "output": "README"},
    ],
    "tools": [
        {
            "type": "function",
            "name": "exec_command",
            "description": "Runs a command.",
            "strict": False,
            "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}},
        },
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Edits files.",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin_patch"},
        },
        {
            "type": "namespace",
            "name": "multi_agent_v1",
            "description": "Agents.",
            "tools": [{"type": "function", "name": "spawn_agent", "parameters": {"type": "object"}}],
        },
        {"type": "web_search", "external_web_access": False},
        {"type": "local_shell"},
        {"type": "tool_search", "execution": "client"},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content", "something.new"],
    "prompt_cache_key": "0199",
    "text": {"verbosity": "low"},
    "client_metadata": {"x-codex-installation-id": "1"},
    "service_tier": None,
}


@pytest.mark.parametrize("traits", ALL_TRAITS)
def test_codex_is_never_refused(traits: ChatTraits) -> None:
    request = chat_request(CODEX, traits)
    names = [tool["function"]["name"] for tool in request.chat["tools"]]
    assert names == ["exec_command", "apply_patch", "multi_agent_v1__spawn_agent"]
    assert request.context.tools == {
        "exec_command": Tool("exec_command"),
        "apply_patch": Tool("apply_patch", custom=True),
        "multi_agent_v1__spawn_agent": Tool("spawn_agent", "multi_agent_v1"),
    }
    assert {name: n for name, n in request.dropped.items() if name.startswith("tools.")} == {
        "tools.web_search": 1,
        "tools.local_shell": 1,
        "tools.tool_search": 1,
    }
    assert (request.context.summaries, request.context.encrypted) == (True, True)
    assert [message["role"] for message in request.chat["messages"]][-3:] == ["user", "assistant", "tool"]
    assert msgspec.json.decode(msgspec.json.encode(request.chat)) == request.chat


def test_codex_as_any_server_gets_it() -> None:
    chat = chat_request(CODEX, ChatTraits()).chat
    assert chat["messages"] == [
        {
            "role": "system",
            "content": "You are Codex, a coding agent.\n\n<permissions>read-only</permissions>",
        },
        {"role": "user", "content": "<environment_context>/tmp</environment_context>\nSay hello"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "exec_command", "arguments": '{"cmd":"ls"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "README"},
    ]
    others = {name: value for name, value in chat.items() if name not in ("messages", "tools")}
    assert others == {
        "model": "gpt-5.5-codex",
        "stream": True,
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }


def test_codex_as_openai_gets_it() -> None:
    chat = chat_request(CODEX, GENEROUS).chat
    assert [message["role"] for message in chat["messages"]] == [
        *("system", "developer", "user", "assistant", "tool")
    ]
    assert chat["messages"][3]["reasoning_content"] == "Hm"
    assert chat["reasoning_effort"] == "medium"
    assert chat["verbosity"] == "low"
    assert chat["prompt_cache_key"] == "0199"
    assert chat["tools"][0]["function"]["strict"] is False


# With the models that it knows, the tools come as an item; calls and outputs are freeform.
EXEC = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c1", "name": "exec", "namespace": "functions"}
CODEX_OWN: Fields = {
    name: value for name, value in CODEX.items() if name not in ("tools", "instructions")
} | {
    "input": [
        {
            "type": "additional_tools",
            "id": "at_1",
            "role": "developer",
            "tools": [
                {
                    "type": "namespace",
                    "name": "functions",
                    "description": "",
                    "tools": [
                        {
                            "type": "custom",
                            "name": "exec",
                            "description": "Run JavaScript.",
                            "format": {"type": "grammar", "syntax": "lark", "definition": "start: SOURCE"},
                        },
                        {"type": "function", "name": "wait", "strict": False, "parameters": {}},
                    ],
                },
                {
                    "type": "namespace",
                    "name": "collaboration",
                    "tools": [{"type": "function", "name": "wait"}],
                },
            ],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say hello"}]},
        {**EXEC, "status": "completed", "input": "text(1)"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "1"}]},
    ],
}


@pytest.mark.parametrize("traits", ALL_TRAITS)
def test_codex_with_a_model_that_it_knows_has_its_tools(traits: ChatTraits) -> None:
    request = chat_request(CODEX_OWN, traits)
    assert [tool["function"]["name"] for tool in request.chat["tools"]] == [
        *("functions__exec", "functions__wait", "collaboration__wait")
    ]
    assert request.chat["tool_choice"] == "auto"
    assert not [name for name in request.dropped if name.startswith(("tools", "input"))]
    *_, assistant, output = request.chat["messages"]
    assert assistant["tool_calls"][0]["function"] == {
        "name": "functions__exec",
        "arguments": '{"input":"text(1)"}',
    }
    assert (output["tool_call_id"], output["content"]) == ("c1", "1")
    assert msgspec.json.decode(request.context.echo["tools"]) == []


def test_codex_gets_the_calls_of_these_tools_back() -> None:
    context = chat_request(CODEX_OWN, ChatTraits()).context
    function = {"name": "functions__exec", "arguments": '{"input":"text(2)"}'}
    answer = {"choices": [{"message": {"tool_calls": [{"id": "c2", "function": function}]}}]}
    response = response_from_chat(answer, context, ids=CountedIds(), created_at=1, model="m")
    [call] = response["output"]
    assert call == {**EXEC, "id": call["id"], "call_id": "c2", "input": "text(2)", "status": "completed"}


@pytest.mark.parametrize(
    ("members", "code", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_not_supported", "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "previous_response_not_supported", "conversation"),
        ({"conversation": "conv_1"}, "previous_response_not_supported", "conversation"),
        (
            {"input": [{"type": "item_reference", "id": "msg_1"}]},
            "previous_response_not_supported",
            "input[0]",
        ),
        ({"input": [{"id": "msg_1"}]}, "previous_response_not_supported", "input[0]"),
        ({"background": True}, "invalid_value", "background"),
        ({"prompt": {"id": "pmpt_1"}}, "invalid_value", "prompt"),
        ({"input": None}, "invalid_value", "input"),
        ({"input": []}, "invalid_value", "input"),
        ({"input": {"role": "user"}}, "invalid_value", "input"),
        ({"input": ["Hi"]}, "invalid_value", "input[0]"),
        ({"instructions": ["Hi"]}, "invalid_value", "instructions"),
        ({"reasoning": "high"}, "invalid_value", "reasoning"),
        ({"metadata": 5}, "invalid_value", "metadata"),
        ({"tools": {}}, "invalid_value", "tools"),
    ],
)
def test_refusals_name_the_member(members: Fields, code: str, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        chat_request({"model": "m", "input": "Hi", **members}, ChatTraits())
    assert (caught.value.code, caught.value.param) == (code, param)
    assert repr(param) in caught.value.message


def test_the_refusal_of_stored_conversations_says_what_to_do() -> None:
    with pytest.raises(BadRequest, match="whole conversation in 'input', with 'store': false"):
        chat_request({"model": "m", "input": "Hi", "previous_response_id": "resp_1"}, ChatTraits())


@pytest.mark.parametrize(
    "members",
    [
        {"previous_response_id": None, "conversation": None, "prompt": None, "background": False},
        {"store": True, "truncation": "auto", "include": ["web_search_call.results"], "stream_options": {}},
        {"include": None, "metadata": {"a": "b"}, "client_metadata": {}},
    ],
)
def test_what_changes_nothing_is_not_even_counted(members: Fields) -> None:
    request = chat_request({"model": "m", "input": "Hi", **members}, ChatTraits())
    assert request.chat == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert not request.dropped


def echoed(members: Fields) -> Fields:
    context = chat_request({"model": "m", "input": "Hi", **members}, ChatTraits()).context
    decoded: Fields = json.loads(msgspec.json.encode(context.echo))
    return decoded


def test_the_request_is_repeated_with_defaults() -> None:
    assert echoed({}) == {
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
    }


def test_the_request_is_repeated_as_it_was() -> None:
    given = {
        "instructions": "Be ü",
        "max_output_tokens": 16,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "reasoning": {"summary": "auto"},
        "store": True,
        "temperature": 0.5,
        "text": {"verbosity": "low"},
        "tool_choice": "none",
        "tools": [{"type": "web_search"}],
        "top_p": 0,
        "truncation": "auto",
    }
    assert echoed(given) == {
        **given,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": "auto"},
        "store": False,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "truncation": "disabled",
    }


def test_half_a_surrogate_pair_cannot_be_repeated() -> None:
    with pytest.raises(BadRequest) as caught:
        echoed({"instructions": "\ud83d"})
    assert caught.value.code == "invalid_value"


def translated_or_refused(body: Fields, traits: ChatTraits) -> ResponsesRequest | BadRequest:
    try:
        return chat_request(body, traits)
    except BadRequest as error:
        return error


@pytest.mark.parametrize("depth", [*range(850, 1000, 10), 100_000])
def test_what_is_nested_too_deeply_is_refused_here_or_nowhere(depth: int) -> None:
    schema: Fields = {}
    for _ in range(depth):
        schema = {"items": schema}
    body = {"model": "m", "input": "Hi", "tools": [{"type": "function", "name": "f", "parameters": schema}]}
    outcome = translated_or_refused(body, ChatTraits())
    if isinstance(outcome, BadRequest):
        assert outcome.code == "invalid_json"
    else:
        assert depth < 1000
        msgspec.json.encode(outcome.chat)


SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4)
WORDS = st.sampled_from(
    [
        *("message", "function_call", "function_call_output", "custom_tool_call", "reasoning", "shell_call"),
        "additional_tools",
        *("function", "custom", "namespace", "web_search", "allowed_tools", "json_schema", "text"),
        *("input_text", "output_text", "input_image", "input_file", "input_audio", "refusal"),
        *("user", "assistant", "developer", "system", "auto", "required", "none", "low", "c1", "f"),
    ]
)
NAMES = st.sampled_from(
    [
        *(
            "type",
            "role",
            "content",
            "text",
            "name",
            "namespace",
            "tools",
            "call_id",
            "id",
            "output",
            "input",
        ),
        *("arguments", "image_url", "file_data", "summary", "format", "schema", "effort", "mode", "action"),
    ]
)
JSON = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)
BODIES = st.fixed_dictionaries(
    {
        "model": st.just("m"),
        "input": st.text(max_size=3) | st.lists(st.dictionaries(NAMES, JSON | WORDS), max_size=5),
    },
    optional={
        "instructions": JSON,
        "tools": st.lists(st.dictionaries(NAMES, JSON | WORDS), max_size=4),
        "tool_choice": JSON,
        "parallel_tool_calls": SCALARS,
        "reasoning": st.dictionaries(st.sampled_from(["effort", "summary"]), SCALARS | WORDS),
        "text": JSON | st.fixed_dictionaries({"format": st.dictionaries(NAMES, JSON | WORDS)}),
        "max_output_tokens": SCALARS,
        "previous_response_id": SCALARS,
        "include": JSON,
        "metadata": JSON,
        "whatever": JSON,
    },
)


@given(body=BODIES, traits=st.sampled_from(ALL_TRAITS))
def test_any_body_is_translated_or_refused(body: Fields, traits: ChatTraits) -> None:
    outcome = translated_or_refused(body, traits)
    if isinstance(outcome, BadRequest):
        assert outcome.code in ("invalid_value", "previous_response_not_supported")
        assert outcome.param
        return
    roles = {message["role"] for message in outcome.chat["messages"]}
    assert roles <= {"system", "developer", "user", "assistant", "tool"}
    assert {tool["type"] for tool in outcome.chat.get("tools", [])} <= {"function"}
    assert_calls_are_answered(outcome.chat["messages"])
    assert msgspec.json.decode(msgspec.json.encode(outcome.chat)) == outcome.chat
    assert all(count > 0 for count in outcome.dropped.values())


def assert_calls_are_answered(messages: list[Fields]) -> None:
    """Each call is answered right behind the message that made it, in order; nothing else is."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert waiting
            assert message["tool_call_id"] == waiting.pop(0)
        else:
            assert not waiting
            waiting = [call["id"] for call in message.get("tool_calls", [])]
    assert not waiting
