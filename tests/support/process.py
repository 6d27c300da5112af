"""A gateway in a process of its own, which can be killed."""

import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]


class GatewayProcess:
    """`python -m proxy` with a configuration; a context manager that kills it at the end."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._log = config.with_suffix(".log")
        self._process: subprocess.Popen[str] | None = None
        #: Where it listens, and how long it took to.
        self.address = ("", 0)
        self.start_s = 0.0

    def __enter__(self) -> "GatewayProcess":
        begun = time.monotonic()
        command = [sys.executable, "-m", "proxy", "--config", str(self._config)]
        with self._log.open("a") as log:
            process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=log)
        self._process = process
        try:
            line = self._announcement()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.start_s = time.monotonic() - begun
        host, _, port = line.rpartition("//")[2].strip().rpartition(":")
        self.address = host, int(port)
        return self

    def _announcement(self) -> str:
        """Return the line that says where it listens."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if " listens on " in line:
                return line
        raise AssertionError(f"it did not start: {self._log.read_text()}")

    def kill(self) -> None:
        """End it at once, without a chance to do anything more."""
        assert self._process is not None
        self._process.kill()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()
