"""Names and addresses in a request: the host it was sent to, and the client behind proxies."""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from proxy.core.errors import BadRequest, RequestRefused

Network = IPv4Network | IPv6Network

# RFC 9112, section 3.2: Host = uri-host [ ":" port ]. Stricter than RFC 3986's reg-name, which
# also allows percent-encoding and sub-delims: no name that resolves has them.
_HOST = re.compile(rb"(?P<name>\w[\w.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>\d{0,5}))?", re.ASCII)
# How containers call the machine they run on.
_LOOPBACK_NAMES = frozenset({"localhost", "host.docker.internal", "host.containers.internal"})
# Accepted Host values are remembered as they were written; a client can invent many of them.
_MAX_REMEMBERED = 256


class HostPolicy:
    """Which hosts a server answers for. docs/configuration.md, `server.allowed_hosts`

    A page that an attacker's name leads to may point that name at this machine (DNS rebinding), and
    the browser then takes our answers for the attacker's own. Its requests still name that host.
    """

    def __init__(self, bind: str, allowed: Iterable[str]) -> None:
        """`bind` is the address listened on; `allowed` holds names, `name:port`, `*.suffix` or `*`."""
        self._patterns = tuple(_normal_pattern(pattern) for pattern in allowed)
        self._loopback = is_loopback(bind)
        self._any = not self._patterns and not self._loopback
        self._remembered: set[bytes] = set()

    def check(self, host: bytes) -> None:
        """Accept the value of a Host header, or the authority of a request target.

        Raises BadRequest for what is no host at all, RequestRefused (421) for a foreign one.
        """
        if host in self._remembered:
            return
        match = _HOST.fullmatch(host)
        if match is None:
            raise BadRequest("invalid_value", "The request's Host header is not a host name.", param="host")
        name = match["name"].decode("ascii").lower().removesuffix(".")
        port = (match["port"] or b"").decode("ascii")
        if not self._allows(name, port):
            raise RequestRefused(
                "misdirected_request",
                f'This server does not answer for the host "{name}". If it should, add "{name}" to '
                "server.allowed_hosts in its configuration.",
                status=421,
                param="host",
            )
        if len(self._remembered) < _MAX_REMEMBERED:
            self._remembered.add(host)

    def _allows(self, name: str, port: str) -> bool:
        if self._any or (self._loopback and is_loopback(name)):
            return True
        return any(_matches(pattern, name, port) for pattern in self._patterns)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address (IPv6 with or without brackets) is this machine itself."""
    name = host.lower()
    if name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    address = _address(name.strip("[]"))
    return address is not None and address.is_loopback


def networks(blocks: Iterable[str]) -> tuple[Network, ...]:
    """Return CIDR blocks, already validated, as networks; a single address is a block of its own."""
    return tuple(ip_network(block, strict=False) for block in blocks)


def forwarded_client(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> str:
    """Return the client's address: `peer`, or whom a trusted proxy names in X-Forwarded-For.

    Each proxy appends whom it received the request from, so the list is read from its right end,
    past every trusted proxy; what stands further left is the client's own claim.
    """
    if not trusted or not _is_trusted(peer, trusted):
        return peer
    client = peer
    for hop in reversed(_forwarded_for(headers)):
        address = _address(_without_port(hop))
        if address is None:
            break
        client = str(address)
        if not _is_trusted(client, trusted):
            break
    return client


def forwarded_scheme(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> str:
    """Return how the client called: by http, unless a trusted proxy says https in X-Forwarded-Proto."""
    if not trusted or not _is_trusted(peer, trusted):
        return "http"
    values = b",".join(value for name, value in headers if name == b"x-forwarded-proto")
    # The proxy before us has appended or replaced the last value; those before are others' claims.
    return "https" if values.rpartition(b",")[2].strip().lower() == b"https" else "http"


def _forwarded_for(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    values = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
    return [hop.strip() for hop in ",".join(values).split(",")] if values else []


def _without_port(hop: str) -> str:
    """Return the address of `192.0.2.1:80`, `[2001:db8::1]:80` or `2001:db8::1`."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    parsed = _address(address)
    return parsed is not None and any(parsed in network for network in trusted)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address, IPv4 within IPv6 as IPv4; None when the text is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _normal_pattern(pattern: str) -> str:
    text = pattern.lower()
    bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
    return f"[{text}]" if bare_ipv6 else text.removesuffix(".")


def _matches(pattern: str, name: str, port: str) -> bool:
    if pattern.startswith("*"):
        return name.endswith(pattern[1:])
    return pattern == name or pattern == f"{name}:{port}"
