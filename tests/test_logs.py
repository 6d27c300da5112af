"""The log: its lines, and what happens when nobody takes them. docs/operations.md"""

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import logs
from proxy.config import schema
from proxy.core.entities import Billing, Finish, Usage, UsageRecord
from proxy.logs import MAX_QUEUED_LINES, LineWriter, Logs, Stamp, cleaned, redacted, word

PATIENCE_S = 10


class Pipe:
    """A standard error that somebody else reads, or does not."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()

    def read_lines(self, count: int) -> list[str]:
        """Return so many lines, waiting for them."""
        data = b""
        while data.count(b"\n") < count:
            ready, _, _ = select.select([self.out], [], [], PATIENCE_S)
            assert ready, f"only {data!r} came"
            data += os.read(self.out, 2**16)
        return data.decode("utf-8").splitlines()

    def fill(self) -> None:
        """Write as much as is taken while nobody reads."""
        os.set_blocking(self.into, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.into, b"." * 1024)

    def leave(self) -> None:
        """Stop reading: who writes is told so, and does not wait any longer."""
        if self.out >= 0:
            os.close(self.out)
            self.out = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.leave()
    os.close(made.into)


@pytest.fixture
def start(pipe: Pipe) -> Iterator[Callable[..., Logs]]:
    """Start logging to the pipe; ended after the test."""
    started: list[Logs] = []

    def begin(**settings: str) -> Logs:
        started.append(Logs(schema.Log(**settings), pipe.into))
        return started[-1]

    yield begin
    pipe.leave()
    for each in reversed(started):
        each.close()


def record(**changes: object) -> UsageRecord:
    values: dict[str, object] = {
        "id": "req_1",
        "created_ms": 1_780_000_000_000,
        "ended_ms": 1_780_000_000_123,
        "day": "2026-05-28",
        "key_id": "key_1",
        "account": "default",
        "dialect": "chat",
        "endpoint": "chat/completions",
        "stream": True,
        "model": "m",
        "provider": "ali",
        "upstream_model": "qwen3-max",
        "status": 200,
        "billing": Billing.SETTLED,
        "finish": Finish.OK,
        "error_code": None,
        "usage": Usage(10, 20, 3),
        "estimated": False,
        "cost_nanos": 123_456,
        "discount": "1",
        "price": None,
        "attempts": (),
        "timings": {"total_ms": 12.5, "first_output_ms": 3.25},
    }
    return UsageRecord(**{**values, **changes})  # type: ignore[arg-type]  # a table of many types


def log_failure(message: str, reason: str) -> None:
    """Log an exception with its traceback."""
    try:
        {}[reason]
    except LookupError:
        logging.getLogger("sluice.x").exception(message)


class TestEvents:
    def test_as_text(self, start: Callable[..., Logs], pipe: Pipe) -> None:
        start()
        logging.getLogger("sluice.x").warning("took %d s", 3)
        (line,) = pipe.read_lines(1)
        stamp, rest = line.split(" ", 1)
        assert rest == "WARNING sluice.x: took 3 s"
        assert len(stamp) == len("2026-05-28T20:26:40.123Z")

    def test_as_json(self, start: Callable[..., Logs], pipe: Pipe) -> None:
        start(format="json")
        logging.getLogger("sluice.x").warning("took %d s", 3)
        line = json.loads(pipe.read_lines(1)[0])
        assert line.pop("time").endswith("Z")
        assert line == {"level": "warning", "logger": "sluice.x", "message": "took 3 s"}

    @pytest.mark.parametrize("format_", ["text", "json"])
    def test_cannot_forge_others(self, start: Callable[..., Logs], pipe: Pipe, format_: str) -> None:
        handler = start(format=format_)._handler  # not the logger: xdist cannot report half a character
        text = "a\r\nb \x1b[31mred \x9b31m \u2028 \u202e \ud800 c"
        for message in (text, "next"):
            handler.handle(logging.LogRecord("sluice.x", logging.ERROR, "", 0, message, None, None))
        first, second = pipe.read_lines(2)
        assert first.isprintable()
        assert "\\x1b" in first
        assert "next" in second

    @pytest.mark.parametrize("format_", ["text", "json"])
    def test_tracebacks_take_one_line(self, start: Callable[..., Logs], pipe: Pipe, format_: str) -> None:
        start(format=format_)
        log_failure("broke", "over\nthere " + "x" * 10_000)
        (line,) = pipe.read_lines(1)
        assert "broke" in line
        assert line.rstrip('"}').endswith("xxx…")
        assert len(line) < 2 * logs.MAX_TEXT

    def test_short_tracebacks_are_whole(self, start: Callable[..., Logs], pipe: Pipe) -> None:
        start()
        log_failure("broke", "nowhere")
        assert "broke | Traceback (most recent call last): | File" in pipe.read_lines(1)[0]

    def test_without_an_exception_under_way(self, start: Callable[..., Logs], pipe: Pipe) -> None:
        start()
        logging.getLogger("sluice.x").error("broke", exc_info=True)
        assert pipe.read_lines(1)[0].endswith("sluice.x: broke")

    def test_long_messages_are_cut(self, start: Callable[..., Logs], pipe: Pipe) -> None:
        start()
        logging.getLogger("sluice.x").error("x" * 100_000)
        assert len(pipe.read_lines(1)[0]) < logs.MAX_TEXT + 100

    @pytest.mark.parametrize("format_", ["text", "json"])
    def test_keys_are_masked(self, start: Callable[..., Logs], pipe: Pipe, format_: str) -> None:
        start(format=format_)
        log_failure("with sk-sluice-0123456789", "sk-ant-0123456789")
        (line,) = pipe.read_lines(1)
        assert "0123456789" not in line
        assert "sk-sluice-…" in line

    def test_levels(self, start: Callable[..., Logs], pipe: Pipe) -> None:
        started = start(level="error")
        logging.getLogger("sluice.x").warning("dropped")
        started.exchange(record())
        started.apply(schema.Log(level="debug", format="json"))
        logging.getLogger("sluice.x").debug("kept")
        started.exchange(record())
        lines = [json.loads(line) for line in pipe.read_lines(2)]
        assert [line["message"] for line in lines] == ["kept", "exchange"]

    @pytest.mark.parametrize("library", ["httpcore2.http11", "uvicorn.error", "aiosqlite"])
    def test_libraries_keep_their_details(self, start: Callable[..., Logs], pipe: Pipe, library: str) -> None:
        start(level="debug")
        logging.getLogger(library).info("authorization: …")
        logging.getLogger(library).warning("kept")
        assert pipe.read_lines(1)[0].endswith("kept")

    def test_a_faulty_call_harms_nobody(
        self, start: Callable[..., Logs], pipe: Pipe, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handler = start()._handler
        for arguments in ("no number", 1):
            handler.handle(logging.LogRecord("sluice.x", logging.ERROR, "", 0, "next %d", (arguments,), None))
        assert pipe.read_lines(1)[0].endswith("next 1")
        assert "Logging error" in capsys.readouterr().err


class TestExchanges:
    def test_as_text(self, start: Callable[..., Logs], pipe: Pipe) -> None:
        start().exchange(record(error_code="upstream_reset", model="a b=\n"), "client 1")
        assert pipe.read_lines(1) == [
            "2026-05-28T20:26:40.123Z INFO sluice.exchange: id=req_1 key=key_1 account=default dialect=chat"
            ' endpoint=chat/completions model="a b=\\n" provider=ali upstream_model=qwen3-max status=200'
            " finish=ok billing=settled error=upstream_reset in=10 out=20 cached=3 cost=0.000123456"
            ' attempts=0 first_output_ms=3.25 total_ms=12.5 client_request_id="client 1"'
        ]

    def test_as_json(self, start: Callable[..., Logs], pipe: Pipe) -> None:
        start(format="json").exchange(record(provider=None, model="\x1b" + "m" * 200, timings={}))
        assert json.loads(pipe.read_lines(1)[0]) == {
            "time": "2026-05-28T20:26:40.123Z",
            "level": "info",
            "logger": "sluice.exchange",
            "message": "exchange",
            "id": "req_1",
            "key": "key_1",
            "account": "default",
            "dialect": "chat",
            "endpoint": "chat/completions",
            "stream": True,
            "model": "\\x1b" + "m" * 127 + "\\u2026",
            "provider": None,
            "upstream_model": "qwen3-max",
            "status": 200,
            "finish": "ok",
            "billing": "settled",
            "error": None,
            "input_tokens": 10,
            "output_tokens": 20,
            "cached_tokens": 3,
            "cost": "0.000123456",
            "attempts": 0,
            "first_output_ms": None,
            "total_ms": None,
            "client_request_id": None,
        }

    def test_a_key_sent_as_a_model_is_masked(self, start: Callable[..., Logs], pipe: Pipe) -> None:
        started = start()
        started.exchange(record(model="sk-proj-0123456789"))
        started.apply(schema.Log(format="json"))
        started.exchange(record(), "sk-0123456789")
        for line in pipe.read_lines(2):
            assert "0123456789" not in line

    @given(st.text(), st.none() | st.text())
    def test_any_text_makes_one_line(self, model: str, client_request_id: str | None) -> None:
        stamp = Stamp()(0)
        for render in (logs.text_exchange, logs.json_exchange):
            line = render(record(model=model), client_request_id, stamp)
            assert line.isprintable()
        json.loads(line)


def test_stamps() -> None:
    stamp = Stamp()
    assert [stamp(ms) for ms in (999, 1000, 1001, 0)] == [
        "1970-01-01T00:00:00.999Z",
        "1970-01-01T00:00:01.000Z",
        "1970-01-01T00:00:01.001Z",
        "1970-01-01T00:00:00.000Z",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "-"),
        ("deepseek/v4-pro:1@x", "deepseek/v4-pro:1@x"),
        ("通义", "通义"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('a"', '"a\\""'),
        ("\x1b\u202e", '"\\u001b\\u202e"'),
        ("x" * 200, '"' + "x" * 128 + '\\u2026"'),
    ],
)
def test_words(text: str | None, expected: str) -> None:
    assert word(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sk-0123456789abcdef", "sk-…"),
        ("key sk-proj-aaaa-bbbb_cccc.", "key sk-proj-…"),
        ("Authorization: Bearer abcdefghij", "Authorization: Bearer …"),
        ("AIzaSyA0123456789", "AIza…"),
        ("sk-sluice-…last4 and ask-me", "sk-sluice-…last4 and ask-me"),
        ("nothing here", "nothing here"),
    ],
)
def test_redaction(text: str, expected: str) -> None:
    assert redacted(text) == expected


def test_cleaning_bounds_first() -> None:
    assert cleaned("\n" * 1000, 3) == "\\n\\n\\n\\u2026"


class WatchedWriter(LineWriter):
    """A writer that tells when it takes lines from the queue."""

    def __init__(self, fd: int) -> None:
        self.taken = threading.Event()
        super().__init__(fd, lambda count: f"{count} lost")

    def _write(self, data: bytes, lines: int) -> None:
        self.taken.set()
        super()._write(data, lines)


class TestWriter:
    @pytest.fixture
    def writer(self, pipe: Pipe) -> Iterator[WatchedWriter]:
        made = WatchedWriter(pipe.into)
        yield made
        pipe.leave()
        made.close()

    def test_keeps_the_order(self, writer: WatchedWriter, pipe: Pipe) -> None:
        for number in range(5000):
            writer.put(str(number))
        assert pipe.read_lines(5000) == [str(number) for number in range(5000)]
        assert writer.dropped == 0

    @pytest.mark.parametrize("blocking", [True, False])
    def test_a_reader_that_stopped_delays_nobody(
        self, writer: WatchedWriter, pipe: Pipe, blocking: bool
    ) -> None:
        pipe.fill()
        os.set_blocking(pipe.into, blocking)
        for _ in range(MAX_QUEUED_LINES + 7):
            writer.put("x" * 1000)
        assert writer.dropped == 7
        writer.taken.wait(PATIENCE_S)  # from here on the writer is blocked
        for _ in range(MAX_QUEUED_LINES):
            writer.put("y")
        assert writer.dropped > 7
        lines = pipe.read_lines(2 * MAX_QUEUED_LINES - writer.dropped + 7)
        assert lines[0].endswith("7 lost")
        assert f"{writer.dropped - 7} lost" in lines

    def test_a_reader_that_left_is_counted(self, writer: WatchedWriter, pipe: Pipe) -> None:
        pipe.leave()
        writer.put("a")
        writer.put("b")
        writer.close()
        assert writer.dropped == 2

    def test_closing_writes_the_rest(self, writer: WatchedWriter, pipe: Pipe) -> None:
        writer.put("last")
        writer.close()
        assert pipe.read_lines(1) == ["last"]

    def test_closing_waits_for_no_blocked_reader(
        self, writer: WatchedWriter, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "CLOSE_S", 0.05)
        for _ in range(1000):
            writer.put("x" * 1000)
        writer.close()
        assert pipe.read_lines(1)[0] == "x" * 1000

    def test_the_loss_is_told_as_an_event(
        self, start: Callable[..., Logs], pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs, "MAX_QUEUED_LINES", 1)
        started = start(format="json")
        logging.getLogger("sluice.x").warning("first")
        logging.getLogger("sluice.x").warning("second")
        lines = [json.loads(line) for line in pipe.read_lines(2)]
        assert [line["message"] for line in lines] == [
            "1 log lines were dropped: standard error did not take them",
            "first",
        ]
        assert started.writer.dropped == 1


def test_the_last_lines_of_a_process_are_written() -> None:
    program = (
        "import logging; from proxy.config import schema; from proxy.logs import Logs; Logs(schema.Log());"
        "logging.getLogger('sluice.x').error('last words'); raise SystemExit(3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[1], capture_output=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr.endswith(b"ERROR sluice.x: last words\n")
    assert done.stdout == b""


def test_closing_leaves_the_levels_as_they_were(start: Callable[..., Logs]) -> None:
    before = logging.getLogger().level
    logs = start(level="debug")
    assert logging.getLogger().level == logging.DEBUG
    logs.close()
    assert logging.getLogger().level == before
