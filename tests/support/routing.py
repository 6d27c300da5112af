"""Routing without any network: a router over a small configuration, with a clock that a test sets."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from proxy.core.entities import Account
from proxy.core.errors import ErrorClass, UpstreamError, UpstreamFailure, UpstreamTimeout
from proxy.core.funding import Funds
from proxy.gateway.admission import Admitted, check
from proxy.gateway.fleet import Attempt, Standing
from proxy.gateway.funds import AccountFunds
from proxy.gateway.keystate import KeyState
from proxy.gateway.management import blank_key
from proxy.gateway.planning import Option, Plan
from proxy.gateway.request import CHAT, Endpoint, read_json
from proxy.gateway.router import Route, Router
from proxy.gateway.snapshot import Snapshot
from tests.support.configuration import configuration
from tests.support.keys import SetClock

HELLO = [{"role": "user", "content": "Say hello"}]


def key_state(name: str = "k") -> KeyState:
    account = Account("default", None, enabled=True, created_ms=0)
    return KeyState(replace(blank_key(0), id=name), account, AccountFunds("default", Funds()), None, now_ns=0)


def failure(kind: ErrorClass, code: str = "upstream_error", after_s: float | None = None) -> UpstreamFailure:
    error = UpstreamError(code, f"It failed: {kind}.", retry_after_s=after_s)
    error.error_class = kind
    error.retryable = kind in (ErrorClass.AUTH, ErrorClass.QUOTA, ErrorClass.RATE, ErrorClass.SERVER)
    return error


def timeout(code: str) -> UpstreamFailure:
    return UpstreamTimeout(code, "It took too long.")


class Routing:
    """A router whose shuffling keeps the order of the configuration, unless a test says otherwise."""

    def __init__(self, text: str, chance: Callable[[], float] = lambda: 0.5) -> None:
        self.clock = SetClock()
        self.snapshot = Snapshot.build(configuration(text))
        self.router = Router(self.clock, chance)
        self.fleet = self.router.fleet

    @property
    def now_ns(self) -> int:
        return self.clock.monotonic_ns()

    def wait(self, seconds: float) -> None:
        self.clock.ms += round(seconds * 1000)

    def admit(
        self, model: str = "m", key: KeyState | None = None, endpoint: Endpoint = CHAT, **members: Any
    ) -> Admitted:
        body = {"model": model, **({} if members else {"messages": HELLO}), **members}
        request = read_json(endpoint, [], msgspec.json.encode(body))
        return check(request, key or key_state(), self.snapshot, self.clock, "x")

    def route(self, model: str = "m", key: KeyState | None = None, **members: Any) -> Route:
        return self.router.route(self.admit(model, key, **members))

    def plan(self, model: str = "m", **members: Any) -> Plan:
        return self.route(model, **members).plan

    def option(self, name: str, model: str = "m") -> Option:
        """Return the option of a model that has this name: provider/model/key."""
        return next(option for option in self.plan(model).options if shown(option) == name)

    def standing(self, name: str, model: str = "m") -> Standing:
        return self.option(name, model).standing(self.fleet, self.now_ns)

    def begin(self, name: str, model: str = "m", *, forced: bool = False) -> Attempt:
        option = self.option(name, model)
        deployment = option.candidate.deployment
        return self.fleet.begin(option.provider, deployment, option.key, self.now_ns, forced=forced)

    def end(self, attempt: Attempt) -> None:
        self.fleet.end(attempt, self.now_ns)

    def succeed(self, name: str, model: str = "m", *, forced: bool = False) -> None:
        attempt = self.begin(name, model, forced=forced)
        self.fleet.answered(attempt)
        self.end(attempt)

    def fail(self, name: str, error: UpstreamFailure, model: str = "m", *, forced: bool = False) -> None:
        attempt = self.begin(name, model, forced=forced)
        self.fleet.failed(attempt, error, self.now_ns)
        self.end(attempt)


def shown(option: Option) -> str:
    """Return an option as `provider/model/key`; without a key, as `provider/model`."""
    provider, model = option.name
    key = option.key.config
    return f"{provider}/{model}" + (f"/{key.key.reveal()}" if key else "")


def names(plan: Plan) -> list[str]:
    return [shown(option) for option in plan.options]
