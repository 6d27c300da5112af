"""How the providers' deployments and keys stand: what rests, what is busy, what may be tried.

The states outlive a reload of the configuration where their subject does: they go by the names of
provider and model, and by the secret of a key. docs/providers.md, "Resting"
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.core.buckets import TokenBucket
from proxy.core.errors import ErrorClass, UpstreamFailure
from proxy.core.health import LAST_KEY_REST, REST, Breaker, Condition, LastHour, Rest
from proxy.core.routing import Deployment
from proxy.upstream.providers import ProviderClient, UpstreamKey

# Clients may write any model name after a provider's: what is known of models is bounded.
MOST_MODELS = 10_000
#: Once in so long something that rests is tried all the same, when nothing else is left.
LAST_RESORT_NS = 5 * 10**9

_KEY_CLASSES = (ErrorClass.AUTH, ErrorClass.QUOTA)


class Cause(NamedTuple):
    """The last failure of a key or deployment, and when it was."""

    failure: UpstreamFailure
    at_ns: int


@dataclass(slots=True)
class KeyHealth:
    """One provider key: rests of its own, and those that hold for one model."""

    #: After failures about the key itself: refused, or without funds.
    rest: Rest = field(default_factory=Rest)
    #: After 429s, by upstream model.
    paces: OrderedDict[str, Rest] = field(default_factory=OrderedDict)
    running: int = 0
    bucket: TokenBucket | None = None
    #: Since the last reset.
    cause: Cause | None = None


@dataclass(slots=True)
class DeploymentHealth:
    breaker: Breaker = field(default_factory=Breaker)
    cause: Cause | None = None
    #: When it was last tried although it, or all keys for it, rested.
    last_resort_ns: int | None = None


@dataclass(slots=True)
class ProviderHealth:
    running: int = 0
    #: By hand; until enabled again, or the end of the process.
    disabled: bool = False
    #: When it was reset; calls that had begun before tell nothing of it.
    reset_ns: int = 0
    keys: dict[bytes, KeyHealth] = field(default_factory=dict)
    hour: LastHour = field(default_factory=LastHour)


@dataclass(slots=True, eq=False)
class Attempt:
    """One call of a deployment with a key, from its beginning to the end of its answer."""

    provider: ProviderClient
    deployment: Deployment
    key: UpstreamKey
    begun_ns: int
    #: The states that it counts in.
    state: "ProviderHealth"
    health: KeyHealth
    model: DeploymentHealth
    #: The provider answered, at least with a beginning, or with an error of the request's own.
    answered: bool = False
    failed: bool = False


class Standing(NamedTuple):
    """How a deployment stands with one of its provider's keys. `until_ns`: when that may change."""

    condition: Condition
    until_ns: int | None = None
    cause: UpstreamFailure | None = None

    @property
    def ready(self) -> bool:
        return self.condition is Condition.READY


_READY = Standing(Condition.READY)


