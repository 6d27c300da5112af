"""The log: one line per event on standard error, for people or as JSON. docs/operations.md, "Log"

Never prompts, never secrets. Lines are written by a thread of their own: a standard error that is
blocked or full delays no request; what does not fit the queue meanwhile is counted and dropped.
"""

import json
import logging
import os
import re
import select
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable

import msgspec

from proxy.config import schema
from proxy.core.entities import Billing, Finish, UsageRecord
from proxy.core.moments import rfc3339
from proxy.core.money import decimal_text

# A blocked standard error costs a few megabytes of memory, no more.
MAX_QUEUED_LINES = 10_000
# Of a message, and of a traceback; a name that a stranger made up gets less.
MAX_TEXT = 4096
MAX_NAME = 128
# Waking the writing thread costs as much as a line's rendering fifty times: it waits for more lines.
BATCH_S = 0.05
# How long the end of the process waits for the last lines.
CLOSE_S = 2.0

# These libraries tell at lower levels what they do for each request, headers with keys included.
_LIBRARIES = ("aiosqlite", "asyncio", "httpcore2", "httpx2", "uvicorn")
# What every provider's keys begin with that has a fixed beginning, and whatever follows "Bearer".
_SECRET = re.compile(r"(sk-(?:[a-z]{1,10}-)?|AIza|Bearer\s+)[A-Za-z0-9_.~+/=-]{8,}")
# Text that needs no quotation marks between name=value pairs.
_WORD = re.compile(r"[\w./:@+*-]{1,128}")


class ExchangeLine(msgspec.Struct):
    """The line of one exchange, as JSON has it."""

    time: str
    level: str
    logger: str
    message: str
    id: str
    key: str
    account: str
    dialect: str
    endpoint: str
    stream: bool
    model: str
    provider: str | None
    upstream_model: str | None
    status: int
    finish: Finish
    billing: Billing
    error: str | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost: str
    attempts: int
    first_output_ms: float | None
    total_ms: float | None
    client_request_id: str | None


class Logs:
    """Everything that is logged by this process, from `Logs(…)` to `close()`."""

    def __init__(self, settings: schema.Log, fd: int | None = None) -> None:
        """Log to a file descriptor, by default that of standard error."""
        self._stamp = Stamp()
        self.writer = LineWriter(sys.stderr.fileno() if fd is None else fd, self._describe_loss)
        self._handler = LineHandler(self.writer)
        self._json = False
        self._exchanges = True
        self._found_levels = {name: logging.getLogger(name).level for name in ("", *_LIBRARIES)}
        self.apply(settings)
        logging.getLogger().addHandler(self._handler)
        for name in _LIBRARIES:
            logging.getLogger(name).setLevel(logging.WARNING)

    def apply(self, settings: schema.Log) -> None:
        """Use another level or format from the next line on."""
        self._json = settings.format == "json"
        self._handler.setFormatter(JsonLine(self._stamp) if self._json else TextLine(self._stamp))
        level = logging.getLevelName(settings.level.upper())
        logging.getLogger().setLevel(level)
        self._exchanges = level <= logging.INFO

    def exchange(self, record: UsageRecord, client_request_id: str | None = None) -> None:
        """Log the end of one exchange. `client_request_id` is the id that the client itself gave it."""
        if not self._exchanges:
            return
        render = json_exchange if self._json else text_exchange
        self.writer.put(render(record, client_request_id, self._stamp(record.ended_ms)))

    def close(self) -> None:
        """Write what is queued, as far as that is possible in CLOSE_S; leave logging as it was found."""
        logging.getLogger().removeHandler(self._handler)
        for name, level in self._found_levels.items():
            logging.getLogger(name).setLevel(level)
        self._handler.close()

    def _describe_loss(self, count: int) -> str:
        text = "%d log lines were dropped: standard error did not take them"
        record = logging.LogRecord("sluice.log", logging.WARNING, "", 0, text, (count,), None)
        return self._handler.format(record)


class LineWriter:
    """Writes lines to a file descriptor, in batches, in a thread of its own."""

    def __init__(self, fd: int, describe_loss: Callable[[int], str]) -> None:
        self._fd = fd
        self._describe_loss = describe_loss
        self._lines: deque[str] = deque()
        self._wake = threading.Event()
        self._closed = threading.Event()
        #: Lines that were never written, of the whole life of the process.
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue a line, without its end; from any thread, never waiting."""
        if len(self._lines) >= MAX_QUEUED_LINES:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what is queued, for at most CLOSE_S."""
        self._closed.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        told = 0
        while not self._closed.is_set():
            self._wake.wait()
            self._closed.wait(BATCH_S)
            self._wake.clear()
            while self._lines:
                dropped = self.dropped
                batch = [self._describe_loss(dropped - told)] if dropped > told else []
                batch += [self._lines.popleft() for _ in range(min(len(self._lines), 1000))]
                told = dropped
                self._write("\n".join((*batch, "")).encode("utf-8", "backslashreplace"), len(batch))

    def _write(self, data: bytes, lines: int) -> None:
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:
                    select.select([], [self._fd], [])
        except OSError:  # closed, or on a full disk: there is nowhere to complain
            self.dropped += lines


