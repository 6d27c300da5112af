"""Hosts and URLs: checks as in `proxy/config/values.py`, and which hosts are near."""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import SplitResult, urlsplit

# Underscores are no part of a host name, but container networks have them.
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_VISIBLE = re.compile(r"[!-~]+")
_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages", "/models")
# RFC 6762 (.local), RFC 8375 (.home.arpa), ICANN's reservation of .internal, and common use.
_PRIVATE_DOMAINS = (".local", ".home.arpa", ".internal", ".lan", ".localhost")


def host(text: str, shown: str) -> str:
    """A host name or address, without brackets or port."""
    if _address(text) is None and not _is_host_name(text):
        raise ValueError(f"expected a host name or address, without scheme or port, not {shown}")
    return text


def allowed_host(text: str, shown: str) -> str:
    """A host name or address; with `*.` before it, any name below it."""
    return "*." * text.startswith("*.") + host(text.removeprefix("*."), shown).lower()


def origin(text: str, shown: str) -> str:
    """A web origin: RFC 6454, 6.2. Not `*`: any page in the operator's browser could use the API."""
    url = _split(text)
    if url is None or url.path or url.query or url.fragment or url.username is not None:
        raise ValueError(f"expected an origin, such as https://app.example.com, not {shown}")
    return text.lower()


def base_url(text: str, shown: str) -> str:
    """The URL before an endpoint's path, without a slash at its end."""
    url = _split(text)
    if url is None:
        raise ValueError(f"expected an http:// or https:// URL, not {shown}")
    if url.username is not None or url.query or url.fragment:
        raise ValueError("a base URL has no user, no ? and no #")
    base = text.rstrip("/")
    for endpoint in _ENDPOINTS:
        if base.endswith(endpoint):
            raise ValueError(f"a base URL ends before {endpoint}, which is added to it")
    return base


def proxy_url(text: str, shown: str) -> str:
    """An HTTP proxy, perhaps with user and password; no error shows it."""
    url = _split(text)
    if url is None or url.scheme != "http" or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("expected the URL of an HTTP proxy, such as http://127.0.0.1:3128")
    return text


def host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def port_of(url: str) -> int:
    split = urlsplit(url)
    return split.port or (443 if split.scheme == "https" else 80)


def path_of(url: str) -> str:
    return urlsplit(url).path


def root_of(url: str) -> str:
    """Return scheme, host and port of a URL, as they are written."""
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine is reached under a name or address."""
    address = _address(host)
    if address is None:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
    return address.is_loopback


def is_private(host: str) -> bool:
    """Return whether a name or address is by its form of this machine or the network around it."""
    address = _address(host)
    if address is None:
        return "." not in host.rstrip(".") or host.lower().rstrip(".").endswith(_PRIVATE_DOMAINS)
    return not address.is_global


def is_any(host: str) -> bool:
    """Return whether listening on this address means listening on all."""
    address = _address(host)
    return address is not None and address.is_unspecified


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def _is_host_name(text: str) -> bool:
    labels = text.removesuffix(".").split(".")
    return len(text) < 254 and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdecimal()


def _split(text: str) -> SplitResult | None:
    """Return the parts of an HTTP URL, None where it is none."""
    try:
        url = urlsplit(text) if _VISIBLE.fullmatch(text) else None
        if url is None or url.scheme not in ("http", "https") or url.port == 0:
            return None
        host(url.hostname or "", "")
    except ValueError:
        return None
    return url
