"""Errors as clients see them, and the page that lists them. docs/errors.md"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import errors
from proxy.core.errors import (
    BadRequest,
    InternalError,
    RateLimited,
    RequestRefused,
    SluiceError,
    Unavailable,
    UpstreamAnswer,
    UpstreamError,
    UpstreamRefused,
)
from proxy.web.errors import dialect_of, render, stream_frame

ROOT = Path(__file__).parents[2]
ID = "req_0123"


class TestEnvelope:
    @pytest.mark.parametrize("dialect", ["chat", "responses"])
    def test_of_openai(self, dialect: str) -> None:
        status, headers, body = render(BadRequest("invalid_value", "Wrong.", param="n"), dialect, ID)
        assert status == 400
        assert json.loads(body) == {
            "error": {
                "message": "Wrong.",
                "type": "invalid_request_error",
                "param": "n",
                "code": "invalid_value",
                "request_id": ID,
            }
        }
        assert dict(headers) == {
            b"content-type": b"application/json",
            b"content-length": b"%d" % len(body),
            b"x-request-id": ID.encode(),
            b"x-should-retry": b"false",
        }

    def test_of_anthropic(self) -> None:
        _, headers, body = render(BadRequest("invalid_value", "Wrong."), "messages", ID)
        assert json.loads(body) == {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "Wrong.", "code": "invalid_value"},
            "request_id": ID,
        }
        assert dict(headers)[b"request-id"] == dict(headers)[b"x-request-id"] == ID.encode()

    def test_of_anthropic_names_the_member(self) -> None:
        body = render(BadRequest("invalid_value", "Wrong.", param="n"), "messages", ID)[2]
        assert json.loads(body)["error"]["param"] == "n"

    @pytest.mark.parametrize("dialect", ["chat", "messages"])
    def test_carries_details_and_headers(self, dialect: str) -> None:
        error = UpstreamError(
            "upstream_error",
            "It failed.",
            details={"upstream": UpstreamAnswer("ali", 500, None, "oops")},
            headers={"X-RateLimit-Remaining-Requests": "3"},
        )
        _, headers, body = render(error, dialect, ID)
        upstream = {"provider": "ali", "status": 500, "code": None, "message": "oops"}
        assert json.loads(body)["error"]["upstream"] == upstream
        assert dict(headers)[b"x-ratelimit-remaining-requests"] == b"3"

    @pytest.mark.parametrize("dialect", ["chat", "messages"])
    def test_of_text_that_is_no_unicode(self, dialect: str) -> None:
        error = UpstreamError("upstream_error", "\ud83d", details={"upstream": UpstreamAnswer("ali")})
        body = render(error, dialect, ID)[2]
        assert json.loads(body)["error"]["message"] == "\ud83d"
        assert json.loads(body)["error"]["upstream"]["provider"] == "ali"

    @given(st.text(), st.text())
    def test_of_any_text(self, message: str, param: str) -> None:
        body = render(BadRequest("invalid_value", message, param=param), "chat", ID)[2]
        assert json.loads(body)["error"]["message"] == message
        assert b"\n" not in body

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (402, "billing_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (405, "invalid_request_error"),
            (408, "timeout_error"),
            (409, "invalid_request_error"),
            (413, "request_too_large"),
            (421, "invalid_request_error"),
            (422, "invalid_request_error"),
            (429, "rate_limit_error"),
            (431, "invalid_request_error"),
            (500, "api_error"),
            (502, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
        ],
    )
    def test_anthropics_type_of_each_status(self, status: int, kind: str) -> None:
        body = render(UpstreamRefused("x", "y", status=status), "messages", ID)[2]
        assert json.loads(body)["error"]["type"] == kind


class TestRetrying:
    def test_is_left_open_when_unknown(self) -> None:
        names = [name for name, _ in render(InternalError("internal_error", "Broken."), "chat", ID)[1]]
        assert b"x-should-retry" not in names
        assert b"retry-after" not in names

    @pytest.mark.parametrize(
        ("after_s", "seconds", "milliseconds"),
        [
            (0, b"1", b"1"),
            (0.0004, b"1", b"1"),
            (0.25, b"1", b"250"),
            (1, b"1", b"1000"),
            (1.0000000001, b"1", b"1000"),
            (1.001, b"2", b"1001"),
            (59.9999, b"60", b"60000"),
            (86_400, b"86400", b"86400000"),
        ],
    )
    def test_after(self, after_s: float, seconds: bytes, milliseconds: bytes) -> None:
        headers = dict(render(RateLimited("rpm_exceeded", "Slower.", retry_after_s=after_s), "chat", ID)[1])
        assert headers[b"retry-after"] == seconds
        assert headers[b"retry-after-ms"] == milliseconds
        assert headers[b"x-should-retry"] == b"true"

    @pytest.mark.parametrize("error", [RateLimited("rpm_exceeded", "."), Unavailable("overloaded", ".")])
    def test_after_an_unknown_time(self, error: SluiceError) -> None:
        assert dict(render(error, "chat", ID)[1])[b"retry-after"] == b"1"

    @pytest.mark.parametrize(
        "error",
        [RateLimited("tpm_exceeded", ".", should_retry=False), RequestRefused("x", ".", should_retry=True)],
    )
    def test_never_or_not_by_time(self, error: SluiceError) -> None:
        assert b"retry-after" not in dict(render(error, "chat", ID)[1])


class TestStreamFrame:
    ERROR = UpstreamError("upstream_reset", "Gone.")

    def test_of_chat(self) -> None:
        frame = stream_frame(self.ERROR, "chat", ID)
        assert frame.startswith(b"data: ")
        assert frame.endswith(b"}\n\n")
        data = json.loads(frame[6:])
        assert list(data) == ["error"]
        assert data["error"]["code"] == "upstream_reset"

    def test_of_messages(self) -> None:
        event, data = stream_frame(self.ERROR, "messages", ID).removesuffix(b"\n\n").split(b"\n")
        assert event == b"event: error"
        assert json.loads(data.removeprefix(b"data: "))["error"]["type"] == "api_error"

    def test_of_responses(self) -> None:
        begun = {"id": "resp_1", "object": "response", "model": "m", "status": "in_progress", "output": [1]}
        frame = stream_frame(self.ERROR, "responses", ID, sequence_number=7, response=begun)
        event, data = frame.removesuffix(b"\n\n").split(b"\n")
        assert event == b"event: response.failed"
        assert json.loads(data.removeprefix(b"data: ")) == {
            "type": "response.failed",
            "sequence_number": 7,
            "response": {
                "id": "resp_1",
                "object": "response",
                "output": [1],
                "model": "m",
                "status": "failed",
                "error": {
                    "code": "upstream_reset",
                    "message": "Gone.",
                    "type": "upstream_error",
                    "request_id": ID,
                },
            },
        }

    def test_of_a_response_not_begun(self) -> None:
        data = json.loads(stream_frame(self.ERROR, "responses", ID).split(b"data: ")[1])
        assert data["response"]["id"] == f"resp_{ID}"
        assert data["response"]["status"] == "failed"


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", "messages"),
        ("/api/v1/messages/count_tokens", "messages"),
        ("/v1/responses", "responses"),
        ("/v1/chat/completions", "chat"),
        ("/v1/messages_", "chat"),
        ("", "chat"),
    ],
)
def test_dialect_of_a_path(path: str, dialect: str) -> None:
    assert dialect_of(path) == dialect


# -- the page


@dataclass(frozen=True)
class Documented:
    status: int
    type: str
    retry: str


def documented() -> dict[str, Documented]:
    """Return the rows of the page's tables of codes, by code."""
    rows: dict[str, Documented] = {}
    statuses: list[int] = []
    kind = ""
    for line in (ROOT / "docs" / "errors.md").read_text("utf-8").splitlines():
        if line.startswith("### "):
            statuses = [int(number) for number in re.findall(r"\b\d{3}\b", line)]
        elif statuses and re.match(r"`\w+` · ", line):
            kind = line.split("`")[1]
        elif statuses and (row := re.match(r"\| `(\w+)` \| (?:(\d{3}) \|)?.* \| ([^|]*) \|$", line)):
            code, status, retry = row.groups()
            assert code not in rows, f"{code} is documented twice"
            rows[code] = Documented(int(status or statuses[0]), kind, retry)
    return rows


