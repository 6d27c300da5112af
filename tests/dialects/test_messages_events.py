"""Chat streams as Messages streams: cases, and the whole answer as the measure of every stream."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Usage
from proxy.dialects.messages_answer import Asked, message_from_chat
from proxy.dialects.messages_events import PING, MessageEvents
from tests.support.messages import (
    USAGE,
    assembled,
    chat_messages,
    chat_streams,
    events_of,
    finish_reasons,
    json_values,
)

Fields = dict[str, Any]
ASKED = Asked("claude-x", thinking=True)


def machine(asked: Asked = ASKED) -> MessageEvents:
    return MessageEvents(id="msg_1", asked=asked, input_tokens=7)


def chunk(delta: object, finish: object = None, **choice: object) -> Fields:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]}


def call(index: int, arguments: object = None, **members: object) -> Fields:
    return {
        "index": index,
        **members,
        "function": {"name": members.pop("name", None), "arguments": arguments},
    }


def calls(*pieces: Fields) -> Fields:
    return chunk({"tool_calls": list(pieces)})


def streamed(*chunks: Fields, asked: Asked = ASKED) -> tuple[list[Fields], Fields]:
    """Return the events of a whole stream, and the message that they make."""
    events = machine(asked)
    stream = b"".join(events.feed(each) for each in chunks) + events.ending(USAGE)
    return events_of(stream), assembled(events_of(stream))


# -- the whole answer is the measure


@given(st.data())
def test_a_stream_says_what_the_whole_answer_says(data: st.DataObject) -> None:
    message, finish = data.draw(chat_messages()), data.draw(finish_reasons)
    asked = Asked("claude-x", thinking=data.draw(st.booleans()))
    chunks = data.draw(chat_streams(message, finish))
    answer = {"choices": [{"message": message, "finish_reason": finish}]}
    whole = message_from_chat(answer, id="msg_1", asked=asked, usage=USAGE)
    assert streamed(*chunks, asked=asked)[1] == whole


@given(chat_messages(), finish_reasons)
def test_a_whole_message_in_a_stream_counts_only_when_nothing_else_came(message: Fields, finish: str) -> None:
    answer = {"choices": [{"delta": {}, "message": message, "finish_reason": finish}]}
    asked = Asked("claude-x", thinking=True)
    whole = message_from_chat(answer, id="msg_1", asked=asked, usage=USAGE)
    assert streamed(answer, asked=asked)[1] == whole
    assert streamed(chunk({"content": "x"}), answer, asked=asked)[1]["content"] == [
        {"type": "text", "text": "x"}
    ]


@given(st.lists(json_values, max_size=4), st.data())
def test_nothing_breaks_the_order_of_events(values: list[Any], data: st.DataObject) -> None:
    """Whatever comes, blocks are numbered, opened and closed, and there is one end."""
    events = machine()
    stream = b""
    for value in values:
        member = data.draw(st.sampled_from(["content", "reasoning_content", "refusal", "tool_calls"]))
        stream += events.feed(
            data.draw(st.sampled_from([chunk(value), chunk({member: value}), {"choices": value}]))
        )
        stream += events.feed(calls(call(0, value, name=value, id=value)))
    assembled(events_of(stream + events.ending(Usage())))


# -- cases


def test_the_events_of_a_plain_answer() -> None:
    events, _ = streamed(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
    )
    assert events == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-x",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 7,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 0,
                },
            },
        },
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {
                "input_tokens": 50,
                "cache_creation_input_tokens": 10,
                "cache_read_input_tokens": 40,
                "output_tokens": 50,
                "output_tokens_details": {"thinking_tokens": 20},
            },
        },
        {"type": "message_stop"},
    ]


def test_nothing_is_sent_before_there_is_content() -> None:
    events = machine()
    assert events.feed(chunk({"role": "assistant", "content": ""})) == b""
    assert events.feed({"choices": []}) == b""
    assert events.feed(chunk({"content": "x"})).startswith(b"event: message_start")
    assert events.start() == b""


def test_a_keep_alive_begins_the_stream_and_then_is_a_ping() -> None:
    events = machine()
    assert [event["type"] for event in events_of(events.keep_alive())] == ["message_start", "ping"]
    assert events.keep_alive() == PING


def test_the_answer_is_finished_by_its_finish_reason() -> None:
    events = machine()
    events.feed(chunk({"content": "x"}))
    assert not events.finished
    events.feed(chunk({}, ""))
    assert events.finished
    events.feed({"choices": [], "usage": {}})
    assert events.finished


def test_an_answer_without_content_is_one_empty_text() -> None:
    assert streamed(chunk({}, "stop"))[1]["content"] == [{"type": "text", "text": ""}]


def test_thinking_is_left_out_for_clients_that_did_not_ask() -> None:
    chunks = chunk({"reasoning_content": "hm"}), chunk({"content": "x"}, "stop")
    assert streamed(*chunks, asked=Asked("m"))[1]["content"] == [{"type": "text", "text": "x"}]


def test_a_refusal_is_text_and_a_stop_reason() -> None:
    message = streamed(chunk({"content": "I "}), chunk({"refusal": "won't"}, "stop"))[1]
    assert message["content"] == [{"type": "text", "text": "I won't"}]
    assert message["stop_reason"] == "refusal"


def test_parallel_calls_one_after_the_other_are_streamed() -> None:
    events = machine()
    events.feed(calls(call(0, '{"a":', name="f", id="call_abcdef01")))
    events.feed(calls(call(0, "1}")))
    assert events.feed(calls(call(1, "", name="g", id="call_abcdef02"))) == b""
    written = events_of(events.feed(calls(call(1, '{"b":'))))
    assert [event["type"] for event in written] == [
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]
    assert events_of(events.feed(calls(call(1, "2}"))))[0]["delta"]["partial_json"] == "2}"


def test_calls_that_alternate_wait_for_each_other() -> None:
    _, message = streamed(
        calls(call(0, '{"a":', name="f", id="call_abcdef01"), call(1, '{"b"', name="g", id="call_abcdef02")),
        calls(call(1, ":2"), call(0, "1")),
        calls(call(0, "}"), call(1, "}")),
        chunk({}, "tool_calls"),
    )
    assert [block["input"] for block in message["content"]] == [{"a": 1}, {"b": 2}]
    assert message["stop_reason"] == "tool_use"


def test_text_in_the_midst_of_a_call_comes_after_it() -> None:
    _, message = streamed(
        calls(call(0, '{"a":', name="f", id="call_abcdef01")),
        chunk({"content": "so "}),
        chunk({"content": "far"}),
        chunk({"reasoning_content": "hm"}),
        calls(call(0, "1}")),
        chunk({}, "stop"),
    )
    assert [block["type"] for block in message["content"]] == ["tool_use", "text", "thinking"]
    assert message["content"][1]["text"] == "so far"


def test_text_behind_a_whole_call_is_not_held_back() -> None:
    events = machine()
    events.feed(calls(call(0, "{}", name="f", id="call_abcdef01")))
    written = events_of(events.feed(chunk({"content": "x"})))
    assert [event["type"] for event in written] == [
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
    ]
    # What still comes of the call says nothing new.
    assert events.feed(calls(call(0, "{}"))) == b""


def test_a_call_without_arguments_waits_for_the_end() -> None:
    events = machine()
    assert events.feed(calls(call(0, "", name="f", id="call_abcdef01"))) == b""
    message = assembled(events_of(events.feed(chunk({}, "tool_calls")) + events.ending(USAGE)))
    assert message["content"] == [{"type": "tool_use", "id": "call_abcdef01", "name": "f", "input": {}}]


def test_a_call_without_a_name_is_none() -> None:
    _, message = streamed(calls(call(0, '{"a":1}', id="call_abcdef01")), chunk({}, "tool_calls"))
    assert message["content"] == [{"type": "text", "text": ""}]
    assert message["stop_reason"] == "end_turn"


def test_a_name_may_come_after_arguments() -> None:
    _, message = streamed(calls(call(0, '{"a":', id="call_abcdef01")), calls(call(0, "1}", name="f")))
    assert message["content"][0]["name"] == "f"
    assert message["content"][0]["input"] == {"a": 1}


def test_ids_that_only_count_are_made_unique() -> None:
    _, message = streamed(calls(call(0, "{}", name="f", id="call_0"), call(1, "{}", name="g", id="call_0")))
    assert [block["id"] for block in message["content"]] == ["toolu_1_0", "toolu_1_1"]


def test_a_call_that_is_cut_off_is_passed_on_as_it_is() -> None:
    first = calls(call(0, '{"a":"lo', name="f", id="call_abcdef01"))
    message = streamed(first, chunk({}, "length"))[1]
    assert message["stop_reason"] == "max_tokens"
    assert message["content"][0]["input"] == '{"a":"lo'


def test_a_stop_sequence_is_told_where_the_provider_names_it() -> None:
    asked = Asked("m", stop_sequences=("END",))
    message = streamed(chunk({"content": "x"}), chunk({}, "stop", stop_reason="END"), asked=asked)[1]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


@pytest.mark.parametrize(
    "text", ["\u2028\u0085", '"\\\n', "\ud83d"], ids=["separators", "escapes", "half a pair"]
)
def test_any_text_makes_one_frame(text: str) -> None:
    events, _ = streamed(chunk({"content": text}))
    assert events[3]["delta"]["text"] == text.replace("\ud83d", "\ufffd")
