"""`POST /admin/api/keys/{id}/chat`: an administrator's chat completion as one of the API keys."""

from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.core.errors import RequestRefused
from proxy.gateway.keystate import KeyState
from proxy.gateway.management import Management
from proxy.gateway.request import CHAT
from proxy.web.inference import Inference
from proxy.web.resources import Gate


class KeyChat:
    """Runs, limits and bills a request as the key in its path; docs/api.md, "Keys".

    It goes the way of every other request. Only the addresses from which the key may be used do not
    matter: it is not the key that asks.
    """

    def __init__(self, inference: Inference, management: Management) -> None:
        self._inference = inference
        self._management = management

    def behind(self, gate: Gate) -> ASGIApp:
        """Return the ASGI application, which lets in whom the gate does."""

        def find_key(scope: Scope, now_ms: int) -> KeyState:
            gate(scope)
            if scope["method"] != "POST":
                raise RequestRefused(
                    "method_not_allowed",
                    f"This path takes POST, not {scope['method']}.",
                    status=405,
                    headers={"allow": "POST"},
                )
            key = self._management.key(scope["path_params"]["id"])
            key.check(now_ms)
            key.last_used_ms = now_ms
            return key

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self._inference(CHAT, scope, receive, send, find_key)

        return app
