"""The tries of one exchange, as its receipt lists them."""

from proxy.core.entities import Attempt
from proxy.gateway.clock import Clock


class AttemptLog:
    """Notes each upstream try: to whom, how it answered, how long it took."""

    __slots__ = ("_clock", "_current", "_done", "_started_ms", "_started_ns", "_status", "first_byte_ms")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._done: list[Attempt] = []
        self._current: tuple[str, str, str | None] | None = None
        self._started_ms = self._started_ns = 0
        self._status: int | None = None
        #: How long the status of the latest try took, if it came.
        self.first_byte_ms: float | None = None

    def begin(self, provider: str, model: str, provider_key: str | None) -> None:
        self._current = (provider, model, provider_key)
        self._started_ms = self._clock.now_ms()
        self._started_ns = self._clock.monotonic_ns()
        self._status = self.first_byte_ms = None

    def answered(self, status: int) -> None:
        """The provider's status and headers are here."""
        self._status = status
        self.first_byte_ms = self._elapsed_ms()

    def end(self, error: str | None = None) -> None:
        """The try is over, with an error code if it failed; ending it again changes nothing."""
        if self._current is None:
            return
        self._done.append(self._attempt(self._current, error))
        self._current = None

    @property
    def count(self) -> int:
        return len(self._done) + (self._current is not None)

    def attempts(self) -> tuple[Attempt, ...]:
        """Return all tries; the one that runs as if it ended now."""
        running = () if self._current is None else (self._attempt(self._current, None),)
        return (*self._done, *running)

    def _attempt(self, tried: tuple[str, str, str | None], error: str | None) -> Attempt:
        provider, model, provider_key = tried
        return Attempt(
            provider,
            model,
            provider_key,
            self._started_ms,
            self._status,
            error,
            self.first_byte_ms,
            self._elapsed_ms(),
        )

    def _elapsed_ms(self) -> float:
        return (self._clock.monotonic_ns() - self._started_ns) // 1000 / 1000
