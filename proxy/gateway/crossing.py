"""One request on its way to one deployment: what all that passes it on needs to know."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.core.estimation import OutputCounter
from proxy.core.tokenizers import family_of
from proxy.gateway.admission import Admitted
from proxy.gateway.costing import Candidate
from proxy.gateway.quirks import Quirks
from proxy.gateway.reasoning import ReasoningMemory
from proxy.gateway.repair import Repair
from proxy.gateway.request import CHAT
from proxy.upstream.providers import ProviderClient

# Names of unknown members are the clients' own: their number is bounded.
MAX_COUNTED = 200


@dataclass(frozen=True, slots=True)
class Passing:
    """What passages remember from one request to the next, and where they count."""

    memory: ReasoningMemory
    quirks: Quirks
    #: How often something was left out in translation, or mended, by name.
    counts: Counter[str]

    @classmethod
    def new(cls) -> "Passing":
        return cls(ReasoningMemory(), Quirks(), Counter())

    def count(self, found: Mapping[str, int]) -> None:
        """Count what was left out or mended; names that clients make up are counted as one."""
        for name, number in found.items():
            known = name if name in self.counts or len(self.counts) < MAX_COUNTED else "other"
            self.counts[known] += number


@dataclass(frozen=True, slots=True)
class Crossing:
    """One request and the deployment that it goes through."""

    admitted: Admitted
    candidate: Candidate
    provider: ProviderClient
    passing: Passing
    #: Whether the provider is asked for a stream: for the client, or because it knows nothing else.
    #: This and the next are decided once: other requests may learn of a quirk while this one runs.
    streams_up: bool
    #: Whether the provider is asked to report its usage in the stream.
    asks_usage: bool

    @classmethod
    def at(cls, admitted: Admitted, candidate: Candidate, passing: Passing) -> "Crossing":
        """Return the crossing as the quirks that are known now want it."""
        provider, quirks = admitted.snapshot.providers[candidate.deployment.provider], passing.quirks
        path = admitted.request.endpoint.path
        as_chat = path == CHAT.path or not provider.supports(path)
        only_streams = as_chat and quirks.only_streams(candidate.deployment)
        streams_up = admitted.request.stream or only_streams
        asks_usage = (
            streams_up
            and provider.config.stream_usage == "auto"
            and not quirks.refuses_stream_options(provider.config.name)
        )
        return cls(admitted, candidate, provider, passing, streams_up, asks_usage)

    @property
    def assembles(self) -> bool:
        """Whether the provider streams what the client wants whole."""
        return self.streams_up and not self.admitted.request.stream

    def counter(self) -> OutputCounter:
        return OutputCounter(family_of(self.candidate.deployment.model))

    def repair(self) -> Repair | None:
        names = self.provider.config.repair
        return Repair(names, self.passing.count) if names else None
