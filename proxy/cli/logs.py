"""The log: lines on standard error, for people or as JSON; never prompts, never secrets."""

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

from proxy.config.schema import Log
from proxy.core.entities import UsageRecord
from proxy.core.moments import rfc3339
from proxy.core.money import decimal_text

logger = logging.getLogger("sluice.exchange")

# A line that holds what strangers wrote, such as a model's name, must not fill the disk.
MAX_MESSAGE = 4096


def configure(log: Log) -> None:
    """Send everything that is logged to standard error, one line for each event."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log.format == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=log.level.upper(), force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it does is told by our own server


def log_exchange(record: UsageRecord) -> None:
    """Log the end of one exchange."""
    fields = {
        "id": record.id,
        "key": record.key_id,
        "account": record.account,
        "endpoint": record.endpoint,
        "stream": record.stream,
        "model": record.model,
        "provider": record.provider,
        "upstream_model": record.upstream_model,
        "status": record.status,
        "finish": str(record.finish),
        "error": record.error_code,
        "billing": str(record.billing),
        "input_tokens": record.usage.input_tokens,
        "output_tokens": record.usage.output_tokens,
        "cost": decimal_text(record.cost_nanos),
        "attempts": len(record.attempts),
        **record.timings,
    }
    logger.info("exchange", extra={"fields": fields})


class TextLines(logging.Formatter):
    """`time LEVEL logger: message name=value …`; line breaks and control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_plain(value)}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname} {record.name}: {_message(record)}"
        return _escaped(line + fields) + _traceback(self, record)


class JsonLines(logging.Formatter):
    """One JSON object on a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_fields(record),
        }
        if traceback := _traceback(self, record).strip():
            line["traceback"] = traceback
        return json.dumps(line, ensure_ascii=False)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return {name: value for name, value in fields.items() if value is not None}


def _time(record: logging.LogRecord) -> str:
    return rfc3339(int(record.created * 1000))


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    return message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "…"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return "\n" + formatter.formatException(record.exc_info) if record.exc_info else ""


def _plain(value: object) -> str:
    """Return a value as it can be told from its neighbours: in quotes where it has spaces."""
    text = str(value)[:MAX_MESSAGE]
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
