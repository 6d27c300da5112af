"""What the connections of one server have in common: its demands, its state, its open sockets."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from proxy.web.addresses import HostPolicy, Network


@dataclass(frozen=True, slots=True)
class Policy:
    """What the server demands of its clients; replaced as a whole when the configuration changes."""

    hosts: HostPolicy
    #: Whose X-Forwarded-For and X-Forwarded-Proto are believed.
    trusted_proxies: tuple[Network, ...] = ()
    max_connections: int = 10_000
    max_header_bytes: int = 32 * 1024
    #: Of a body that nobody reads, as much is taken off the wire: SDKs send all before they listen.
    max_discarded_bytes: int = 32 * 1024 * 1024
    header_timeout_s: float = 10
    body_timeout_s: float = 60
    #: SDKs keep idle connections for a minute; who closes first must not be us.
    keep_alive_s: float = 75
    #: How long a client may take nothing of what waits for it.
    stall_s: float = 60
    #: How long a connection that was closed on our side may stay silent.
    linger_s: float = 2


class SharedState(ServerState):
    """What the connections of a server have in common."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        #: No further requests: every answer closes its connection.
        self.stopping = False
        #: The Date header's line, renewed each second.
        self.date = b""
        #: Connections beyond the limit; they do not count towards it.
        self.refusing: set[HttpToolsProtocol] = set()
        #: Requests refused before any app saw them, by code.
        self.refused: Counter[str] = Counter()
        #: Set whenever a connection is lost; who waits for that clears it first.
        self.connection_lost = asyncio.Event()