class Fleet:
    """The states of all providers. Everything happens on the event loop."""

    def __init__(self) -> None:
        self._providers: dict[str, ProviderHealth] = {}
        self._deployments: OrderedDict[tuple[str, str], DeploymentHealth] = OrderedDict()

    # -- reading

    def provider(self, name: str) -> ProviderHealth:
        found = self._providers.get(name)
        if found is None:
            found = self._providers[name] = ProviderHealth()
        return found

    def key(self, provider: ProviderClient, key: UpstreamKey) -> KeyHealth:
        keys = self.provider(provider.name).keys
        found = keys.get(key.digest)
        if found is None:
            found = keys[key.digest] = KeyHealth()
        return found

    def deployment(self, provider: str, model: str) -> DeploymentHealth:
        name = (provider, model)
        found = self._deployments.get(name)
        if found is None:
            if len(self._deployments) >= MOST_MODELS:
                self._deployments.popitem(last=False)
            found = self._deployments[name] = DeploymentHealth()
        else:
            self._deployments.move_to_end(name)  # what is forgotten is what nobody asks for
        return found

    def deployments_of(self, provider: str) -> dict[str, DeploymentHealth]:
        """Return what is known of a provider's models."""
        return {model: health for (name, model), health in self._deployments.items() if name == provider}

    def breakers(self) -> dict[tuple[str, str], Breaker]:
        """Return all breakers that are not closed, by provider and model."""
        return {name: health.breaker for name, health in self._deployments.items() if health.breaker.strikes}

    def standing(
        self, provider: ProviderClient, deployment: Deployment, key: UpstreamKey, now_ns: int
    ) -> Standing:
        """Return whether a deployment may be asked with a key now."""
        state = self.provider(provider.name)
        if state.disabled:
            return Standing(Condition.DISABLED)
        health = state.keys.get(key.digest) or self.key(provider, key)
        model = self._deployments.get((provider.name, deployment.model))
        if not (health.rest.strikes or health.paces or (model is not None and model.breaker.strikes)):
            return self._busy(state, provider, health, key, now_ns)  # as nearly always
        rests: list[tuple[Rest, Condition]] = [(health.rest, Condition.RESTING)]
        pace = health.paces.get(deployment.model)
        if pace is not None:
            rests.append((pace, Condition.RESTING))
        if model is not None:
            rests.append((model.breaker, Condition.OPEN))
        closed = [(rest, condition) for rest, condition in rests if rest.strikes]
        resting = [(rest, condition) for rest, condition in closed if rest.rests(now_ns)]
        if resting:
            longest, condition = max(resting, key=lambda item: item[0].until_ns)
            return Standing(condition, longest.until_ns, longest.cause)
        for rest, _ in closed:
            if rest.trying:
                return Standing(Condition.TRYING, None, rest.cause)
        return self._busy(state, provider, health, key, now_ns)

    def ready_key(self, provider: ProviderClient, deployment: Deployment, now_ns: int) -> UpstreamKey | None:
        """Return the next key by which a deployment may be asked now, None if there is none."""
        ready = (
            key for key in provider.keys_in_turn() if self.standing(provider, deployment, key, now_ns).ready
        )
        return next(ready, None)

    def _busy(
        self,
        state: ProviderHealth,
        provider: ProviderClient,
        health: KeyHealth,
        key: UpstreamKey,
        now_ns: int,
    ) -> Standing:
        most = provider.config.concurrency
        if most is not None and state.running >= most:
            return Standing(Condition.BUSY)
        limits = key.config
        if limits is None:
            return _READY
        if limits.concurrency is not None and health.running >= limits.concurrency:
            return Standing(Condition.BUSY)
        if limits.rpm is not None:
            wait_ns = self._bucket(health, limits.rpm, now_ns).wait_ns(1, now_ns)
            if wait_ns:
                return Standing(Condition.BUSY, now_ns + wait_ns)
        return _READY

    @staticmethod
    def _bucket(health: KeyHealth, rpm: int, now_ns: int) -> TokenBucket:
        if health.bucket is None:
            health.bucket = TokenBucket(rpm, now_ns)
        elif health.bucket.limit != rpm:
            health.bucket.resize(rpm, now_ns)
        return health.bucket

    def may_be_forced(self, deployment: Deployment, now_ns: int) -> bool:
        """Return whether a deployment may be tried although it rests: once in five seconds."""
        last_ns = self.deployment(deployment.provider, deployment.model).last_resort_ns
        return last_ns is None or now_ns - last_ns >= LAST_RESORT_NS

    # -- what happens

    def begin(
        self,
        provider: ProviderClient,
        deployment: Deployment,
        key: UpstreamKey,
        now_ns: int,
        *,
        forced: bool = False,
    ) -> Attempt:
        """An attempt begins; `end` it exactly once. After a rest it is the one that tries.

        `forced`: it is made although something rests. Its failure makes no rest longer.
        """
        state, health = self.provider(provider.name), self.key(provider, key)
        model = self.deployment(deployment.provider, deployment.model)
        if forced:
            model.last_resort_ns = now_ns
        state.running += 1
        health.running += 1
        if key.config is not None and key.config.rpm is not None:
            self._bucket(health, key.config.rpm, now_ns).take(1, now_ns)
        attempt = Attempt(provider, deployment, key, now_ns, state, health, model)
        if not forced:
            for rest in _rests(attempt):
                rest.begin(now_ns)
        return attempt

    def answered(self, attempt: Attempt) -> None:
        """The provider answers: what rested when the attempt began works again."""
        attempt.answered = True
        for rest in _rests(attempt):
            rest.answer(attempt.begun_ns)
        paces = attempt.health.paces
        pace = paces.get(attempt.deployment.model)
        if pace is not None and not pace.strikes:
            del paces[attempt.deployment.model]

    def failed(self, attempt: Attempt, failure: UpstreamFailure, now_ns: int) -> None:
        """An attempt failed: let rest what is to blame."""
        kind, model = failure.error_class, attempt.deployment.model
        health = attempt.health
        attempt.failed = True
        if attempt.begun_ns < attempt.state.reset_ns:
            return
        if kind in _KEY_CLASSES:
            health.cause = Cause(failure, now_ns)
            is_last = self._is_last(attempt.provider, attempt.key, now_ns)
            health.rest.strike(attempt.begun_ns, now_ns, LAST_KEY_REST if is_last else REST[kind], failure)
        elif kind is ErrorClass.RATE:
            health.cause = Cause(failure, now_ns)
            asked_s = failure.retry_after_s
            asked_ns = None if asked_s is None else int(asked_s * 10**9)
            self._pace(health, model).strike(attempt.begun_ns, now_ns, REST[kind], failure, asked_ns)
        elif kind is ErrorClass.SERVER:
            attempt.model.cause = Cause(failure, now_ns)
            attempt.model.breaker.fail(attempt.begun_ns, now_ns, failure)
        else:  # the request's own fault: the provider works
            attempt.failed = False
            self.answered(attempt)

    def end(self, attempt: Attempt, now_ns: int, first_byte_ms: float | None = None) -> None:
        """An attempt, with all of its answer, is over: its place is free.

        If it told nothing of the provider, another one may try what rested. `first_byte_ms`: how long
        the provider's status took, if it came.
        """
        attempt.state.hour.add(now_ns, attempt.failed, first_byte_ms)
        attempt.state.running -= 1
        attempt.health.running -= 1
        for rest in _rests(attempt):
            rest.leave(attempt.begun_ns)
        if attempt.answered and not attempt.failed:
            attempt.model.breaker.succeed(now_ns)

    # -- by hand

    def reset(self, provider: str, now_ns: int = 0) -> None:
        """End all rests of a provider and close its breakers; calls begun before `now_ns` tell nothing."""
        self.provider(provider).reset_ns = now_ns
        for key in self.provider(provider).keys.values():
            key.rest.open()
            key.paces.clear()
            key.cause = None
        self.close_breakers(provider)

    def close_breakers(self, provider: str) -> None:
        """Close all breakers of a provider: it answers."""
        for deployment in self.deployments_of(provider).values():
            deployment.breaker.reset()
            deployment.cause = deployment.last_resort_ns = None

    def _pace(self, health: KeyHealth, model: str) -> Rest:
        found = health.paces.get(model)
        if found is None:
            if len(health.paces) >= MOST_MODELS:
                health.paces.popitem(last=False)
            found = health.paces[model] = Rest()
        return found

    def _is_last(self, provider: ProviderClient, failing: UpstreamKey, now_ns: int) -> bool:
        """Return whether a provider with several keys would have none left without this one."""
        others = [key for key in provider.keys if key is not failing]
        return bool(others) and all(self.key(provider, key).rest.rests(now_ns) for key in others)


def _rests(attempt: Attempt) -> list[Rest]:
    """Return what rests, or is being tried, of all that an attempt has to do with: mostly nothing."""
    health, breaker = attempt.health, attempt.model.breaker
    rests: list[Rest] = []
    if health.rest.strikes:
        rests.append(health.rest)
    if health.paces and (pace := health.paces.get(attempt.deployment.model)) is not None:
        rests.append(pace)
    if breaker.strikes:
        rests.append(breaker)
    return rests
