"""The scripted model provider: it holds the conversation of `turns` in three dialects, and judges requests.

script = Script(KINDS[0])
with Upstream(threaded=True) as upstream:
    upstream.handler = script
    ...                               # run a program
    script.faults, script.asked       # what was wrong, and in which dialects it was asked
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any

from tests.clients.programs import chat, messages, responses
from tests.clients.programs.turns import next_turn
from tests.support.replies import Reply, json_reply, models
from tests.support.upstream import Request

#: What the provider is called in the gateway's configuration, its only model, and its key.
PROVIDER = "scripted"
MODEL = "scripted-model"
KEY = "provider-key-of-the-script"

DIALECTS: Mapping[str, ModuleType] = MappingProxyType(
    {"chat": chat, "responses": responses, "messages": messages}
)
#: What reaches a provider through the gateway: nothing else of a client's.
_HEADERS = {
    *("host", "content-length", "content-type", "accept", "accept-encoding", "user-agent"),
    *("authorization", "x-api-key", "openai-beta", "anthropic-version", "anthropic-beta"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of provider, by the dialects it speaks; the first one is what all others become.

    `provider` has its entry in the gateway's configuration, less its key, URLs as `{url}`; it is
    None where the program talks to the provider directly.
    """

    name: str
    serves: tuple[str, ...]
    provider: Mapping[str, str] | None

    def expected(self, dialect: str) -> str:
        """Return the dialect in which a request of this dialect must arrive: untranslated if possible."""
        return dialect if dialect in self.serves else self.serves[0]


DIRECT = Kind("direct", ("chat", "responses", "messages"), None)
KINDS = (
    Kind("chat only", ("chat",), {"base_url": "{url}/v1"}),
    Kind("messages only", ("messages",), {"protocol": "anthropic", "base_url": "{url}"}),
    Kind("responses too", ("chat", "responses"), {"base_url": "{url}/v1", "responses_base_url": "{url}/v1"}),
)


@dataclass
class Script:
    """The handler of an upstream."""

    kind: Kind
    faults: list[str] = field(default_factory=list)
    #: Requests for an answer, by the dialect they came in.
    asked: Counter[str] = field(default_factory=Counter)
    requests: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        path = request.target.partition("?")[0]
        if request.method == "GET" and path.endswith("/models"):
            return models(MODEL)
        if path.endswith("/count_tokens"):
            return json_reply({"input_tokens": 7})
        for name, dialect in DIALECTS.items():
            if request.method == "POST" and path.endswith(dialect.PATH) and name in self.kind.serves:
                return self._answer(name, dialect, request)
        return self._refuse(chat, f"{request.method} {request.target} was not expected")

    def _answer(self, name: str, dialect: ModuleType, request: Request) -> Reply:
        body: dict[str, Any] = request.json
        self.asked[name] += 1
        if faults := faults_of(dialect, body) + self._gateway_faults(request):
            return self._refuse(dialect, f"{name}: {'; '.join(faults)}")
        reply: Reply = dialect.reply(body, next_turn(dialect.results(body), dialect.tools(body)))
        return reply

    def _gateway_faults(self, request: Request) -> list[str]:
        """Return what the gateway let through, or did not exchange."""
        if self.kind.provider is None:
            return []
        faults = [f"the header {name}" for name, _ in request.headers if name not in _HEADERS]
        if KEY not in (
            request.header("x-api-key"),
            (request.header("authorization") or "")[len("Bearer ") :],
        ):
            faults.append("the provider's key is missing")
        if (model := json.loads(request.body)["model"]) != MODEL:
            faults.append(f"the model {model}")
        return faults

    def _refuse(self, dialect: ModuleType, fault: str) -> Reply:
        self.faults.append(fault)
        refusal: Reply = dialect.refusal(fault)
        return refusal


def faults_of(dialect: ModuleType, body: Mapping[str, Any]) -> list[str]:
    """Return what a strict provider would refuse in a request."""
    try:
        return list(dialect.faults(body))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [f"malformed: {error!r}"]
