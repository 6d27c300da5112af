"""Checks of single texts: each returns the text, perhaps normalised, or raises ValueError.

`shown` is how an error may name the text, which can be the value of a variable.
`proxy/config/urls.py` has those of hosts and URLs.
"""

import re
from ipaddress import ip_network
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from proxy.config.problems import hint

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MODEL = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_RESOURCE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
# RFC 9110, 5.6.2 (token) and 5.5 (field content, of which ASCII alone is portable).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_CONTENT = re.compile(r"[!-~]([ \t!-~]*[!-~])?")
_VISIBLE = re.compile(r"[!-~]+")
# What the HTTP client writes itself, and the connection's own fields (RFC 9110, 7.6.1).
_OWN_HEADERS = frozenset(
    (
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
    )
)
# Routes say which model, and the client says whether it wants a stream.
_OWN_MEMBERS = frozenset(("model", "stream"))


def text(text: str, shown: str) -> str:
    if not text.strip():
        raise ValueError("expected some text, not nothing")
    return text


def name(text: str, shown: str) -> str:
    """A provider or plan; without `/`, so that `provider/model` can be taken apart."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"expected a name of letters, digits, '.', '_' and '-', not {shown}")
    return text


def glob(text: str, shown: str) -> str:
    """A pattern over model names, in which each `*` stands for anything."""
    if not _MODEL.fullmatch(text):
        raise ValueError(f"expected a model name, up to 200 characters without spaces, not {shown}")
    return text


def model(text: str, shown: str) -> str:
    """A model's name, perhaps with a wildcard."""
    if text.count("*") > 1:
        raise ValueError(f"a model name may hold one *, not {text.count('*')}")
    return glob(text, shown)


def exact_model(text: str, shown: str) -> str:
    """The name of one model."""
    if "*" in text:
        raise ValueError(f"expected the name of one model, without *, not {shown}")
    return glob(text, shown)


def route(text: str, shown: str) -> str:
    provider, _, upstream = text.partition("/")
    if not (upstream and _NAME.fullmatch(provider)):
        raise ValueError(f"expected provider/model, not {shown}")
    model(upstream, shown)
    return text


def currency(text: str, shown: str) -> str:
    if not _CURRENCY.fullmatch(text):
        raise ValueError(f"expected a currency code of three capital letters, such as USD, not {shown}")
    return text


def timezone(text: str, shown: str) -> str:
    try:
        ZoneInfo(text)
    # Which error it is depends on what lies at that path of the system's database.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"unknown time zone: {shown}{hint(text, available_timezones())}") from None
    return text


def network(text: str, shown: str) -> str:
    """An address or CIDR block, normalised to a block."""
    try:
        block = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"expected an address or CIDR block, such as 10.0.0.0/8, not {shown}") from None
    if "/" in text and str(block.network_address) != text.partition("/")[0]:
        raise ValueError(f"an address inside of a block; the block is {block}")
    return str(block)


def resource(text: str, shown: str) -> str:
    """The name of an Azure resource, which becomes part of a host name."""
    if not _RESOURCE.fullmatch(text):
        raise ValueError(f"expected the resource's name alone, not {shown}")
    return text


def credential(text: str, shown: str) -> str:
    """A key as it travels in a header."""
    if not _VISIBLE.fullmatch(text):
        raise ValueError(f"{shown} holds a space, line break or character that no key has")
    return text


def header_name(text: str, shown: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{shown} is no header name")
    if text.lower() in _OWN_HEADERS:
        raise ValueError(f"{shown} is written by the gateway itself")
    return text


def header_value(text: str, shown: str) -> str:
    if not _FIELD_CONTENT.fullmatch(text):
        raise ValueError(f"{shown} holds a line break or character that no header may hold")
    return text


def member(text: str, shown: str) -> str:
    """A member of a request body."""
    if text in _OWN_MEMBERS:
        raise ValueError(f"{shown} cannot be overridden")
    return text
