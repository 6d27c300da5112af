"""`/admin/api/reload`. docs/api.md, "Reload" """

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from proxy.config.problems import ConfigError
from proxy.core.errors import BadRequest
from proxy.core.moments import rfc3339
from proxy.gateway.reload import Outcome, Reloader
from proxy.web.resources import Nothing, answer, read_query


class ReloadApi:
    """`/reload`"""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader

    async def reload(self, request: Request) -> Response:
        try:
            outcome = await self._reloader.reload()
        except ConfigError as error:
            raise BadRequest("invalid_value", str(error)) from None
        return answer({"loaded_at": rfc3339(outcome.at_ms), **_shown(outcome)})

    async def list(self, request: Request) -> Response:
        read_query(request, Nothing)
        shown = [
            {"at": rfc3339(outcome.at_ms), "error": outcome.error, **_shown(outcome)}
            for outcome in self._reloader.outcomes()
        ]
        return answer({"data": shown, "next_cursor": None})


def _shown(outcome: Outcome) -> dict[str, Any]:
    changes = [
        {"path": change.path, "change": change.change, "detail": change.detail} for change in outcome.changes
    ]
    return {
        "changes": changes,
        "effects": outcome.impact,
        "restart_needed": outcome.waiting,
    }
