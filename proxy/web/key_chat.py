"""`POST /admin/api/keys/{id}/chat`: an administrator's chat completion as one of the API keys."""

from starlette.types import Receive, Scope, Send

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
        self.inference = inference
        self.management = management

    def behind(self, gate: Gate) -> "GatedChat":
        """Return the ASGI application, which lets in whom the gate does."""
        return GatedChat(self, gate)


class GatedChat:
    """The ASGI application of the path."""

    def __init__(self, chat: KeyChat, gate: Gate) -> None:
        self._chat = chat
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._chat.inference(CHAT, scope, receive, send, self._find_key)

    def _find_key(self, scope: Scope, now_ms: int) -> KeyState:
        self._gate(scope)
        if scope["method"] != "POST":
            raise RequestRefused(
                "method_not_allowed",
                f"This path takes POST, not {scope['method']}.",
                status=405,
                headers={"allow": "POST"},
            )
        key = self._chat.management.key(scope["path_params"]["id"])
        key.check(now_ms)
        key.last_used_ms = now_ms
        return key
