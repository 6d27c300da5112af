"""What the requests of both directions share."""

from collections.abc import Mapping
from typing import NamedTuple

from proxy.dialects.members import Fields


class Translated(NamedTuple):
    """A request in another dialect, and how often each thing that it cannot say was left out.

    Names of unknown things are the client's own text.
    """

    body: Fields
    dropped: Mapping[str, int]
