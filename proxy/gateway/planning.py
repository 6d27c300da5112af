"""In which order deployments and their keys are tried: decided here for requests, dry runs, and `explain`.

docs/providers.md, "Which route is tried"
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from proxy.core.errors import UpstreamFailure
from proxy.core.health import Condition
from proxy.gateway.affinity import Served
from proxy.gateway.costing import Candidate
from proxy.gateway.fleet import LAST_RESORT_NS, Fleet, Standing
from proxy.gateway.snapshot import Snapshot
from proxy.upstream.providers import ProviderClient, UpstreamKey

_SOON = frozenset({Condition.READY, Condition.BUSY})
_NOT_NOW = frozenset({Condition.RESTING, Condition.OPEN, Condition.TRYING})

#: Returns a number from 0 up to 1.
Chance = Callable[[], float]


class Option(NamedTuple):
    """A deployment with one of its provider's keys: what one attempt asks."""

    candidate: Candidate
    provider: ProviderClient
    key: UpstreamKey

    @property
    def name(self) -> tuple[str, str]:
        """The provider and the model that it is asked for."""
        return self.candidate.deployment.provider, self.candidate.deployment.model

    @property
    def identity(self) -> Served:
        """What it has in common with the same deployment and key in another place."""
        return Served(*self.name, self.key.digest)

    def standing(self, fleet: Fleet, now_ns: int) -> Standing:
        """Return whether it may be asked now."""
        return fleet.standing(self.provider, self.candidate.deployment, self.key, now_ns)


def options_of(candidates: Sequence[Candidate], snapshot: Snapshot, chance: Chance) -> list[Option]:
    """Return every deployment with each of its keys, in the order of priorities, weights and turns.

    Deployments of one priority are shuffled, a heavier one earlier as a rule; keys begin with the
    one whose turn it is. Taking turns is the caller's: nothing is changed here.
    """
    options: list[Option] = []
    for candidate in candidates if len(candidates) == 1 else _in_order(candidates, chance):
        provider = snapshot.providers[candidate.deployment.provider]
        options += [Option(candidate, provider, key) for key in provider.keys_in_turn()]
    return options


def preferring(options: list[Option], served: Served | None) -> list[Option]:
    """Return the options with the one first, within its priority, that served the conversation last."""
    for position, option in enumerate(options):
        if served == option.identity:
            rank = option.candidate.rank
            first = next(index for index, other in enumerate(options) if other.candidate.rank == rank)
            return [*options[:first], option, *options[first:position], *options[position + 1 :]]
    return options


def _in_order(candidates: Sequence[Candidate], chance: Chance) -> Iterator[Candidate]:
    for _, group in groupby(candidates, key=lambda candidate: candidate.rank):
        equals = list(group)
        if len(equals) == 1:
            yield equals[0]
            continue
        # Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006): with these keys the
        # first is each one with a probability in proportion to its weight, and so on among the rest.
        keys = [chance() ** (1 / candidate.deployment.weight) for candidate in equals]
        for index in sorted(range(len(equals)), key=keys.__getitem__, reverse=True):
            yield equals[index]


class Choice(NamedTuple):
    """What to ask next. `forced`: it rests, but nothing else is left."""

    option: Option
    forced: bool = False


def _not_awaited(provider: str) -> bool:
    return False


class Plan:
    """The options of one exchange, and which of them are still to be tried."""

    def __init__(self, options: list[Option], fleet: Fleet) -> None:
        self._options = options
        self._fleet = fleet
        self._failed: set[tuple[str, str]] = set()
        self._tried: set[Served] = set()
        #: All that were not left out, also when they have been tried: where a cause may be found.
        self._known = list(options)

    @property
    def candidates(self) -> list[Candidate]:
        """The deployments that are still to be tried, each once, in their order."""
        return list({id(option.candidate): option.candidate for option in self._options}.values())

    @property
    def options(self) -> Sequence[Option]:
        """What is still to be tried, in its order."""
        return self._options

    @property
    def providers(self) -> set[str]:
        """The providers of what is still to be tried."""
        return {option.provider.name for option in self._options}

    def next(self, now_ns: int, awaited: Callable[[str], bool] = _not_awaited) -> Choice | None:
        """Return what to ask next, None if nothing may be asked now.

        Where the provider itself has failed, its other keys come last; one that others wait for
        (`awaited`) is not asked.
        """
        last: Option | None = None
        for option in self._options:
            if option.standing(self._fleet, now_ns).ready and not awaited(option.provider.name):
                if option.name not in self._failed:
                    return self._take(option)
                last = last or option
        return None if last is None else self._take(last)

    def is_worth_waiting(self, now_ns: int) -> bool:
        """Return whether something may be asked, or is merely busy."""
        return any(standing.condition in _SOON for standing in self._standings(now_ns))

    def look_again_ns(self, now_ns: int) -> int | None:
        """Return when one that waits should look again: now, if something may be asked or waiting is in vain.

        None: when something else tells it to.
        """
        standings = self._standings(now_ns)
        conditions = {standing.condition for standing in standings}
        if Condition.READY in conditions or Condition.BUSY not in conditions:
            return now_ns
        return min((item.until_ns for item in standings if item.until_ns is not None), default=None)

    def last_resort(self, now_ns: int) -> Choice | None:
        """Return an option that rests and may be tried all the same: the one whose rest ends first."""
        resting = [
            (standing.until_ns or 0, position)
            for position, option in enumerate(self._options)
            if (standing := option.standing(self._fleet, now_ns)).condition in _NOT_NOW
            and self._fleet.may_be_forced(option.candidate.deployment, now_ns)
        ]
        return self._take(self._options[min(resting)[1]], forced=True) if resting else None

    def cause(self, now_ns: int) -> UpstreamFailure | None:
        """Return why everything rests: the cause of what is back first, with how long that takes."""
        found: tuple[int, UpstreamFailure] | None = None
        for option in self._known:
            standing = option.standing(self._fleet, now_ns)
            # what is being tried tells soon; until then there is the last resort
            until_ns = now_ns + LAST_RESORT_NS if standing.until_ns is None else standing.until_ns
            if standing.cause is not None and (found is None or until_ns < found[0]):
                found = until_ns, standing.cause
        return None if found is None else found[1].again((found[0] - now_ns) / 10**9)

    def leave_out(self, candidate: Candidate) -> None:
        """Never try a deployment: it cannot be asked this request."""
        self._options = [option for option in self._options if option.candidate is not candidate]
        self._known = [option for option in self._known if option.candidate is not candidate]

    def provider_failed(self, option: Option) -> None:
        """The provider itself failed there: its other keys for the model hardly do better."""
        self._failed.add(option.name)

    def turn_to(self, options: list[Option]) -> None:
        """Try these from now on, and nothing else; what has been tried, never again."""
        self._options = [option for option in options if option.identity not in self._tried]
        self._known += options

    def _take(self, option: Option, *, forced: bool = False) -> Choice:
        # A fallback may lead to the same deployment; it is not asked twice.
        self._tried.add(option.identity)
        self._options = [other for other in self._options if other.identity != option.identity]
        return Choice(option, forced)

    def _standings(self, now_ns: int) -> list[Standing]:
        return [option.standing(self._fleet, now_ns) for option in self._options]
