"""Option values, read strictly: a wrong one ends the program with status 2 and says why."""

import argparse
import ipaddress
import re
from collections.abc import Callable
from datetime import date
from typing import TypeVar

from proxy.core.moments import parse_date, parse_duration
from proxy.core.money import parse_amount

T = TypeVar("T")


def strictly(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a parser for argparse that passes on the message of a ValueError."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def or_word(word: str, parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """Return a parser that takes `word` for None: it lifts what is set."""
    return lambda text: None if text == word else parse(text)


def names(text: str) -> list[str]:
    """Return the parts of a comma list."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ValueError(f"{text!r} has an empty part: write names with commas between them")
    return parts


def networks(text: str) -> list[str]:
    """Return a comma list of addresses and CIDR blocks."""
    parts = names(text)
    for part in parts:
        ipaddress.ip_network(part)
    return parts


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII) or not int(text):
        raise ValueError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def amount(text: str) -> str:
    """Return decimal text of the billing currency, such as `5.00`."""
    if parse_amount(text) < 0:
        raise ValueError(f"{text!r} is below zero")
    return text


def some_amount(text: str) -> str:
    """Return an amount above zero."""
    if not parse_amount(amount(text)):
        raise ValueError(f"{text!r} is nothing")
    return text


def signed_amount(text: str) -> str:
    """Return an amount, or a whole number of LLM tokens, that may be below zero."""
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,9})?", text) or not text.strip("-0."):
        raise ValueError(f"{text!r} is no amount: write one like 5.00 or -5.00")
    return text


def month(text: str) -> str:
    """Return a month such as `2027-01`."""
    try:
        return parse_date(f"{text}-01").isoformat()[:7]
    except ValueError:
        raise ValueError(f"{text!r} is not a month: write YYYY-MM") from None


def port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or int(text) > 65_535:
        raise ValueError(f"{text!r} is not a port: write 0 to 65535")
    return int(text)


def day(text: str) -> str:
    return parse_date(text).isoformat()


def expiry(text: str) -> int | date:
    """Return seconds from now (`30d`), or the day at whose start it ends (`2027-01-31`)."""
    if re.fullmatch(r"\d+[a-z]", text, re.ASCII):
        return parse_duration(text)
    try:
        return parse_date(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no expiry: write a duration like 30d or a date like 2027-01-31"
        ) from None
