"""`POST /admin/api/reload`. docs/api.md, "Configuration" """

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from proxy.config.problems import ConfigError
from proxy.core.errors import BadRequest
from proxy.core.moments import rfc3339
from proxy.gateway.reload import Outcome, Reloader
from proxy.web.resources import answer


class ReloadApi:
    """`/reload`"""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader

    async def reload(self, request: Request) -> Response:
        try:
            outcome = await self._reloader.reload()
        except ConfigError as error:
            raise BadRequest("invalid_value", str(error)) from None
        return answer(_shown(outcome))


def _shown(outcome: Outcome) -> dict[str, Any]:
    changes = [
        {"path": change.path, "change": change.change, "detail": change.detail} for change in outcome.changes
    ]
    return {
        "loaded_at": rfc3339(outcome.loaded_ms),
        "changes": changes,
        "effects": outcome.impact,
        "restart_needed": outcome.waiting,
    }
