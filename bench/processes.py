"""Processes of a bench run: the compiler, and servers that are started on one core and ended by their pid."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "bench"

START_TIMEOUT_S = 15
STOP_TIMEOUT_S = 15  # longer than the grace period of the gateway's configuration in servers.py


class BenchError(Exception):
    """Something the measurement needs failed; the message says what."""


def build(folder: Path) -> None:
    """Compile mock and load into `folder`, unless they are newer than every source.

    Raises:
        BenchError: there is no gcc, or it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    newest = max(source.stat().st_mtime for source in SOURCES.glob("*.[ch]"))
    for name in ("mock", "load"):
        program = folder / name
        if program.exists() and program.stat().st_mtime > newest:
            continue
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise BenchError("no C compiler found; install gcc (Debian: apt-get install gcc libc6-dev)")
        command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCES / f"{name}.c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"{' '.join(command)} failed:\n{done.stderr}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def log_tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


class Process:
    """A process of ours on one core, its output in a file; ended, by its pid, when the context closes."""

    def __init__(self, command: Sequence[str], *, core: int, log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # before exec: every thread inherits it
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def children(self) -> tuple[int, ...]:
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return tuple(int(pid) for pid in listed.split())

    def wait_until_listening(self, port: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            self.require_running()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise BenchError(f"nothing listens on port {port}:\n{log_tail(self.log)}") from None
                time.sleep(0.002)
            else:
                return

    def require_running(self) -> None:
        if self._process.poll() is not None:
            raise BenchError(f"process ended with {self._process.returncode}:\n{log_tail(self.log)}")

    def stop(self) -> int:
        """Ask the process to end, insist after a while, and return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                sys.stderr.write(f"{self._process.args!r} did not end in {STOP_TIMEOUT_S} s and was killed\n")
                self._process.kill()
        return self._process.wait()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
