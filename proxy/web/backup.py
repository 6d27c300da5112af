"""`/admin/api/backup`: the database as one file. docs/api.md, "Backup" """

import asyncio
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from proxy.gateway.clock import Clock
from proxy.store.backups import Backup, Backups
from proxy.web.body import ClientDisconnected
from proxy.web.resources import Nothing, read_object, read_query

#: Registered with IANA for SQLite's files.
MEDIA_TYPE = "application/vnd.sqlite3"
_MAX_BODY_BYTES = 1024


class BackupApi:
    """`/backup`"""

    def __init__(self, backups: Backups, clock: Clock) -> None:
        self._backups = backups
        self._clock = clock

    async def make(self, request: Request) -> Response:
        read_query(request, Nothing)
        await read_object(request, Nothing, _MAX_BODY_BYTES)
        at = datetime.fromtimestamp(self._clock.time_s(), UTC)
        making = asyncio.ensure_future(self._backups.make())
        leaving = asyncio.ensure_future(_left(request.receive))
        try:
            await asyncio.wait((making, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not making.done():
                raise ClientDisconnected
            return BackupAnswer(making.result(), f"sluice-{at:%Y%m%dT%H%M%SZ}.db")
        finally:
            leaving.cancel()
            making.cancel()


class BackupAnswer(Response):
    """Sends a backup piece by piece, and closes it whichever way that ends."""

    def __init__(self, backup: Backup, name: str) -> None:
        headers = {
            "content-disposition": f'attachment; filename="{name}"',
            "content-length": str(backup.size_bytes),
        }
        super().__init__(headers=headers, media_type=MEDIA_TYPE)
        self._backup = backup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            left = self._backup.size_bytes
            async for piece in self._backup.pieces():
                if leaving.done():
                    return
                left -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
        finally:
            leaving.cancel()
            self._backup.close()


async def _left(receive: Receive) -> None:
    """Wait until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
