"""Profiles of the gateway under load: perf (native code, kernel) or cProfile (Python, main thread)."""

import io
import pstats
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from processes import BenchError
from servers import Target
from session import PROGRAMS, Session

TOOLS = ("perf", "cprofile")
SECONDS = 5
CONNECTIONS = 16
STREAMS = 500
PERF_RATE = 997  # samples per second: a prime, so as not to beat with timers
LINES = 45


def profile(session: Session, tool: str) -> str:
    """Run the gateway under both kinds of load and return a readable profile of each.

    Raises:
        BenchError: the tool is missing or may not be used here.
    """
    run = _perf if tool == "perf" else _cprofile
    parts = [f"# {kind}\n\n{run(session, kind)}" for kind in ("requests", "streams")]
    return "\n".join(parts)


def _load(session: Session, target: Target, kind: str, seconds: float = SECONDS) -> None:
    if kind == "requests":
        session.loader.closed_loop(target, CONNECTIONS, seconds)
    else:
        session.loader.streams(target, STREAMS, seconds)


def _perf(session: Session, kind: str) -> str:
    perf = shutil.which("perf")
    if perf is None:
        raise BenchError("perf is not installed (Debian: apt-get install linux-perf); try --profile cprofile")
    data = PROGRAMS / f"perf-{kind}.data"
    command = list(session.gateway_command)
    if sys.version_info >= (3, 12) and command[0] == sys.executable:
        command[1:1] = ["-X", "perf"]  # gives Python functions names of their own in the profile
    with ExitStack() as stack:
        target = session.gateway(f"perf-{kind}", command=command).start(stack)
        _load(session, target, kind, 0.5)  # connections, caches and lazily imported modules
        record = f"record -q -F {PERF_RATE} -p {target.pids[0]} -o"
        command = [perf, *record.split(), str(data), "--", "sleep", str(SECONDS)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as recorder:
            _load(session, target, kind)
            _, complaint = recorder.communicate(timeout=SECONDS + 30)
        if recorder.returncode != 0:
            raise BenchError(f"perf record failed (kernel.perf_event_paranoid?): {complaint.strip()[-400:]}")
    command = [perf, "report", "--stdio", "-F", "overhead,dso,symbol", "-i", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
    return "\n".join(lines[:LINES]) + f"\n\n(all of it: perf report -i {data})\n"


def _cprofile(session: Session, kind: str) -> str:
    data = PROGRAMS / f"cprofile-{kind}.out"
    with ExitStack() as stack:
        gateway = session.gateway(f"cprofile-{kind}", command=_under_cprofile(session.gateway_command, data))
        _load(session, gateway.start(stack), kind)
    if not data.exists():
        raise BenchError("the gateway wrote no profile: it did not end by itself when it was asked to")
    text = io.StringIO()
    pstats.Stats(str(data), stream=text).sort_stats("tottime").print_stats(LINES)
    return f"{text.getvalue()}\n(all of it: python -m pstats {data})\n"


def _under_cprofile(command: Sequence[str], data: Path) -> list[str]:
    """Return the command with cProfile between the interpreter and its program."""
    python, *program = command
    if "python" not in Path(python).name:
        raise BenchError("--profile cprofile needs a --gateway-command that begins with a Python interpreter")
    return [python, "-m", "cProfile", "-o", str(data), *program]
