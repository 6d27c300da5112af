"""What the scenarios of one run share: cores, mock upstream, loader, and how a gateway is made."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from measure import Loader
from processes import ROOT, BenchError, build
from servers import Gateway, Target, start_mock, start_nginx

PROGRAMS = ROOT / "bench" / "build"


def choose_cores() -> tuple[int, int]:
    """Return the core of the measured target and that of mock and load.

    Raises:
        BenchError: this process may use only one core.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError("two cores are needed: one for the target, one for mock and load")
    return allowed[0], allowed[1]


class Session:
    """Builds the programs and starts the mock; everything started ends when `stack` closes.

    Files of all processes, databases included, are in `folder`.
    """

    def __init__(self, stack: ExitStack, folder: Path, gateway_command: Sequence[str]) -> None:
        self.stack = stack
        self.folder = folder
        self.gateway_command = gateway_command
        self.cores = choose_cores()
        build(PROGRAMS)
        self.mock = start_mock(stack, PROGRAMS, folder, self.cores[1])
        self.loader = Loader(PROGRAMS / "load", self.cores[1], self.mock)

    def nginx(self) -> Target:
        return start_nginx(self.stack, self.mock, self.folder, self.cores[0])

    def gateway(self, name: str, *, mode: str = "track", command: Sequence[str] | None = None) -> Gateway:
        """Return a gateway, not started yet, with an empty database in a folder of its own."""
        command = command or self.gateway_command
        return Gateway(command, self.mock, self.folder / name, self.cores[0], mode)
