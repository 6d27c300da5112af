"""Every shape of an error, read into one."""

import json

import msgspec
import pytest

from proxy.upstream.errorbody import ErrorFacts, error_in, read_error

SHAPES: dict[str, tuple[object, ErrorFacts]] = {
    "wrapped": (
        {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}},
        ErrorFacts("m", "c", "t", "p"),
    ),
    "in an array": ([{"error": {"message": "m", "code": "c"}}], ErrorFacts("m", "c")),
    "status as code": (
        {"error": {"message": "m", "code": 404, "status": "NOT_FOUND"}},
        ErrorFacts("m", None, "NOT_FOUND", status=404),
    ),
    "numeric code": ({"error": {"message": "m", "code": 20012}}, ErrorFacts("m", "20012")),
    "text": ({"error": "m", "code": "c"}, ErrorFacts("m", "c")),
    "flat": ({"message": "m", "code": 10007, "sid": "s"}, ErrorFacts("m", "10007")),
    "list of errors": (
        {"errors": [{"message": "m", "code": 7003}], "success": False},
        ErrorFacts("m", "7003"),
    ),
    "baidu": ({"error_code": 17, "error_msg": "m"}, ErrorFacts("m", "17")),
    "minimax": (
        {"base_resp": {"status_code": 1008, "status_msg": "m"}},
        ErrorFacts("m", "1008", base_resp=True),
    ),
    "minimax, good": ({"base_resp": {"status_code": 0}, "message": "m"}, ErrorFacts("m")),
    "detail": ({"detail": "m"}, ErrorFacts("m")),
    "detail with an object": ({"detail": {"message": "m", "code": "c"}}, ErrorFacts("m", "c")),
    "findings": (
        {"detail": [{"loc": ["body", "n"], "msg": "m"}, {"loc": "top", "msg": "m2"}]},
        ErrorFacts("body.n: m; top: m2"),
    ),
    "a list that holds no findings": ({"detail": ["a", {"b": 1}]}, ErrorFacts('["a",{"b":1}]')),
    "message that is an object": ({"message": {"a": 1}}, ErrorFacts('{"a":1}')),
    "google details": (
        {"error": {"message": "m", "details": [{"reason": "R"}, {"retryDelay": "3s"}, "x"]}},
        ErrorFacts("m", "R", retry_delay="3s"),
    ),
    "openrouter quotes": ({"error": {"message": "m", "metadata": {"raw": "cause"}}}, ErrorFacts("m: cause")),
    "openrouter without quote": ({"error": {"message": "m", "metadata": {"raw": None}}}, ErrorFacts("m")),
    "string": ("m", ErrorFacts("m")),
    "empty error": ({"error": {}, "message": "m"}, ErrorFacts("m")),
    "number": (7, ErrorFacts()),
    "empty array": ([], ErrorFacts()),
    "code that is a sentence": ({"message": "m", "code": "it went, alas, wrong!"}, ErrorFacts("m")),
    "type that is no text": ({"message": "m", "type": 7}, ErrorFacts("m")),
}


@pytest.mark.parametrize(("body", "facts"), SHAPES.values(), ids=SHAPES)
def test_shapes(body: object, facts: ErrorFacts) -> None:
    assert read_error(json.dumps(body).encode()) == facts
    assert read_error(b"\r\n\r\n" + json.dumps(body).encode()) == facts


TEXTS = {
    "plain": (b" upstream timed out \n", "upstream timed out"),
    "page with a title": (b"<!DOCTYPE html><TITLE lang=en>502 Bad\nGateway</TITLE><p>x", "502 Bad Gateway"),
    "page without a title": (b"<h1>Not&nbsp;found</h1>\n<p>nginx</p>", "Not found nginx"),
    "not UTF-8": (b"caf\xe9", "caf\ufffd"),
    "JSON cut short": (b'{"error": {"mess', '{"error": {"mess'),
    "JSON with half a surrogate pair": (rb'"\ud800"', "\ufffd"),
    "nested too deep": (b"[" * 5000, "[" * 5000),
    "empty": (b"", ""),
}


@pytest.mark.parametrize(("body", "message"), TEXTS.values(), ids=TEXTS)
def test_what_is_not_json_is_text(body: bytes, message: str) -> None:
    assert read_error(body) == ErrorFacts(message)


@pytest.mark.parametrize(
    "form",
    [
        b"%b",
        b'"%b"',
        b'{"error":"%b"}',
        b'{"detail":"%b"}',
        b'{"base_resp":{"status_code":1,"status_msg":"%b"}}',
    ],
)
def test_messages_have_a_bound(form: bytes) -> None:
    assert read_error(form % (b"x" * 100_000)).message == "x" * 8192


def test_an_answer_with_a_good_status_may_be_an_error() -> None:
    assert error_in(b'{"error": {"message": "m"}}') == ErrorFacts("m")
    assert error_in(b'[{"error": {"message": "m"}}]') == ErrorFacts("m")
    assert error_in(b'{"message": "m", "code": "c"}') == ErrorFacts("m", "c")
    assert error_in(b'{"message": "m", "code": "c", "choices": []}') is None
    assert error_in(b'{"error": null, "choices": []}') is None


def test_an_answer_that_is_not_json_is_not_judged() -> None:
    with pytest.raises(msgspec.DecodeError):
        error_in(b"<html>")
    with pytest.raises(msgspec.DecodeError):
        error_in(b'{"choices": [')