@dataclass(frozen=True)
class Raised:
    """A place in the code where an error with a code is made; None: not decided there."""

    code: str
    status: int | None
    type: str | None
    should_retry: bool | None
    place: str


def raised() -> Iterator[Raised]:
    classes = dict(inspect.getmembers(errors, inspect.isclass))
    for path in sorted((ROOT / "proxy").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            code = node.args[0].value
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            if issubclass(classes.get(name, object), SluiceError):
                given = {
                    word.arg: word.value.value if isinstance(word.value, ast.Constant) else None
                    for word in node.keywords
                }
                made = classes[name]
                retry = given.get("should_retry", made.should_retry)
                yield Raised(code, given.get("status", made.status), made.type, retry, place)
            elif name == "__init__" and isinstance(code, str) and re.fullmatch("[a-z]+(_[a-z]+)+", code):
                yield Raised(code, None, None, None, place)  # a class with a code of its own


RAISED = list(raised())


def test_the_code_is_searched() -> None:
    """Guards the tests below against passing because nothing was found."""
    assert {"invalid_value", "internal_error", "misdirected_request"} <= {each.code for each in RAISED}
    assert len(documented()) > 40


@pytest.mark.parametrize("each", RAISED, ids=lambda each: f"{each.code} at {each.place}")
def test_each_code_is_documented_as_it_is_raised(each: Raised) -> None:
    row = documented().get(each.code)
    assert row is not None, f"{each.code} of {each.place} is missing in docs/errors.md"
    assert each.status in (row.status, None)
    assert each.type in (row.type, None)
    if each.should_retry is not None:
        assert ("yes" if each.should_retry else "no") in row.retry


def test_codes_that_are_composed_are_documented() -> None:
    """Some codes are chosen from tables rather than written where they are raised."""
    pattern = re.compile(
        r'"((?:rpm|tpm|rpd|tpd|concurrency)_exceeded|upstream_(?:\w+_(?:timeout|failed|truncated)|reset))"'
    )
    found = {
        code for path in (ROOT / "proxy").rglob("*.py") for code in pattern.findall(path.read_text("utf-8"))
    }
    assert found <= set(documented())
