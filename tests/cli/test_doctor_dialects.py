"""Whether the clients that `doctor` plays would understand an answer."""

import json

import pytest

from proxy.cli.doctor.dialects import (
    PLAYS,
    flaw_of_chat,
    flaw_of_chat_stream,
    flaw_of_count,
    flaw_of_message,
    flaw_of_message_stream,
    flaw_of_models,
    flaw_of_response,
    flaw_of_response_stream,
    refusal,
)
from tests.support.replies import chat, chat_chunk, chat_stream, event_frame, message, message_stream, sse

RESPONSE = {"object": "response", "status": "completed", "output": [], "usage": {"input_tokens": 1}}


def responses(*types: str, **members: object) -> bytes:
    return b"".join(event_frame({"type": each, **members}) for each in types)


def changed(body: bytes, **members: object) -> bytes:
    return json.dumps(json.loads(body) | members).encode()


class TestWhole:
    @pytest.mark.parametrize(
        ("flaw", "body"),
        [
            (flaw_of_chat, chat("hello", usage=(3, 5)).body),
            (flaw_of_message, message("hello").body),
            (flaw_of_count, b'{"input_tokens": 9}'),
            (flaw_of_response, json.dumps(RESPONSE).encode()),
            (flaw_of_response, json.dumps(RESPONSE | {"status": "incomplete"}).encode()),
            (flaw_of_models, b'{"object": "list", "data": [{"id": "m"}]}'),
        ],
        ids=["chat", "messages", "count", "response", "incomplete response", "models"],
    )
    def test_good_ones(self, flaw: object, body: bytes) -> None:
        assert callable(flaw)
        assert flaw(body) is None

    @pytest.mark.parametrize(
        ("flaw", "body", "says"),
        [
            (flaw_of_chat, b"<html>", "no chat completion"),
            (flaw_of_chat, b"[]", "no chat completion"),
            (flaw_of_chat, changed(chat("x").body, choices=[]), "no message"),
            (flaw_of_chat, changed(chat("x").body, choices=[{"message": {"role": "user"}}]), "no message"),
            (flaw_of_chat, changed(chat("x").body, usage=None), "nothing of its tokens"),
            (flaw_of_message, chat("x").body, "no message"),
            (flaw_of_message, changed(message("x").body, stop_reason=None), "no stop_reason"),
            (flaw_of_message, changed(message("x").body, usage={}), "nothing of its tokens"),
            (flaw_of_count, b'{"input_tokens": "9"}', "no number"),
            (flaw_of_count, b"", "no number"),
            (flaw_of_response, b"{}", "no response"),
            (flaw_of_response, json.dumps(RESPONSE | {"status": "failed"}).encode(), "is failed"),
            (flaw_of_response, json.dumps(RESPONSE | {"usage": None}).encode(), "nothing of its tokens"),
            (flaw_of_models, b'{"data": []}', "empty"),
            (flaw_of_models, b'{"data": [{}]}', "no id"),
        ],
    )
    def test_bad_ones(self, flaw: object, body: bytes, says: str) -> None:
        assert callable(flaw)
        assert says in flaw(body)


class TestStreams:
    @pytest.mark.parametrize(
        ("flaw", "body"),
        [
            (flaw_of_chat_stream, chat_stream("Hel", "lo").body),
            (flaw_of_chat_stream, b": keep-alive\n\n" + chat_stream("x", newline="\r\n").body),
            (flaw_of_message_stream, message_stream("Hel", "lo").body),
            (flaw_of_response_stream, responses("response.created", "response.completed")),
            (flaw_of_response_stream, responses("response.created", "response.incomplete")),
        ],
        ids=["chat", "chat with comments", "messages", "responses", "incomplete responses"],
    )
    def test_good_ones(self, flaw: object, body: bytes) -> None:
        assert callable(flaw)
        assert flaw(body) is None

    @pytest.mark.parametrize(
        ("flaw", "body", "says"),
        [
            (flaw_of_chat_stream, b"", "[DONE]"),
            (flaw_of_chat_stream, chat_stream("x", done=False).body, "[DONE]"),
            (flaw_of_chat_stream, chat_stream("x", finish=None).body, "why it ends"),
            (flaw_of_chat_stream, sse("[DONE]").body, "something else"),
            (flaw_of_chat_stream, sse({"object": "odd"}, "[DONE]").body, "something else"),
            (
                flaw_of_chat_stream,
                sse(chat_chunk({}), {"error": {"message": "gone", "code": "upstream_error"}}).body,
                "upstream_error: gone",
            ),
            (flaw_of_message_stream, b"", "begin with message_start"),
            (flaw_of_message_stream, event_frame({"type": "message_start"}), "end with message_stop"),
            (flaw_of_message_stream, b'data: {"type": "message_start"}\n\n' * 2, "end with message_stop"),
            (
                flaw_of_message_stream,
                event_frame({"type": "message_start"}) + b'data: {"type": "message_stop"}\n\n',
                "not named",
            ),
            (
                flaw_of_message_stream,
                event_frame({"type": "error", "error": {"type": "api_error", "message": "gone"}}),
                "api_error: gone",
            ),
            (flaw_of_response_stream, responses("response.created"), "end with response.completed"),
            (
                flaw_of_response_stream,
                responses("response.failed", response={"error": {"code": "server_error", "message": "gone"}}),
                "server_error: gone",
            ),
            (
                flaw_of_response_stream,
                responses("error", code="server_error", message="gone"),
                "server_error: gone",
            ),
        ],
    )
    def test_bad_ones(self, flaw: object, body: bytes, says: str) -> None:
        assert callable(flaw)
        assert says in flaw(body)


class TestRefusals:
    def test_an_answer_is_none(self) -> None:
        assert refusal(200, b'{"error": {"message": "no"}}') is None

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b'{"error": {"message": "no", "code": "c", "type": "t"}}', "HTTP 502, c: no"),
            (b'{"type": "error", "error": {"message": "no", "type": "t"}}', "HTTP 502, t: no"),
            (b'{"error": {"message": "no"}}', "HTTP 502: no"),
            (b"<html>", "HTTP 502"),
            (b'{"error": "no"}', "HTTP 502"),
        ],
    )
    def test_an_error_is_told_with_its_code(self, body: bytes, says: str) -> None:
        assert refusal(502, body) == says


def test_what_is_sent() -> None:
    bodies = {play.name: play.body("p/m", "max_completion_tokens") for play in PLAYS}
    assert bodies["models"] is None
    assert bodies["chat"] == {
        "model": "p/m",
        "max_completion_tokens": 16,
        "messages": [{"role": "user", "content": "Say hello."}],
    }
    assert bodies["Messages"] == {
        "model": "p/m",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "Say hello."}],
    }
    assert bodies["Responses, streamed"] == {
        "model": "p/m",
        "max_output_tokens": 16,
        "input": "Say hello.",
        "stream": True,
    }
    assert [play.method for play in PLAYS] == ["POST"] * 7 + ["GET"]
