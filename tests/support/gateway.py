"""A whole gateway on real sockets and a real database, started for one test.

async with gateway(tmp_path, providers={"up": {"base_url": upstream.url}}) as sluice:
    answer = await sluice.http.post("/v1/chat/completions", json={…})
    receipt = await sluice.receipt(answer)
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from proxy.app import App
from proxy.config.load import ConfigFile
from proxy.core.entities import UsageRecord
from proxy.web.server import Hooks, Server

API_KEY = "sk-sluice-test-0123456789abcdefghijklmnop"
ADMIN_KEY = "sk-admin-test-0123456789abcdefghijklmnop"
PATIENCE_S = 20


@dataclass
class Sluice:
    """A running gateway, and clients of it: `http` has an API key, `admin` the admin key."""

    app: App
    server: Server
    url: str
    http: httpx2.AsyncClient
    admin: httpx2.AsyncClient
    #: Every record settled so far, in order.
    records: list[UsageRecord] = field(default_factory=list)

    async def receipt(self, answer: httpx2.Response) -> dict[str, Any]:
        """Return the receipt of an answered request."""
        found = await self.admin.get(f"/admin/api/requests/{answer.headers['x-request-id']}")
        assert found.status_code == 200, found.text
        receipt: dict[str, Any] = found.json()
        return receipt

    async def settled(self, count: int) -> list[UsageRecord]:
        """Wait until so many exchanges are settled; return them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.records) < count:
                await asyncio.sleep(0)  # the next turn of the loop, not a pause
        return self.records


def configuration(directory: Path, **settings: Any) -> Path:
    """Write a configuration (JSON is YAML) with test keys into a directory, and return its path."""
    path = directory / "config.yaml"
    whole = {"api_key": API_KEY, "admin_key": ADMIN_KEY, **settings}
    whole["server"] = {"port": 0, "shutdown_grace_s": 1, **settings.get("server", {})}
    path.write_text(json.dumps(whole))
    return path


@asynccontextmanager
async def gateway(
    directory: Path, *, environ: Mapping[str, str] | None = None, look_s: float | None = None, **settings: Any
) -> AsyncIterator[Sluice]:
    """Run a gateway with these sections of the configuration until the end of the block.

    The configuration's files are watched only with `look_s`, the seconds between two looks.
    """
    file = ConfigFile(configuration(directory, **settings), environ or {})
    config = file.read()
    records: list[UsageRecord] = []
    app = await App.open(config, lambda record, client_request_id: records.append(record), file)
    await app.first_secrets()
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    hooks = Hooks(
        on_started=lambda host, port: started.set_result(port),
        on_stop=app.gateway.stop,
        on_grace_over=app.gateway.end_all,
        on_close=app.close,
    )
    server = Server(app.asgi, config.server, hooks)
    app.reloader.follow(lambda config: server.apply(config.server))
    if look_s is not None:
        app.reloader.watch(look_s)
    serving = asyncio.create_task(server.serve())
    await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S)
    if serving.done():
        serving.result()
    url = f"http://127.0.0.1:{await started}"
    try:
        async with _client(url, API_KEY) as http, _client(url, ADMIN_KEY) as admin:
            yield Sluice(app, server, url, http, admin, records)
    finally:
        server.stop()
        await asyncio.wait_for(serving, PATIENCE_S)


def _client(url: str, key: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None)
    return httpx2.AsyncClient(
        base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=PATIENCE_S, limits=limits
    )