class LineHandler(logging.Handler):
    """Queues each record as one line."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # as logging's own handlers: a faulty log call must not fail its caller
            self.handleError(record)
        else:
            self._writer.put(line)

    def close(self) -> None:
        """Write what is queued; logging itself calls this when the process ends."""
        self._writer.close()
        super().close()


class Stamp:
    """Moments as text, to the millisecond; many are asked for in each second."""

    def __init__(self) -> None:
        self._cached = (-1, "")

    def __call__(self, unix_ms: int) -> str:
        second, ms = divmod(unix_ms, 1000)
        cached, text = self._cached
        if cached != second:
            text = rfc3339(second * 1000)[:-4]
            self._cached = (second, text)
        return f"{text}{ms:03d}Z"


class TextLine(logging.Formatter):
    """`time LEVEL logger: message | traceback`"""

    def __init__(self, stamp: Stamp) -> None:
        super().__init__()
        self._stamp = stamp

    def format(self, record: logging.LogRecord) -> str:
        time_ = self._stamp(int(record.created * 1000))
        line = f"{time_} {record.levelname} {record.name}: {_message(record)}"
        return redacted(f"{line} | {text}" if (text := _traceback(record)) else line)


class JsonLine(TextLine):
    """One JSON object: time, level, logger, message, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self._stamp(int(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(_message(record)),
        }
        if text := _traceback(record):
            line["traceback"] = redacted(text)
        return msgspec.json.encode(line).decode()


def text_exchange(r: UsageRecord, client_request_id: str | None, stamp: str) -> str:
    """Return the line of one exchange for people."""
    usage, timings = r.usage, r.timings
    line = (
        f"{stamp} INFO sluice.exchange: id={r.id} key={r.key_id} account={word(r.account)}"
        f" dialect={r.dialect} endpoint={r.endpoint} model={word(r.model)} provider={word(r.provider)}"
        f" upstream_model={word(r.upstream_model)} status={r.status} finish={r.finish}"
        f" billing={r.billing} error={word(r.error_code)} in={usage.input_tokens}"
        f" out={usage.output_tokens} cached={usage.cached_tokens} cost={decimal_text(r.cost_nanos)}"
        f" attempts={len(r.attempts)} first_output_ms={timings.get('first_output_ms', '-')}"
        f" total_ms={timings.get('total_ms', '-')} client_request_id={word(client_request_id)}"
    )
    return redacted(line)


def json_exchange(r: UsageRecord, client_request_id: str | None, stamp: str) -> str:
    """Return the line of one exchange as JSON."""
    line = ExchangeLine(
        time=stamp,
        level="info",
        logger="sluice.exchange",
        message="exchange",
        id=r.id,
        key=r.key_id,
        account=r.account,
        dialect=r.dialect,
        endpoint=r.endpoint,
        stream=r.stream,
        model=cleaned(r.model, MAX_NAME),
        provider=r.provider,
        upstream_model=r.upstream_model,
        status=r.status,
        finish=r.finish,
        billing=r.billing,
        error=r.error_code,
        input_tokens=r.usage.input_tokens,
        output_tokens=r.usage.output_tokens,
        cached_tokens=r.usage.cached_tokens,
        cost=decimal_text(r.cost_nanos),
        attempts=len(r.attempts),
        first_output_ms=r.timings.get("first_output_ms"),
        total_ms=r.timings.get("total_ms"),
        client_request_id=client_request_id and cleaned(client_request_id, MAX_NAME),
    )
    return redacted(msgspec.json.encode(line).decode())


def word(text: str | None) -> str:
    """Return text as a value that can be told from its neighbours: in quotes where it needs them."""
    if text is None:
        return "-"
    if _WORD.fullmatch(text):
        return text
    return json.dumps(text if len(text) <= MAX_NAME else text[:MAX_NAME] + "…")


def cleaned(text: str, limit: int) -> str:
    """Return text of bounded length without line breaks, escape sequences, or halves of characters."""
    if len(text) > limit:
        text = text[:limit] + "…"
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def redacted(text: str) -> str:
    """Return text with everything that looks like a key masked.

    A second net: nothing that holds a key is meant to get here. docs/operations.md, "Secrets"
    """
    if "sk-" in text or "Bearer" in text or "AIza" in text:
        return _SECRET.sub(r"\1…", text)
    return text


def _message(record: logging.LogRecord) -> str:
    return cleaned(record.getMessage(), MAX_TEXT)


def _traceback(record: logging.LogRecord) -> str:
    """Return the traceback in one line; a long one begins further in, as its end says what happened."""
    if record.exc_info is None or record.exc_info[0] is None:
        return ""
    lines = "".join(traceback.format_exception(*record.exc_info)).splitlines()
    text = " | ".join(cleaned(line.strip(), MAX_TEXT) for line in lines if line.strip())
    return text if len(text) <= MAX_TEXT else "…" + text[-MAX_TEXT:]
