"""Anthropic's own SDK reads our streams as what the whole answer says."""

from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dialects.messages_answer import Asked, message_from_chat
from proxy.dialects.messages_events import MessageEvents
from tests.support.messages import USAGE, chat_messages, chat_streams, finish_reasons

Fields = dict[str, Any]
ASKED = Asked("claude-x", thinking=True)
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n'


def read_by_sdk(stream: bytes) -> Fields:
    """Return the message that the SDK makes of a stream."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        anthropic.Anthropic(
            api_key="k", base_url="http://gateway", http_client=http, max_retries=0
        ) as client,
        client.messages.stream(
            model="claude-x", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as reading,
    ):
        return reading.get_final_message().to_dict()


def streamed(chunks: list[Fields]) -> bytes:
    events = MessageEvents(id="msg_1", asked=ASKED, input_tokens=7)
    return b"".join(events.feed(chunk) for chunk in chunks) + events.ending(USAGE)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_the_sdk_reads_what_the_whole_answer_says(data: st.DataObject) -> None:
    message, finish = data.draw(chat_messages()), data.draw(finish_reasons)
    chunks = data.draw(chat_streams(message, finish))
    answer = {"choices": [{"message": message, "finish_reason": finish}]}
    whole = message_from_chat(answer, id="msg_1", asked=ASKED, usage=USAGE)
    read = read_by_sdk(streamed(chunks))
    assert {name: read[name] for name in whole} == whole


def test_a_call_that_is_cut_off_does_not_break_the_sdk() -> None:
    call = {"index": 0, "id": "call_abcdefgh", "function": {"name": "f", "arguments": '{"a":"lo'}}
    chunks = [{"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "length"}]}]
    message = read_by_sdk(streamed(chunks))
    assert message["stop_reason"] == "max_tokens"
    assert message["content"][0]["name"] == "f"


def test_an_error_may_follow_at_any_time() -> None:
    events = MessageEvents(id="msg_1", asked=ASKED, input_tokens=7)
    begun = events.feed({"choices": [{"delta": {"content": "x"}}]}) + events.keep_alive()
    with pytest.raises(anthropic.APIStatusError, match="busy"):
        read_by_sdk(begun + ERROR)
