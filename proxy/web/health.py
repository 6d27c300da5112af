"""Whether the gateway is alive, and whether it can take requests. Neither asks a provider."""

from starlette.requests import Request
from starlette.responses import JSONResponse

from proxy import __version__
from proxy.core.calendar import rfc3339
from proxy.gateway.gateway import Gateway
from proxy.store.writer import Writer


class Health:
    """`/healthz` and `/readyz`. docs/operations.md, "Health" """

    def __init__(self, gateway: Gateway, writer: Writer, loaded_ms: int) -> None:
        self._gateway = gateway
        self._writer = writer
        self._loaded_ms = loaded_ms

    async def alive(self, request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__})

    async def ready(self, request: Request) -> JSONResponse:
        """503 while stopping, or while nothing can be recorded."""
        writable = self._writer.healthy
        stopping = self._gateway.stopping
        status = "stopping" if stopping else "ok" if writable else "unavailable"
        report = {
            "status": status,
            "version": __version__,
            "config": {"loaded_at": rfc3339(self._loaded_ms), "error": None},
            "database": "ok" if writable else "not writable",
        }
        return JSONResponse(report, 200 if status == "ok" else 503)
