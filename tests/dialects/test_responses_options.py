"""What Responses requests ask for besides their conversation."""

from collections import Counter
from typing import Any

import pytest

from proxy.core.errors import BadRequest
from proxy.dialects.responses_options import options_of
from proxy.dialects.responses_tools import OfferedTools
from proxy.dialects.traits import ChatTraits

Fields = dict[str, Any]

TOOLS: list[Fields] = [{"type": "function", "name": "f"}]


def asked(body: Fields, **traits: Any) -> tuple[Fields, Counter[str], list[str]]:
    """Return the options without tools, what was dropped, and what is told in words."""
    known = ChatTraits(**traits)
    dropped: Counter[str] = Counter()
    tools = OfferedTools(body.get("tools") or [], known, dropped)
    options, instructions = options_of(body, tools, known, dropped)
    options.pop("tools", None)
    return options, dropped, instructions


SCHEMA: Fields = {"type": "object", "properties": {}}
FORMAT = {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True, "description": None}


@pytest.mark.parametrize(
    ("body", "traits", "options", "dropped"),
    [
        pytest.param(
            {"model": "m", "stream": True}, {}, {"model": "m", "stream": True}, {}, id="as they are"
        ),
        pytest.param({"temperature": 0, "top_p": 1}, {}, {"temperature": 0, "top_p": 1}, {}, id="sampling"),
        pytest.param({"temperature": 0}, {"sampling": False}, {}, {"temperature": 1}, id="no sampling"),
        pytest.param({"max_output_tokens": 9}, {}, {"max_tokens": 9}, {}, id="length"),
        pytest.param(
            {"max_tokens": 7, "max_output_tokens": 9},
            {"length_field": "max_completion_tokens"},
            {"max_completion_tokens": 9},
            {},
            id="length under another name",
        ),
        pytest.param({"user": "u"}, {}, {"user": "u"}, {}, id="user"),
        pytest.param(
            {"user": "u"}, {"user_field": "user_id"}, {}, {"user": 1}, id="user where it is restricted"
        ),
        pytest.param(
            {"service_tier": "flex", "safety_identifier": "s", "max_tool_calls": 3, "whatever": {}},
            {"openai_fields": True},
            {"service_tier": "flex", "safety_identifier": "s"},
            {"max_tool_calls": 1, "whatever": 1},
            id="what OpenAI knows",
        ),
        pytest.param(
            {"service_tier": "flex", "top_logprobs": 2, "x" * 99: 1, "y": None},
            {},
            {},
            {"service_tier": 1, "top_logprobs": 1, "x" * 64: 1},
            id="what others do not",
        ),
        pytest.param({"reasoning": {"effort": "high"}}, {}, {}, {"reasoning.effort": 1}, id="no effort"),
        pytest.param(
            {"reasoning": {"effort": "high"}},
            {"reasoning_switch": "reasoning_effort"},
            {"reasoning_effort": "high"},
            {},
            id="effort",
        ),
        pytest.param(
            {"reasoning": {"effort": "minimal"}},
            {"reasoning_switch": "reasoning_effort"},
            {"reasoning_effort": "low"},
            {},
            id="the nearest effort",
        ),
        pytest.param(
            {"reasoning": {"effort": "none"}},
            {"reasoning_switch": "reasoning_effort"},
            {},
            {"reasoning.effort": 1},
            id="none is no effort",
        ),
        pytest.param(
            {"reasoning": {"effort": "none"}},
            {"reasoning_switch": "reasoning_effort", "efforts": ("none", "low")},
            {"reasoning_effort": "none"},
            {},
            id="none is known",
        ),
        pytest.param(
            {"reasoning": {"effort": "low"}},
            {"reasoning_switch": "thinking_type"},
            {"thinking": {"type": "enabled"}},
            {},
            id="thinking",
        ),
        pytest.param(
            {"reasoning": {"effort": "none"}},
            {"reasoning_switch": "thinking_type"},
            {"thinking": {"type": "disabled"}},
            {},
            id="no thinking",
        ),
        pytest.param(
            {"reasoning": {"effort": "minimal"}},
            {"reasoning_switch": "enable_thinking"},
            {"enable_thinking": False},
            {},
            id="thinking switched",
        ),
        pytest.param(
            {"reasoning": {"summary": "auto"}}, {"reasoning_switch": "thinking_type"}, {}, {}, id="default"
        ),
        pytest.param({"text": {"verbosity": "low"}}, {}, {}, {"text.verbosity": 1}, id="verbosity"),
        pytest.param(
            {"text": {"verbosity": "low", "format": {"type": "text"}}},
            {"openai_fields": True},
            {"verbosity": "low"},
            {},
            id="verbosity at OpenAI",
        ),
        pytest.param(
            {"text": {"format": {"type": "json_object"}}},
            {},
            {"response_format": {"type": "json_object"}},
            {},
            id="JSON",
        ),
        pytest.param(
            {"text": {"format": FORMAT}},
            {},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "city", "schema": SCHEMA, "strict": True},
                }
            },
            {},
            id="JSON by a schema",
        ),
        pytest.param(
            {"tools": TOOLS, "parallel_tool_calls": False},
            {},
            {"parallel_tool_calls": False},
            {},
            id="one call at a time",
        ),
        pytest.param({"parallel_tool_calls": False}, {}, {}, {}, id="no calls at all"),
        pytest.param(
            {"tools": TOOLS, "parallel_tool_calls": False},
            {"parallel_tool_calls": False},
            {},
            {"parallel_tool_calls": 1},
            id="cannot be kept from several calls",
        ),
        pytest.param(
            {"tools": TOOLS, "parallel_tool_calls": True},
            {"parallel_tool_calls": False},
            {},
            {},
            id="several calls",
        ),
        pytest.param({"tools": TOOLS, "tool_choice": "none"}, {}, {"tool_choice": "none"}, {}, id="no call"),
        pytest.param(
            {"tools": TOOLS, "tool_choice": "required"}, {}, {"tool_choice": "required"}, {}, id="a call"
        ),
        pytest.param(
            {"tools": TOOLS, "tool_choice": "required"},
            {"tool_choice_required": "any"},
            {"tool_choice": "any"},
            {},
            id="a call under another name",
        ),
        pytest.param(
            {"tools": TOOLS, "tool_choice": {"type": "function", "name": "f"}},
            {"tool_choice_required": "any"},
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            {},
            id="this call",
        ),
        pytest.param(
            {"tools": [{"type": "mcp"}], "tool_choice": "auto"}, {}, {}, {"tools.mcp": 1}, id="no tools"
        ),
    ],
)
def test_options(body: Fields, traits: Fields, options: Fields, dropped: Fields) -> None:
    assert asked(body, **traits) == (options, dropped, [])


@pytest.mark.parametrize(
    ("body", "options", "told"),
    [
        (
            {"text": {"format": FORMAT}},
            {"response_format": {"type": "json_object"}},
            'Answer with one JSON object that fits this JSON schema: {"type":"object","properties":{}}',
        ),
        (
            {"tools": TOOLS, "tool_choice": "required"},
            {"tool_choice": "auto"},
            "Call one of the tools; do not answer without.",
        ),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "name": "f"}},
            {"tool_choice": "auto"},
            "Call the tool f; do not answer without.",
        ),
    ],
)
def test_what_no_member_says_is_told_in_words(body: Fields, options: Fields, told: str) -> None:
    assert asked(body, json_schema=False, tool_choice_required=None) == (options, {}, [told])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"reasoning": {"effort": 5}}, "reasoning.effort"),
        ({"reasoning": []}, "reasoning"),
        ({"text": "x"}, "text"),
        ({"text": {"format": "json"}}, "text.format"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": 5}}}, "text.format.type"),
    ],
)
def test_malformed_options_are_refused(body: Fields, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        asked(body)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)
