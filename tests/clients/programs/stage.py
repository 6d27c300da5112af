"""One kind of provider with the gateway before it, and programs that are run against the gateway.

with Stage(kind, directory) as stage:
    faults = stage.run(program, installation, directory / "codex")
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2

from tests.clients.programs import turns
from tests.clients.programs.installation import Installation
from tests.clients.programs.programs import Command, Place, Program
from tests.clients.programs.script import KEY, MODEL, PROVIDER, Kind, Script
from tests.support.upstream import Upstream

ROOT = Path(__file__).parents[3]
_API_KEY = "sk-sluice-test-0123456789abcdefghijklmnop"
_ADMIN_KEY = "sk-admin-test-0123456789abcdefghijklmnop"
#: Seconds; programs that are refused may try again for long.
_PATIENCE_S = 90
#: Characters of a failed program's last words.
_WORDS = 400
#: What the script's usage is in each dialect: all input, and output.
_TOKENS = (40, 12)


class Stage:
    """A context: the scripted upstream and, unless the kind is direct, a gateway in a process of its own."""

    def __init__(self, kind: Kind, directory: Path) -> None:
        self._kind = kind
        self._directory = directory
        self._script = Script(kind)
        self._known: set[str] = set()
        self._ends = contextlib.ExitStack()

    def __enter__(self) -> "Stage":
        with contextlib.ExitStack() as ends:
            upstream = ends.enter_context(Upstream(threaded=True))
            upstream.handler = lambda request: self._script(request)
            self._url, self._key = upstream.origin, KEY
            if self._kind.provider is not None:
                path = self._configure(upstream.origin)
                self._url, self._key = ends.enter_context(_gateway(path)), _API_KEY
            self._ends = ends.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.__exit__(kind, error, trace)

    def run(self, program: Program, installation: Installation, directory: Path) -> list[str]:
        """Run a program once, in a directory that does not exist yet; return what is wrong with it.

        Its files, what it printed and what the upstream was asked stay in the directory.
        """
        self._script = script = Script(self._kind)
        home, work = directory / "home", directory / "work"
        home.mkdir(parents=True)
        work.mkdir()
        answer = turns.write_halves(work)
        place = Place(home, work, self._url, self._key, program.model, installation, _free_port())
        printed, faults = _run(program.command(place), place)
        if printed.count(answer) < program.answers:
            times = f"{printed.count(answer)} times, not {program.answers}"
            faults.append(f"the answer was printed {times}, and at last {printed.strip()[-_WORDS:]!r}")
        if turns.is_patched_wrong(work):
            faults.append("another patch was applied than the model wrote")
        if set(script.asked) - {expected := self._kind.expected(program.dialect)}:
            faults.append(f"the upstream was asked in {', '.join(script.asked)}, not in {expected} alone")
        faults += dict.fromkeys(script.faults)  # each once: programs try again
        faults += self._receipt_faults()
        for number, request in enumerate(script.requests):
            (directory / f"request-{number}.json").write_bytes(request.body)
        return faults

    def _configure(self, upstream: str) -> Path:
        assert self._kind.provider is not None
        entry = {key: value.format(url=upstream) for key, value in self._kind.provider.items()}
        route = {"provider": PROVIDER, "model": MODEL}
        aliases = ("claude-*", "gpt-*", "qwen*")
        configuration = {
            "api_key": _API_KEY,
            "admin_key": _ADMIN_KEY,
            "providers": {PROVIDER: {**entry, "api_key": KEY}},
            "models": {alias: {"routes": [route]} for alias in aliases},
        }
        path = self._directory / "config.yaml"
        path.write_text(json.dumps(configuration))  # JSON is YAML
        return path

    def _receipt_faults(self) -> list[str]:
        """Return what is wrong with the receipts of what was asked since the last time."""
        if self._kind.provider is None:
            return []
        headers = {"authorization": f"Bearer {_ADMIN_KEY}"}
        answer = httpx2.get(f"{self._url}/admin/api/requests?limit=1000", headers=headers)
        receipts: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        new = [receipt for receipt in receipts if receipt["id"] not in self._known]
        self._known |= {receipt["id"] for receipt in new}
        faults = []
        for receipt in new:
            usage = receipt["usage"]
            tokens = (usage["input_tokens"], usage["output_tokens"])
            if (receipt["finish"], receipt["estimated"], tokens) != ("ok", False, _TOKENS):
                faults.append(f"the receipt {receipt['finish']} {receipt['error']} {tokens}")
        return faults


@contextlib.contextmanager
def _gateway(configuration: Path) -> Iterator[str]:
    """Run the gateway; yield its root URL."""
    command = [sys.executable, "-m", "proxy", "--config", str(configuration), "--port", "0"]
    with (configuration.parent / "gateway.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    with process.stdout:
        try:
            line = process.stdout.readline()
            if " listens on " not in line:
                raise RuntimeError(f"the gateway did not start: {Path(log.name).read_text()}")
            yield line.split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_PATIENCE_S)


def _run(command: Command, place: Place) -> tuple[str, list[str]]:
    """Run a program to its end; return what it printed, and what went wrong."""
    environ = {
        "PATH": os.pathsep.join(["/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": str(place.home),
        "LANG": "C.UTF-8",
        # Nobody listens there: what calls home fails at once.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        "NODE_COMPILE_CACHE": str(place.installation.compiled),
        **command.environ,
    }
    if place.installation.node is not None:
        environ["PATH"] = f"{place.installation.node.parent}{os.pathsep}{environ['PATH']}"
    with contextlib.ExitStack() as ends:
        if command.service is not None:
            ends.enter_context(_started(command.service, environ, place, "service"))
            _wait_for(place.port)
        process = ends.enter_context(_started(command.arguments, environ, place, "program"))
        faults = []
        try:
            if status := process.wait(_PATIENCE_S):
                faults.append(f"it ended with {status}")
        except subprocess.TimeoutExpired:
            faults.append(f"it did not end in {_PATIENCE_S} s")
    if faults:
        errors = (place.home.parent / "program.err").read_text(errors="replace")
        faults[0] += f" and the words {errors.strip()[-_WORDS:]!r}" if errors else ""
    return (place.home.parent / "program.out").read_text(errors="replace"), faults


@contextlib.contextmanager
def _started(
    arguments: list[str], environ: dict[str, str], place: Place, name: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a group of its own; end the group, whatever is left of it, with the block."""
    directory = place.home.parent
    with (directory / f"{name}.out").open("wb") as out, (directory / f"{name}.err").open("wb") as err:
        process = subprocess.Popen(
            arguments,
            cwd=place.work,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(port: int) -> None:
    """Wait until something listens. Raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
