"""Messages requests as Chat requests: everything besides the conversation."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import BadRequest
from proxy.dialects.messages_request import Translated
from proxy.dialects.messages_to_chat import chat_request
from proxy.dialects.traits import ChatTraits

Fields = dict[str, Any]
TRAITS = ChatTraits()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "f", "description": "does", "input_schema": SCHEMA}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
CHAT_TOOL = {"type": "function", "function": {"name": "f", "description": "does", "parameters": SCHEMA}}


def translated(traits: ChatTraits = TRAITS, **members: object) -> Translated:
    return chat_request({"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}, traits)


def options(traits: ChatTraits = TRAITS, **members: object) -> Fields:
    body = translated(traits, **members).body
    return {name: value for name, value in body.items() if name not in ("model", "messages")}


def test_plain_members() -> None:
    given = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stream": True}
    assert options(**given) == given
    assert options(max_tokens=None, temperature=None) == {}


def test_the_length_has_the_name_that_the_provider_knows() -> None:
    assert options(replace(TRAITS, length_field="max_completion_tokens"), max_tokens=9) == {
        "max_completion_tokens": 9
    }


def test_sampling_where_it_is_taken() -> None:
    given = {"temperature": 1, "top_p": 1, "top_k": 5}
    assert translated(**given).dropped == {"top_k": 1}
    assert options(replace(TRAITS, top_k=True), **given) == given
    refused = translated(replace(TRAITS, sampling=False), **given)
    assert refused.dropped == {"temperature": 1, "top_p": 1, "top_k": 1}


@pytest.mark.parametrize(
    ("given", "stops", "dropped"),
    [
        (["a", "b"], ["a", "b"], {}),
        (["a", "", 1], ["a"], {}),
        (list("abcdef"), list("abcd"), {"stop_sequences": 2}),
        ([], None, {}),
        ("a", None, {}),
    ],
)
def test_stop_sequences(given: object, stops: object, dropped: Fields) -> None:
    request = translated(stop_sequences=given)
    assert request.body.get("stop") == stops
    assert request.dropped == dropped


def test_unknown_members_are_dropped_and_counted() -> None:
    request = translated(context_management={"edits": []}, service_tier="auto", container=None)
    assert request.dropped == {"context_management": 1, "service_tier": 1}
    assert request.body.keys() == {"model", "messages"}


class TestTools:
    def test_their_own(self) -> None:
        assert options(tools=[TOOL, TOOL | {"type": "custom"}]) == {"tools": [CHAT_TOOL, CHAT_TOOL]}

    def test_a_schema_has_properties(self) -> None:
        [tool] = options(tools=[{"name": "f"}])["tools"]
        assert tool["function"] == {"name": "f", "parameters": {"type": "object", "properties": {}}}

    def test_what_only_anthropic_knows_is_dropped(self) -> None:
        request = translated(
            tools=[TOOL | {"cache_control": {}, "strict": True, "defer_loading": None}, SEARCH]
        )
        assert request.body["tools"] == [CHAT_TOOL]
        assert request.dropped == {
            "tools.cache_control": 1,
            "tools.strict": 1,
            "tools.web_search_20250305": 1,
        }

    def test_strict_where_it_is_taken(self) -> None:
        traits = replace(TRAITS, strict_tools=True)
        request = translated(traits, tools=[TOOL | {"strict": True}, TOOL])
        assert [tool["function"].get("strict") for tool in request.body["tools"]] == [True, None]
        assert request.dropped == {}

    def test_without_any_left_nothing_is_chosen(self) -> None:
        assert options(tools=[SEARCH], tool_choice={"type": "any", "disable_parallel_tool_use": True}) == {}

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            ({"type": "auto"}, "auto"),
            ({"type": "none"}, "none"),
            ({"type": "any"}, "required"),
            ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
            ({"type": "odd"}, None),
            ("auto", None),
        ],
    )
    def test_choices(self, choice: object, expected: object) -> None:
        assert options(tools=[TOOL], tool_choice=choice).get("tool_choice") == expected

    def test_a_providers_own_word(self) -> None:
        traits = replace(TRAITS, tool_choice_required="any")
        assert options(traits, tools=[TOOL], tool_choice={"type": "any"})["tool_choice"] == "any"

    @pytest.mark.parametrize(
        ("choice", "told"),
        [
            ({"type": "any"}, "Call one of the tools; do not answer without."),
            ({"type": "tool", "name": "f"}, "Call the tool f; do not answer without."),
        ],
    )
    def test_where_no_call_can_be_demanded_the_model_is_told(self, choice: Fields, told: str) -> None:
        traits = replace(TRAITS, tool_choice_required=None)
        body = translated(traits, tools=[TOOL], tool_choice=choice, system="Be kind.").body
        assert body["tool_choice"] == "auto"
        assert body["messages"][0] == {"role": "system", "content": f"Be kind.\n\n{told}"}

    def test_one_call_at_a_time(self) -> None:
        choice = {"type": "auto", "disable_parallel_tool_use": True}
        assert options(tools=[TOOL], tool_choice=choice)["parallel_tool_calls"] is False
        request = translated(replace(TRAITS, parallel_tool_calls=False), tools=[TOOL], tool_choice=choice)
        assert "parallel_tool_calls" not in request.body
        assert request.dropped == {"tool_choice.disable_parallel_tool_use": 1}

    @pytest.mark.parametrize(
        ("members", "param"),
        [
            ({"tools": {}}, "tools"),
            ({"tools": [1]}, "tools[0]"),
            ({"tools": [{"name": 1}]}, "tools[0].name"),
            ({"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}}, "tool_choice.name"),
            ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
            ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ],
    )
    def test_refusals(self, members: Fields, param: str) -> None:
        with pytest.raises(BadRequest) as caught:
            translated(**members)
        assert caught.value.param == param


ENABLED = {"type": "enabled", "budget_tokens": 4000}


ADAPTIVE = {"type": "adaptive"}


DISABLED = {"type": "disabled"}


class TestThinking:
    @pytest.mark.parametrize(
        ("switch", "thinking", "effort", "expected"),
        [
            ("reasoning_effort", None, None, {}),
            ("reasoning_effort", ENABLED, None, {"reasoning_effort": "medium"}),
            ("reasoning_effort", ENABLED, "high", {"reasoning_effort": "high"}),
            ("reasoning_effort", ADAPTIVE, None, {}),
            ("reasoning_effort", ADAPTIVE, "max", {"reasoning_effort": "high"}),
            ("reasoning_effort", None, "low", {"reasoning_effort": "low"}),
            ("reasoning_effort", {"type": "enabled"}, {}, {}),
            ("thinking_type", None, None, {}),
            ("thinking_type", ENABLED, None, {"thinking": {"type": "enabled"}}),
            ("thinking_type", ADAPTIVE, None, {"thinking": {"type": "enabled"}}),
            ("thinking_type", DISABLED, "high", {"thinking": {"type": "disabled"}}),
            ("enable_thinking", ENABLED, None, {"enable_thinking": True, "thinking_budget": 4000}),
            ("enable_thinking", ADAPTIVE, None, {"enable_thinking": True}),
            ("enable_thinking", DISABLED, None, {"enable_thinking": False}),
        ],
    )
    def test_switches(self, switch: str, thinking: object, effort: object, expected: Fields) -> None:
        traits = replace(TRAITS, reasoning_switch=switch)
        assert options(traits, thinking=thinking, output_config={"effort": effort}) == expected

    def test_off_where_efforts_know_it(self) -> None:
        traits = replace(TRAITS, reasoning_switch="reasoning_effort", efforts=("none", "low"))
        assert options(traits, thinking=DISABLED) == {"reasoning_effort": "none"}

    def test_off_where_they_do_not(self) -> None:
        request = translated(replace(TRAITS, reasoning_switch="reasoning_effort"), thinking=DISABLED)
        assert "reasoning_effort" not in request.body
        assert request.dropped == {"thinking": 1}

    def test_a_provider_that_knows_no_switch(self) -> None:
        request = translated(thinking=ADAPTIVE, output_config={"effort": "high"})
        assert request.body.keys() == {"model", "messages"}
        assert request.dropped == {"thinking": 1, "effort": 1}
        assert translated(thinking=ADAPTIVE).dropped == {"thinking": 1}


WANTED = {"format": {"type": "json_schema", "schema": SCHEMA}}


class TestFormat:
    def test_a_schema(self) -> None:
        assert options(output_config=WANTED) == {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "output", "schema": SCHEMA, "strict": True},
            }
        }

    def test_a_schema_in_words(self) -> None:
        body = translated(replace(TRAITS, json_schema=False), output_config=WANTED).body
        assert body["response_format"] == {"type": "json_object"}
        assert body["messages"][0]["role"] == "system"
        assert '{"city":{"type":"string"}}' in body["messages"][0]["content"]

    @pytest.mark.parametrize(
        "config",
        [None, "x", {}, {"format": None}, {"format": {"type": "json_schema"}}, {"format": {"schema": {}}}],
    )
    def test_none(self, config: object) -> None:
        assert options(output_config=config) == {}


def test_claude_codes_request_is_never_refused() -> None:
    """What Claude Code sends by default, to a provider of which nothing is known."""
    cached = {"cache_control": {"type": "ephemeral"}}
    body = {
        "model": "claude-opus-5-5",
        "max_tokens": 32000,
        "stream": True,
        "system": [{"type": "text", "text": text, **cached} for text in ("You are", "a coding", "agent")],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "<reminder>"}, {"type": "text", "text": "hi"}],
            },
            {"role": "system", "content": "Plan mode is off.", "output_config": {"effort": "high"}},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": ""},
                    {"type": "text", "text": "I read it."},
                    {
                        "type": "tool_use",
                        "id": "toolu_1",
                        "name": "Read",
                        "input": {"file": "a"},
                        "caller": None,
                    },
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "1", **cached}],
            },
        ],
        "tools": [
            {"name": "Read", "description": "d", "input_schema": SCHEMA, "eager_input_streaming": True}
        ],
        "metadata": {"user_id": '{"device_id":"d","session_id":"s"}'},
        "thinking": {"type": "adaptive", "display": "summarized"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
    }
    request = chat_request(body, TRAITS)
    assert [message["role"] for message in request.body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]
    assert request.body.keys() == {"model", "messages", "max_tokens", "stream", "tools", "user"}
    assert request.dropped == {
        "content.cache_control": 4,
        "content.thinking": 1,
        "messages.output_config": 1,
        "tools.eager_input_streaming": 1,
        "thinking": 1,
        "effort": 1,
        "context_management": 1,
    }
