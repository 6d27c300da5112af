"""One measurement: a run of `load` against a target, read as a `Sample`; medians over rounds."""

import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from processes import BenchError
from servers import CHUNK_RATE, CHUNKS_PER_STREAM, Target

BURST_CHUNKS = 200  # of a stream that comes as fast as it is read
OPEN_LOOP_CONNECTIONS = 64  # enough that a stall of half a second does not delay sending
BODY_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run measured; of a stream run, `count`, `per_s` and the times are those of content chunks.

    `cpu_us` is CPU of the target per request or chunk, the `*_busy` figures are shares of one core, of the
    target, of mock and load together, and of everything else on the machine. `answered` counts whole answers.
    """

    connections: int
    seconds: float
    count: int
    per_s: float
    p50_us: float
    p99_us: float
    max_us: float
    cpu_us: float
    subject_busy: float
    harness_busy: float
    others_busy: float
    rss_kib: int
    sent: int
    answered: int
    errors: int
    first_error: str


def median(samples: Sequence[Sample]) -> Sample:
    """Return the median of each figure by itself; counts of requests and errors are summed."""
    values: dict[str, object] = {}
    for field in fields(Sample):
        column = [getattr(sample, field.name) for sample in samples]
        if field.name == "first_error":
            values[field.name] = next((text for text in column if text), "")
        elif field.name in {"sent", "answered", "errors"}:
            values[field.name] = sum(column)
        else:
            values[field.name] = statistics.median(column)
    return Sample(**values)  # type: ignore[arg-type]  # each value came from the field of the same name


class Loader:
    """Runs `load` on its core and keeps count of the requests that each address was sent."""

    def __init__(self, program: Path, core: int, mock: Target) -> None:
        self._command = ["taskset", "-c", str(core), str(program)]
        self._mock = mock
        self.answered: dict[int, int] = {}
        self.samples: list[tuple[str, Sample]] = []

    def closed_loop(self, target: Target, connections: int, seconds: float) -> Sample:
        return self._run(target, connections=connections, warm=0.3, seconds=seconds)

    def open_loop(self, target: Target, rate: float, seconds: float) -> Sample:
        return self._run(target, connections=OPEN_LOOP_CONNECTIONS, rate=rate, warm=0.5, seconds=seconds)

    def requests(self, target: Target, count: int) -> Sample:
        """Send `count` requests over 16 connections, without warming up."""
        return self._run(target, connections=16, requests=count, seconds=60 + count / 1000)

    def streams(self, target: Target, streams: int, seconds: float) -> Sample:
        return self._run(
            target,
            connections=streams,
            chunks=CHUNKS_PER_STREAM,
            chunk_rate=CHUNK_RATE,
            ramp=0.7,
            warm=0.5,
            seconds=seconds,
        )

    def bursts(self, target: Target, streams: int, seconds: float) -> Sample:
        """Read streams that are not paced: as a cached or very fast provider sends them."""
        return self._run(
            target, connections=streams, chunks=BURST_CHUNKS, chunk_rate=0, warm=0.3, seconds=seconds
        )

    def _run(self, target: Target, **options: float) -> Sample:
        """Run once.

        Raises:
            BenchError: the program failed, took too long, or met nothing but errors.
        """
        command = [*self._command, "--port", str(target.port), "--body-bytes", str(BODY_BYTES)]
        command += ["--model", target.model, "--authorization", target.authorization]
        command += ["--dialect", target.dialect]
        for pid in target.pids:
            command += ["--subject", str(pid)]
        for pid in self._mock.pids if target is not self._mock else ():
            command += ["--harness", str(pid)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        limit_s = options["seconds"] + 30
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise BenchError(f"load against {target.name} took more than {limit_s:.0f} s") from None
        if done.returncode != 0:
            raise BenchError(f"load against {target.name} failed: {done.stderr.strip()}")
        sample = Sample(**json.loads(done.stdout))
        if not sample.answered and not sample.count:
            raise BenchError(f"{target.name} answered nothing; first error: {sample.first_error or 'none'}")
        self.answered[target.port] = self.answered.get(target.port, 0) + sample.answered
        self.samples.append((target.name, sample))
        return sample
