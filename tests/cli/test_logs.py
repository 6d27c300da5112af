"""The lines of the log."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from proxy.cli import logs
from proxy.cli.logs import MAX_MESSAGE, JsonLines, TextLines
from proxy.config.schema import Log
from tests.support.records import record

TIME = 1_790_000_000.123


def event(message: str, *values: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("sluice.test", logging.WARNING, "file.py", 1, message, values, None)
    made.created = TIME
    if fields:
        made.fields = fields
    return made


def failed() -> logging.LogRecord:
    made = event("broke")
    try:
        int("no luck")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def test_a_line_for_people() -> None:
    line = TextLines().format(event("%s is %d", "it", 5, id="req_1", model="a b", error=None, text='"'))
    assert line == ('2026-09-21T14:13:20.123Z WARNING sluice.test: it is 5 id=req_1 model="a b" text="\\""')


def test_a_line_for_programs() -> None:
    assert json.loads(JsonLines().format(event("it is %d", 5, id="req_1", error=None))) == {
        "time": "2026-09-21T14:13:20.123Z",
        "level": "warning",
        "logger": "sluice.test",
        "message": "it is 5",
        "id": "req_1",
    }


@pytest.mark.parametrize("lines", [TextLines(), JsonLines()])
@pytest.mark.parametrize("text", ["a\r\nINFO forged", "\x1b[31m", "\u2028", "\0"], ids=ascii)
def test_nobody_writes_a_line_of_their_own(lines: logging.Formatter, text: str) -> None:
    line = lines.format(event("%s", text, model=text))
    assert line.isprintable() or json.loads(line)["message"] == text
    assert len(line.split("\n")) == 1


@pytest.mark.parametrize("lines", [TextLines(), JsonLines()])
def test_long_messages_are_cut(lines: logging.Formatter) -> None:
    assert len(lines.format(event("x" * 10**6))) < MAX_MESSAGE + 200


def test_a_traceback_follows_its_line() -> None:
    first, *rest = TextLines().format(failed()).split("\n")
    assert first.endswith("broke")
    assert "ValueError" in rest[-1]
    assert "ValueError" in json.loads(JsonLines().format(failed()))["traceback"]


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    """Give the root logger its handlers back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("untouched_logging")
@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exchange_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str], form: str) -> None:
    logs.configure(Log(format=form))
    logs.log_exchange(record(1, key_id="key_9"))
    logging.getLogger("sluice.other").debug("not at this level")
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    if form == "json":
        shown = json.loads(line)
        assert (shown["key"], shown["finish"], shown["cost"]) == ("key_9", "ok", "0.001234567")
        assert shown["total"] == 900.25
    else:
        assert "key=key_9" in line
        assert "status=200 finish=ok" in line
