"""Messages requests as Chat requests: the conversation."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from proxy.core.errors import BadRequest
from proxy.dialects.messages_to_chat import chat_request
from proxy.dialects.traits import ChatTraits

Fields = dict[str, Any]
TRAITS = ChatTraits()


def conversation(*messages: Fields, traits: ChatTraits = TRAITS, **members: object) -> list[Fields]:
    body = {"model": "m", "max_tokens": 100, "messages": list(messages), **members}
    messages_out: list[Fields] = chat_request(body, traits).body["messages"]
    return messages_out


def user(*blocks: Fields) -> Fields:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Fields) -> Fields:
    return {"role": "assistant", "content": list(blocks)}


def text(text: str, **members: object) -> Fields:
    return {"type": "text", "text": text, **members}


def use(id: str, **given: object) -> Fields:
    return {"type": "tool_use", "id": id, "name": "f", "input": given}


def result(id: str, content: object = "done", **members: object) -> Fields:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **members}


def image(**source: object) -> Fields:
    return {"type": "image", "source": source or {"type": "url", "url": "https://x/y.png"}}


HI = {"role": "user", "content": "hi"}
PICTURE = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}


class TestSystem:
    def test_text(self) -> None:
        assert conversation(HI, system="Be kind.")[0] == {"role": "system", "content": "Be kind."}

    def test_blocks_are_one_text(self) -> None:
        system = [text("a", cache_control={"type": "ephemeral"}), text("b")]
        assert conversation(HI, system=system)[0]["content"] == "a\n\nb"

    @pytest.mark.parametrize("system", [[], "", None, [{"type": "text", "text": ""}]])
    def test_none(self, system: object) -> None:
        assert conversation(HI, system=system) == [{"role": "user", "content": "hi"}]

    def test_in_the_midst_it_becomes_the_users_text(self) -> None:
        note = {"role": "system", "content": "note"}
        assert conversation(HI, note) == [{"role": "user", "content": "hi\n\nnote"}]

    def test_in_the_midst_where_the_provider_takes_it(self) -> None:
        note = {"role": "system", "content": "note"}
        traits = replace(TRAITS, late_system=True)
        assert [message["role"] for message in conversation(HI, note, HI, traits=traits)] == [
            *("user", "system", "user")
        ]


class TestUser:
    def test_texts_are_one_text(self) -> None:
        assert conversation(user(text("a"), text("b")))[0]["content"] == "a\n\nb"

    def test_neighbours_are_one_message(self) -> None:
        assert conversation(HI, HI) == [{"role": "user", "content": "hi\n\nhi"}]

    def test_images(self) -> None:
        data = image(type="base64", media_type="image/png", data="aGk=")
        assert conversation(user(text("look"), image(), data))[0]["content"] == [
            text("look"),
            PICTURE,
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        ]

    def test_documents_that_are_text(self) -> None:
        plain = {"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "D"}}
        blocks = {
            "type": "document",
            "title": "T",
            "source": {"type": "content", "content": [text("a"), image()]},
        }
        assert conversation(user(plain))[0]["content"] == "T\nC\nD"
        assert conversation(user(blocks))[0]["content"] == [text("T"), text("a"), PICTURE]

    @pytest.mark.parametrize(("title", "name"), [("a.pdf", "a.pdf"), (None, "document.pdf")])
    def test_pdf_where_the_provider_takes_files(self, title: str | None, name: str) -> None:
        source = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
        document = {"type": "document", "title": title, "source": source}
        assert conversation(user(document), traits=replace(TRAITS, files=True))[0]["content"] == [
            {"type": "file", "file": {"filename": name, "file_data": "data:application/pdf;base64,aGk="}}
        ]

    def test_search_results(self) -> None:
        found = {
            "type": "search_result",
            "title": "T",
            "source": "https://x",
            "content": [text("a"), image()],
        }
        assert conversation(user(found))[0]["content"] == "T\nhttps://x\na"

    def test_cache_markers_where_the_provider_honours_them(self) -> None:
        marked = text("a", cache_control={"type": "ephemeral"})
        traits = replace(TRAITS, keeps_cache_control=True)
        body = {"messages": [user(marked, text("b"))], "system": [marked]}
        translated = chat_request(body, traits)
        assert [message["content"] for message in translated.body["messages"]] == [
            [marked],
            [marked, text("b")],
        ]
        assert translated.dropped == {}

    def test_what_nobody_else_knows_is_dropped_and_counted(self) -> None:
        blocks = [
            text("a", cache_control={"type": "ephemeral"}, citations=None),
            {"type": "container_upload", "file_id": "f"},
            {"type": ["odd"]},
            text("b", cache_control={"type": "ephemeral"}),
        ]
        translated = chat_request({"messages": [user(*blocks) | {"output_config": {}}]}, TRAITS)
        assert translated.body["messages"] == [{"role": "user", "content": "a\n\nb"}]
        assert translated.dropped == {
            "content.cache_control": 2,
            "content.container_upload": 1,
            "content.": 1,
            "messages.output_config": 1,
        }

    def test_a_message_that_says_nothing_is_still_one(self) -> None:
        assert conversation(user({"type": "odd"})) == [{"role": "user", "content": ""}]


class TestAssistant:
    def test_text_and_calls(self) -> None:
        said = assistant(text("I "), text("look."), use("a", city="Ulm"), use("b"))
        assert conversation(HI, said, user(result("a"), result("b")))[1] == {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"city":"Ulm"}'}},
                {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ],
        }

    def test_calls_alone_have_no_content(self) -> None:
        assert conversation(HI, assistant(use("a")), user(result("a")))[1]["content"] is None

    def test_nothing_is_an_empty_text(self) -> None:
        assert conversation(assistant({"type": "server_tool_use"}), HI)[0] == {
            "role": "assistant",
            "content": "",
        }

    def test_thinking_goes_back_where_the_provider_wants_it(self) -> None:
        thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
        hidden = {"type": "redacted_thinking", "data": "x"}
        turns = (
            *(HI, assistant(thought, hidden, text("a"), use("a")), user(result("a"))),
            *(assistant(use("b")), user(result("b")), assistant(text("c")), HI),
        )
        traits = replace(TRAITS, replays_reasoning=True)
        said = [message for message in conversation(*turns, traits=traits) if message["role"] == "assistant"]
        assert [message.get("reasoning_content") for message in said] == ["hm", "", None]
        translated = chat_request({"messages": list(turns)}, TRAITS)
        assert all("reasoning_content" not in message for message in translated.body["messages"])
        assert translated.dropped == {"content.thinking": 1, "content.redacted_thinking": 1}

    def test_what_each_call_of_the_history_needs(self) -> None:
        traits = replace(TRAITS, call_extras={"extra_content": {"google": {"thought_signature": "x"}}})
        [_, said, _] = conversation(HI, assistant(use("a")), user(result("a")), traits=traits)
        assert said["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "x"}}

    def test_a_beginning_is_continued_where_the_provider_can(self) -> None:
        traits = replace(TRAITS, prefill_field="prefix")
        assert conversation(HI, assistant(text("{")), traits=traits)[-1] == {
            "role": "assistant",
            "content": "{",
            "prefix": True,
        }

    def test_a_beginning_is_left_out_where_it_cannot(self) -> None:
        translated = chat_request({"messages": [HI, assistant(text("{"))]}, TRAITS)
        assert translated.body["messages"] == [HI]
        assert translated.dropped == {"prefill": 1}


class TestResults:
    def test_they_follow_their_calls_before_anything_else(self) -> None:
        turns = HI, assistant(use("a"), use("b")), user(text("so"), result("b", "2"), result("a", "1"))
        assert conversation(*turns)[2:] == [
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "user", "content": "so"},
        ]

    @pytest.mark.parametrize(
        ("content", "written"),
        [
            ("x", "x"),
            ("", ""),
            (None, "(no output)"),
            ([], "(no output)"),
            ([text("a"), text("b")], "a\nb"),
            ([{"type": "unheard_of"}, text("a")], "a"),
            ([{"type": "tool_reference", "tool_name": "t"}, text("a")], "Loaded the tool t.\na"),
        ],
        ids=["text", "empty", "none", "no blocks", "blocks", "unknown", "a tool that was found"],
    )
    def test_contents(self, content: object, written: str) -> None:
        [_, _, tool] = conversation(HI, assistant(use("a")), user(result("a", content)))
        assert tool["content"] == (written or "(no output)")

    def test_errors_say_so(self) -> None:
        [_, _, tool] = conversation(HI, assistant(use("a")), user(result("a", "no file", is_error=True)))
        assert tool["content"] == "Error: no file"

    def test_what_is_no_text_is_shown_to_the_user(self) -> None:
        pdf = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
        content = [text("a"), image(), {"type": "document", "source": pdf}]
        turns = HI, assistant(use("a")), user(result("a", content), text("so"))
        [_, _, tool, shown] = conversation(*turns, traits=replace(TRAITS, files=True))
        assert tool["content"] == "a\n[image]\n[file]"
        assert [part["type"] for part in shown["content"]] == ["image_url", "file", "text"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({}, "messages"),
            ({"messages": "hi"}, "messages"),
            ({"messages": []}, "messages"),
            ({"messages": ["hi"]}, "messages[0]"),
            ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
            ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
            ({"messages": [user(1)]}, "messages[0].content[0]"),  # type: ignore[arg-type]
            ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
            ({"messages": [user({"type": "image"})]}, "messages[0].content[0].source"),
            ({"messages": [user(image(type="file", file_id="f"))]}, "messages[0].content[0].source"),
            ({"messages": [user(image(type="url"))]}, "messages[0].content[0].source.url"),
            (
                {"messages": [user({"type": "document", "source": {"type": "base64"}})]},
                "messages[0].content[0].source",
            ),
            (
                {"messages": [user({"type": "document", "source": {"type": "url"}})]},
                "messages[0].content[0].source",
            ),
            ({"messages": [assistant({"type": "tool_use", "id": "a"}), HI]}, "messages[0].content[0].name"),
            ({"messages": [assistant(use("a") | {"id": None}), HI]}, "messages[0].content[0].id"),
            ({"messages": [assistant(use("a") | {"input": []}), HI]}, "messages[0].content[0].input"),
            ({"messages": [assistant(use("a")), user(result("a", 1))]}, "messages[1].content[0].content"),
            ({"messages": [HI], "system": 1}, "system"),
            ({"messages": [assistant(text("x"))]}, "messages"),
        ],
    )
    def test_what_has_another_shape(self, body: Fields, param: str) -> None:
        with pytest.raises(BadRequest) as caught:
            chat_request(body, TRAITS)
        assert caught.value.param == param
        assert caught.value.code == "invalid_value"
        assert repr(param) in caught.value.message


@pytest.mark.parametrize(
    ("metadata", "field", "expected"),
    [
        ({"user_id": "u"}, "user", {"user": hashlib.sha256(b"u").hexdigest()}),
        ({"user_id": "u"}, "user_id", {"user_id": hashlib.sha256(b"u").hexdigest()}),
        ({"user_id": "u"}, None, {}),
        ({"user_id": ""}, "user", {}),
        ({"user_id": 1}, "user", {}),
        ("u", "user", {}),
    ],
)
def test_the_end_user_is_hashed(metadata: object, field: str | None, expected: Fields) -> None:
    body = {"model": "m", "messages": [HI], "metadata": metadata}
    chat = chat_request(body, replace(TRAITS, user_field=field)).body
    assert chat == {"model": "m", "messages": [HI], **expected}
