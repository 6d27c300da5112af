"""Chooses whom each attempt asks, and learns from how it went. docs/providers.md, "Which route is tried" """

import random

from proxy.core.errors import ErrorClass, Unavailable, UpstreamFailure
from proxy.core.health import RetryBudget
from proxy.gateway.admission import Admitted
from proxy.gateway.affinity import Affinity, Conversation, conversation_of
from proxy.gateway.clock import Clock
from proxy.gateway.fleet import Attempt, Fleet
from proxy.gateway.interruption import Interruption
from proxy.gateway.planning import Chance, Choice, Option, Plan, options_of, preferring
from proxy.gateway.waiting import WaitingRoom

MAX_ATTEMPTS = 3
# What comes after the request was sent: the provider may be at work on it, and charge for it.
_READ_TIMEOUTS = frozenset({"upstream_first_byte_timeout", "upstream_idle_timeout", "upstream_total_timeout"})


class Route:
    """The way of one exchange through the deployments that may answer it."""

    def __init__(
        self, router: "Router", admitted: Admitted, plan: Plan, conversation: Conversation | None
    ) -> None:
        self._router = router
        self._admitted = admitted
        self._conversation = conversation
        self._arrived_ns = admitted.now.monotonic_ns
        self._attempts = 0
        self._attempt: Attempt | None = None
        self._is_counted = False
        #: Whether a retry was taken from the budget, and not used yet.
        self._has_retry = False
        self._failure: UpstreamFailure | None = None
        self.plan = plan

    async def choose(self, interruption: Interruption) -> Choice:
        """Return whom to ask, once somebody may be asked.

        Raises:
            UpstreamFailure: nobody else may be asked; why the last one, or everybody before, failed.
            Unavailable: no place became free in time, or nobody is left at all.
            Interrupted: the exchange was told to end meanwhile.
        """
        router, clock = self._router, self._router.clock
        if not self._is_counted:
            self._is_counted = True
            router.retries.request(clock.monotonic_ns())
        if self._attempts >= MAX_ATTEMPTS:
            raise self._nobody()
        choice = await self._next(interruption) or self.plan.last_resort(clock.monotonic_ns())
        if choice is None or not self._may_attempt():
            raise self._nobody()
        self._attempts += 1
        return choice

    async def _next(self, interruption: Interruption) -> Choice | None:
        """Return what may be asked now; for the first attempt, wait for it if all that could be is busy."""
        clock, room, plan = self._router.clock, self._router.room, self.plan
        if self._failure is not None:  # it came before all who wait
            return plan.next(clock.monotonic_ns())
        choice = plan.next(clock.monotonic_ns(), room.is_awaited)
        while choice is None and plan.is_worth_waiting(clock.monotonic_ns()):
            room.check()
            key = self._admitted.key.key.id
            await interruption.waiting(room.wait(key, plan.providers, plan.look_again_ns, self._arrived_ns))
            choice = plan.next(clock.monotonic_ns())
        return choice

    def _may_attempt(self) -> bool:
        """Return whether the budget lets one more attempt be made, and take a retry from it."""
        if self._attempts and not self._has_retry:
            self._has_retry = self._router.retries.take(self._router.clock.monotonic_ns())
            return self._has_retry
        return True

    def _nobody(self) -> UpstreamFailure | Unavailable:
        """Return why nobody is asked: what this request met itself, else what others met before it.

        Of limited rates, with the time until the first of all candidates is back.
        """
        failure, rests = self._failure, self.plan.cause(self._router.clock.monotonic_ns())
        if failure is None:
            return rests or Unavailable(
                "no_available_provider", "Every provider of this model is disabled.", retry_after_s=60
            )
        if failure.error_class is ErrorClass.RATE and rests is not None:
            return failure.again(rests.retry_after_s or 0)
        return failure

    def leave_out(self, option: Option) -> None:
        """A deployment cannot be asked this request: that was no attempt."""
        self._attempts -= 1
        self.plan.leave_out(option.candidate)

    def begin(self, choice: Choice) -> None:
        """An attempt begins; `end` it exactly once."""
        option, forced = choice
        option.provider.take_turn(option.key)
        self._has_retry = False
        self._attempt = self._router.fleet.begin(
            option.provider,
            option.candidate.deployment,
            option.key,
            self._router.clock.monotonic_ns(),
            forced=forced,
        )

    def answered(self, option: Option) -> None:
        """The provider's answer has begun, or is complete."""
        assert self._attempt is not None, "it has begun"
        self._router.fleet.answered(self._attempt)
        self._router.room.look()
        if self._conversation is not None:
            now_ns = self._router.clock.monotonic_ns()
            self._router.affinity.note(self._conversation.id, option.identity, now_ns)

    def failed(self, option: Option, failure: UpstreamFailure) -> None:
        """An attempt failed; what is to blame rests."""
        assert self._attempt is not None, "it has begun"
        self._failure = failure
        self._router.fleet.failed(self._attempt, failure, self._router.clock.monotonic_ns())
        if failure.error_class is ErrorClass.SERVER:
            self.plan.provider_failed(option)

    def end(self, option: Option, first_byte_ms: float | None = None) -> None:
        """An attempt is over, however it went: its place is free."""
        assert self._attempt is not None, "it has begun"
        self._router.fleet.end(self._attempt, self._router.clock.monotonic_ns(), first_byte_ms)
        self._router.room.look()

    def goes_on(self, option: Option, failure: UpstreamFailure) -> bool:
        """Return whether another attempt may follow a failure before anything was sent to the client."""
        if failure.error_class is ErrorClass.CONTEXT_LENGTH:
            return self._turn_to_larger_models()
        if failure.code in _READ_TIMEOUTS and not option.provider.config.retry_on_read_timeout:
            return False
        return failure.retryable

    def _turn_to_larger_models(self) -> bool:
        candidates = self._admitted.context_fallbacks
        self.plan.turn_to(options_of(candidates, self._admitted.snapshot, self._router.chance))
        return bool(self.plan.options)


class Router:
    """What all routes share: states, waiting requests, the budget of retries, conversations."""

    def __init__(self, clock: Clock, chance: Chance = random.random) -> None:
        self.clock = clock
        self.chance = chance
        self.fleet = Fleet()
        self.room = WaitingRoom(clock)
        self.retries = RetryBudget()
        self.affinity = Affinity()

    def route(self, admitted: Admitted) -> Route:
        """Return the way of a request. Nothing is taken or changed."""
        candidates = (*admitted.candidates, *admitted.fallbacks)
        options = options_of(candidates, admitted.snapshot, self.chance)
        conversation = None
        if len(options) > 1:
            conversation = conversation_of(admitted.request, admitted.key.key.id)
        if conversation is not None and conversation.continues:
            options = preferring(options, self.affinity.served(conversation.id, self.clock.monotonic_ns()))
        return Route(self, admitted, Plan(options, self.fleet), conversation)
