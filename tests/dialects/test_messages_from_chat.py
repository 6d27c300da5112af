"""Chat requests as Messages requests: the conversation."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import BadRequest
from proxy.dialects.messages_from_chat import messages_request
from proxy.dialects.messages_models import MessagesTraits
from proxy.dialects.messages_request import Translated

Fields = dict[str, Any]
TRAITS = MessagesTraits()

PNG = "iVBORw0KGgoAAA"
HI = {"role": "user", "content": "hi"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "sig"}


def translated(*messages: object, traits: MessagesTraits = TRAITS, **members: object) -> Translated:
    body = {"model": "m", "messages": list(messages), **members}
    return messages_request(body, max_tokens_default=4096, traits=traits)


def turns(*messages: object, traits: MessagesTraits = TRAITS) -> list[tuple[str, list[Fields]]]:
    body = translated(*messages, traits=traits).body
    return [(message["role"], message["content"]) for message in body["messages"]]


def text(text: str, **members: object) -> Fields:
    return {"type": "text", "text": text, **members}


def call(id: str, arguments: object = "{}", name: object = "f") -> Fields:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: Fields, **members: object) -> Fields:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **members}


def tool(id: object, content: object = "done") -> Fields:
    return {"role": "tool", "tool_call_id": id, "content": content}


def use(id: str, **given: object) -> Fields:
    return {"type": "tool_use", "id": id, "name": "f", "input": given}


def result(id: str, **members: object) -> Fields:
    return {"type": "tool_result", "tool_use_id": id, **members}


class TestSystem:
    def test_leading_messages(self) -> None:
        marked = {"role": "developer", "content": [text("b", cache_control={"type": "ephemeral"})]}
        body = translated({"role": "system", "content": "a"}, marked, HI).body
        assert body["system"] == [text("a"), text("b", cache_control={"type": "ephemeral"})]
        assert body["messages"] == [{"role": "user", "content": [text("hi")]}]

    def test_later_ones_are_the_users_text(self) -> None:
        assert turns(HI, {"role": "system", "content": "note"}) == [("user", [text("hi"), text("note")])]

    def test_later_ones_where_the_model_takes_them(self) -> None:
        traits = replace(TRAITS, late_system=True)
        roles = [role for role, _ in turns(HI, {"role": "developer", "content": "note"}, HI, traits=traits)]
        assert roles == ["user", "system", "user"]

    def test_alone_something_is_asked(self) -> None:
        assert turns({"role": "system", "content": "a"}) == [("user", [text(".")])]

    def test_none(self) -> None:
        assert "system" not in translated(HI, {"role": "system", "content": " "}).body


class TestUser:
    def test_blank_texts_are_left_out(self) -> None:
        parts = [text(" \n"), text("a"), text("")]
        assert turns({"role": "user", "content": ""}, {"role": "user", "content": parts}) == [
            ("user", [text("a")])
        ]

    @pytest.mark.parametrize(
        ("url", "source"),
        [
            ("https://x/y.png", {"type": "url", "url": "https://x/y.png"}),
            ("http://x/y.png", {"type": "url", "url": "http://x/y.png"}),
            (f"data:image/png;base64,{PNG}", {"type": "base64", "media_type": "image/png", "data": PNG}),
            (f"data:image/jpeg;base64,{PNG}", {"type": "base64", "media_type": "image/png", "data": PNG}),
            ("data:;base64,/9j/AA", {"type": "base64", "media_type": "image/jpeg", "data": "/9j/AA"}),
            ("data:image/jpg;base64,AAAA", {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}),
            (
                "data:image/webp;name=x;base64,AAAA",
                {"type": "base64", "media_type": "image/webp", "data": "AAAA"},
            ),
        ],
    )
    def test_images(self, url: str, source: Fields) -> None:
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "image_url", "image_url": url}]
        image = {"type": "image", "source": source}
        assert turns({"role": "user", "content": parts}) == [("user", [image, image])]

    @pytest.mark.parametrize(("file", "title"), [({"filename": "a.pdf"}, {"title": "a.pdf"}), ({}, {})])
    def test_pdf(self, file: Fields, title: Fields) -> None:
        part = {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", **file}}
        source = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
        assert turns({"role": "user", "content": [part]}) == [
            ("user", [{"type": "document", "source": source, **title}])
        ]


class TestAssistant:
    def test_text_and_calls(self) -> None:
        said = {"role": "assistant", "content": "look", "tool_calls": [call("a", '{"city":"Ulm"}')]}
        assert turns(HI, said, tool("a"))[1] == ("assistant", [text("look"), use("a", city="Ulm")])

    def test_refusals_are_text(self) -> None:
        said = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
        assert turns(HI, said, HI)[1] == ("assistant", [text("No.")])

    def test_arguments_that_are_no_object(self) -> None:
        assert turns(HI, calling(call("a", "{oops")), tool("a"))[1][1] == [use("a", _raw="{oops")]

    def test_custom_calls(self) -> None:
        custom = {"id": "a", "type": "custom", "custom": {"name": "f", "input": "patch"}}
        assert turns(HI, calling(custom), tool("a"))[1][1] == [use("a", input="patch")]

    def test_signed_thoughts_come_first(self) -> None:
        hidden = {"type": "redacted_thinking", "data": "x"}
        unsigned = {"type": "thinking", "thinking": "hm", "signature": ""}
        kept = [THOUGHT | {"index": 0}, unsigned, hidden | {"index": 1}, {"type": "odd"}, "odd"]
        said = calling(call("a"), thinking_blocks=kept, reasoning_content="hm")
        request = translated(HI, said, tool("a"))
        assert request.body["messages"][1]["content"] == [THOUGHT, hidden, use("a")]
        assert request.dropped == {"messages.reasoning_content": 1}

    def test_thoughts_alone_say_nothing(self) -> None:
        said = {"role": "assistant", "content": "", "thinking_blocks": [THOUGHT]}
        assert turns(HI, said, HI) == [("user", [text("hi"), text("hi")])]

    def test_first_something_is_asked(self) -> None:
        assert turns({"role": "assistant", "content": "Hello!"}, HI)[0] == ("user", [text(".")])

    def test_a_beginning_has_no_space_at_its_end(self) -> None:
        assert turns(HI, {"role": "assistant", "content": " { "})[-1] == ("assistant", [text(" {")])

    def test_a_beginning_where_the_model_refuses_one(self) -> None:
        traits = replace(TRAITS, prefill=False)
        assert turns(HI, {"role": "assistant", "content": "{ "}, traits=traits)[1:] == [
            ("assistant", [text("{ ")]),
            ("user", [text("Continue.")]),
        ]


class TestResults:
    def test_all_of_a_turn_are_in_one_message(self) -> None:
        said = calling(call("a"), call("b"))
        assert turns(HI, said, tool("b", "2"), tool("a", "1"), HI)[2:] == [
            ("user", [result("a", content="1"), result("b", content="2"), text("hi")])
        ]

    def test_missing_ones_are_made_up(self) -> None:
        assert turns(HI, calling(call("a")), HI)[2] == (
            "user",
            [result("a", content="(no result)", is_error=True), text("hi")],
        )

    def test_answers_in_several_messages_are_one_turn(self) -> None:
        said = {"role": "assistant", "content": "so"}, calling(call("a")), calling(call("b"))
        roles = [role for role, _ in turns(HI, *said, tool("a"), tool("b"))]
        assert roles == ["user", "assistant", "user"]

    @pytest.mark.parametrize(
        ("content", "members"),
        [
            ("x", {"content": "x"}),
            ("", {}),
            (None, {}),
            ([text("a"), text("b")], {"content": "a\nb"}),
            (
                [text("a", cache_control={"type": "ephemeral"})],
                {"content": [text("a", cache_control={"type": "ephemeral"})]},
            ),
            (
                [{"type": "image_url", "image_url": "https://x"}],
                {"content": [{"type": "image", "source": {"type": "url", "url": "https://x"}}]},
            ),
        ],
        ids=["text", "empty", "none", "texts", "marked", "image"],
    )
    def test_contents(self, content: object, members: Fields) -> None:
        assert turns(HI, calling(call("a")), tool("a", content))[2] == ("user", [result("a", **members)])


class TestIds:
    def test_strange_and_repeated_ones_are_replaced(self) -> None:
        first, second = calling(call("f:0"), call("f.0"), call("")), calling(call("f_0"), call("f_0_0"))
        out = turns(HI, first, tool("f:0"), tool("f.0"), tool(""), second, tool("f_0"), tool("f_0_0"))
        used = [block["id"] for _, blocks in out for block in blocks if block["type"] == "tool_use"]
        answered = [
            block["tool_use_id"] for _, blocks in out for block in blocks if block["type"] == "tool_result"
        ]
        assert used == answered == ["f_0", "f_0_0", "call", "f_0_1", "f_0_0_2"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("messages", "param"),
        [
            (None, "messages"),
            ([], "messages"),
            (["hi"], "messages[0]"),
            ([{"role": "function", "content": "x"}], "messages[0].role"),
            ([{"role": ["user"]}], "messages[0].role"),
            ([{"role": "user", "content": 1}], "messages[0].content"),
            ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
            ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
            ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0]"),
            ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].image_url"),
            (
                [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png,x"}]}],
                "messages[0].content[0].image_url",
            ),
            (
                [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": "data:image/bmp;base64,Qk"}],
                    }
                ],
                "messages[0].content[0].image_url",
            ),
            ([{"role": "user", "content": [{"type": "file"}]}], "messages[0].content[0].file"),
            (
                [
                    {
                        "role": "user",
                        "content": [{"type": "file", "file": {"file_data": "data:text/x;base64,x"}}],
                    }
                ],
                "messages[0].content[0].file",
            ),
            (
                [HI, {"role": "system", "content": [{"type": "image_url", "image_url": "https://x"}]}],
                "messages[1].content[0]",
            ),
            ([tool(1)], "messages[0].tool_call_id"),
            ([{"role": "assistant", "function_call": {}}], "messages[0].function_call"),
            ([calling(call("a", name=1))], "messages[0].tool_calls[0].function.name"),
            ([calling({"custom": {}})], "messages[0].tool_calls[0].custom.name"),
        ],
    )
    def test_what_has_another_shape(self, messages: object, param: str) -> None:
        with pytest.raises(BadRequest) as caught:
            messages_request({"messages": messages}, max_tokens_default=1, traits=TRAITS)
        assert caught.value.param == param
        assert caught.value.code == "invalid_value"


def test_unread_members_of_messages_are_counted() -> None:
    said = {"role": "assistant", "content": "x", "refusal": None, "audio": {"id": "a"}}
    assert translated(HI | {"name": "Ann"}, said, HI).dropped == {"messages.name": 1, "messages.audio": 1}
