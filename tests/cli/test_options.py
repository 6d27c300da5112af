"""Option values."""

from argparse import ArgumentTypeError
from datetime import date
from typing import Any

import pytest

from proxy.cli import options
from proxy.cli.options import or_word, strictly


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (options.names, "a", ["a"]),
        (options.names, "a, b-*,c/d", ["a", "b-*", "c/d"]),
        (options.networks, "10.0.0.0/8,::1", ["10.0.0.0/8", "::1"]),
        (options.positive, "1", 1),
        (options.amount, "5", "5"),
        (options.amount, "0.000000001", "0.000000001"),
        (options.some_amount, "0.01", "0.01"),
        (options.signed_amount, "-5.00", "-5.00"),
        (options.signed_amount, "123456789012345", "123456789012345"),
        (options.month, "2026-02", "2026-02"),
        (options.port, "0", 0),
        (options.port, "65535", 65535),
        (options.day, "2026-01-31", "2026-01-31"),
        (options.expiry, "30d", 2_592_000),
        (options.expiry, "2027-01-31", date(2027, 1, 31)),
        (or_word("never", options.expiry), "never", None),
        (or_word("none", options.positive), "5", 5),
    ],
)
def test_right_values(parse: Any, text: str, value: object) -> None:
    assert strictly(parse)(text) == value


@pytest.mark.parametrize(
    ("parse", "texts"),
    [
        (options.names, ["", "a,,b", ",", "a,"]),
        (options.networks, ["", "localhost", "10.0.0.1/8", "10.0.0.0/8,x"]),
        (options.positive, ["", "0", "-1", "1.5", "1e3", "٣", "all", "1" * 16]),
        (options.amount, ["", "-5", "5,00", "1e3", "0.0000000001", "$5", "nan", "1" * 10]),
        (options.some_amount, ["", "0", "0.00", "-5", "5,00"]),
        (options.signed_amount, ["", "0", "-0.00", "+5", "5,00", "1e3", "--5"]),
        (options.month, ["", "2026", "2026-13", "2026-1", "2026-01-01", "May"]),
        (options.port, ["", "-1", "65536", "http"]),
        (options.day, ["", "2026-1-1", "2026-02-30", "today"]),
        (options.expiry, ["", "30", "30x", "2027-02-30", "tomorrow", "never"]),
    ],
)
def test_wrong_values_say_why(parse: Any, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ArgumentTypeError) as raised:
            strictly(parse)(text)
        assert text.rpartition(",")[2] in str(raised.value)
