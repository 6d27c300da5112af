"""What providers turned out to refuse, so that it is not asked of them again."""

import re

from proxy.core.errors import UpstreamFailure
from proxy.core.routing import Deployment
from proxy.upstream.errorclasses import QUOTED

# Bounded, since clients may write any model name after a provider's.
MAX_REMEMBERED = 1000

_ONLY_STREAMS = re.compile(
    r"(?:only|must).{0,30}\bstream|non-?stream\w*\b.{0,40}\bnot\b|not\b.{0,40}\bnon-?stream"
    r"|enable_thinking must be set to false for non-streaming",
    re.IGNORECASE,
)


class Quirks:
    """Learnt from refusals; forgotten at the end of the process."""

    def __init__(self) -> None:
        self._no_stream_options: set[str] = set()
        self._only_streams: set[tuple[str, str]] = set()

    def refuses_stream_options(self, provider: str) -> bool:
        """Whether the provider does not take `stream_options`: its usage is estimated then."""
        return provider in self._no_stream_options

    def only_streams(self, deployment: Deployment) -> bool:
        """Whether the model only streams: its answers are put together here for other clients."""
        return (deployment.provider, deployment.model) in self._only_streams

    def forget(self, provider: str) -> None:
        """Forget what was learnt of a provider: it is another one now."""
        self._no_stream_options.discard(provider)
        self._only_streams = {found for found in self._only_streams if found[0] != provider}

    def learn(
        self, failure: UpstreamFailure, deployment: Deployment, *, asked_usage: bool, streamed: bool
    ) -> bool:
        """Return whether a refusal shows something new, so that the same may be asked another way."""
        if failure.status not in (400, 422):
            return False
        if asked_usage and "stream_options" in failure.message:
            self._no_stream_options.add(deployment.provider)
            return True
        if not streamed and _ONLY_STREAMS.search(QUOTED.sub(" ", failure.message)):
            if len(self._only_streams) >= MAX_REMEMBERED:
                self._only_streams.clear()
            self._only_streams.add((deployment.provider, deployment.model))
            return True
        return False
