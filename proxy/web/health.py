"""Whether the gateway is alive, and whether it can take requests. Neither asks a provider."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from proxy import __version__
from proxy.core.moments import rfc3339
from proxy.gateway.gateway import Gateway
from proxy.gateway.reload import Reloader
from proxy.store.writer import Writer
from proxy.web.resources import Resource, answer


def health_routes(gateway: Gateway, writer: Writer, reloader: Reloader) -> list[BaseRoute]:
    """Return the routes; they are open to everybody."""
    health = Health(gateway, writer, reloader)
    return [
        Route("/healthz", Resource(_open, GET=health.alive)),
        Route("/readyz", Resource(_open, GET=health.ready)),
    ]


class Health:
    """`/healthz` and `/readyz`. docs/operations.md, "Health" """

    def __init__(self, gateway: Gateway, writer: Writer, reloader: Reloader) -> None:
        self._gateway = gateway
        self._writer = writer
        self._reloader = reloader

    async def alive(self, request: Request) -> Response:
        return answer({"status": "ok", "version": __version__})

    async def ready(self, request: Request) -> Response:
        """503 while stopping, or while nothing can be recorded."""
        writable = self._writer.healthy
        stopping = self._gateway.stopping
        status = "stopping" if stopping else "ok" if writable else "unavailable"
        report = {
            "status": status,
            "version": __version__,
            "config": {"loaded_at": rfc3339(self._reloader.loaded_ms), "error": self._reloader.error},
            "database": "ok" if writable else "not writable",
        }
        return answer(report, 200 if status == "ok" else 503)


def _open(scope: Scope) -> None:
    """Let everybody in: load balancers have no key."""
