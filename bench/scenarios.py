"""What is measured, in which order, and how often. Targets take turns within each round of a scenario."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from measure import Loader, Sample, median
from processes import BenchError
from servers import CHUNK_RATE, Gateway, Target, request

STREAM_DELAY_LIMIT_US = 50_000  # p99 of a chunk's delay, below which a number of streams counts as held
STREAM_RATE_SHARE = 0.95  # of the nominal chunks per second that must arrive; ends and starts cost up to 2 %
SEARCH_START = 400
MOST_STREAMS = 2000
MOST_PROBES = 9
OPEN_RATE = 100
#: The name of the gateway that charges an account.
PREPAID = "gateway, prepaid"
MEMORY_STREAMS = 500
DIALECT_STREAMS = 200


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of one bench run; seconds are those measured, without warming up."""

    rounds: int
    connections: tuple[int, ...]
    window_s: float
    open_s: float
    stream_rounds: int
    streams: tuple[int, ...]
    stream_s: float
    burst_streams: int
    soak_requests: int
    starts: int


FULL = Plan(
    rounds=5,
    connections=(1, 16, 64, 256),
    window_s=1.2,
    open_s=4,
    stream_rounds=3,
    streams=(100, 500, 1000),
    stream_s=2,
    burst_streams=16,
    soak_requests=100_000,
    starts=5,
)
QUICK = Plan(
    rounds=1,
    connections=(1, 16, 64),
    window_s=0.8,
    open_s=3,
    stream_rounds=1,
    streams=(100, 500),
    stream_s=1.5,
    burst_streams=16,
    soak_requests=20_000,
    starts=2,
)

ByTarget = dict[str, Sample]


@dataclass(frozen=True, slots=True)
class Held:
    """The largest number of streams that held, and the smallest that did not (None: all tried held)."""

    streams: int
    broke_at: int | None


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a fresh gateway, in MiB, and after how many requests it was read."""

    idle: float
    with_streams: float
    after_first: float
    after_all: float
    first_requests: int
    all_requests: int


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from spawning the gateway, with an empty database or with one that exists."""

    empty_database: bool
    healthy_s: float
    answered_s: float


@dataclass(slots=True)
class Results:
    closed: dict[int, ByTarget] = field(default_factory=dict)
    open: ByTarget = field(default_factory=dict)
    streams: dict[int, ByTarget] = field(default_factory=dict)
    bursts: ByTarget = field(default_factory=dict)
    dialects: ByTarget = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    memory: Memory | None = None
    starts: list[Start] = field(default_factory=list)
    answered: int = 0  # by the gateway, in the scenarios above
    recorded: int | None = None  # in its own usage report


def compare(targets: Sequence[Target], rounds: int, measure: Callable[[Target], Sample]) -> ByTarget:
    """Measure every target once in each round; return the medians by target."""
    samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
    for _ in range(rounds):
        for target in targets:
            samples[target.name].append(measure(target))
    return {name: median(column) for name, column in samples.items()}


def most_streams(loader: Loader, target: Target, ceiling: int) -> Held:
    """Search for the largest number of streams that the target holds, to within 5 %.

    Held means: no errors, 95 % of the nominal chunks per second, p99 of their delay under 50 ms.
    A number must fail twice to count as failed, since other processes of the machine can spoil one run.
    """

    def holds(streams: int) -> bool:
        for _ in range(2):
            sample = loader.streams(target, streams, 1.5)
            enough = sample.per_s >= STREAM_RATE_SHARE * CHUNK_RATE * streams
            if enough and sample.p99_us < STREAM_DELAY_LIMIT_US and not sample.errors:
                return True
        return False

    good, bad, streams = 0, ceiling + 1, min(SEARCH_START, ceiling)
    for _ in range(MOST_PROBES):
        if holds(streams):
            good = streams
        else:
            bad = streams
        if bad - good <= max(10, good // 20):
            break
        streams = min(good * 3 // 2, ceiling) if bad > ceiling else (good + bad) // 2
    return Held(good, bad if bad <= ceiling else None)


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise BenchError(f"process {pid} has no resident memory")


def memory(loader: Loader, gateway: Gateway, plan: Plan) -> Memory:
    """Measure a fresh gateway: idle, with streams open, after a tenth and after all of many requests."""
    with ExitStack() as stack:
        target = gateway.start(stack)
        time.sleep(1)  # what starting leaves to do
        idle = resident_mib(target.pids[0])
        with_streams = loader.streams(target, MEMORY_STREAMS, 1).rss_kib / 1024
        first = plan.soak_requests // 10
        after_first = loader.requests(target, first).rss_kib / 1024
        after_all = loader.requests(target, plan.soak_requests - first).rss_kib / 1024
    return Memory(idle, with_streams, after_first, after_all, first, plan.soak_requests)


def starts(gateway: Gateway, count: int) -> list[Start]:
    """Start the gateway `count` times on one database, which the first start creates."""
    return [_start(gateway, empty_database=number == 0) for number in range(count)]


def _start(gateway: Gateway, *, empty_database: bool) -> Start:
    with ExitStack() as stack:
        spawned = time.perf_counter()
        target = gateway.start(stack)
        while request(gateway.port, "GET", "/healthz", {})[0] != 200:
            if time.perf_counter() - spawned > 15:
                raise BenchError("/healthz does not answer 200")
            time.sleep(0.002)
        healthy = time.perf_counter()
        body = {"model": "demo/echo", "messages": [{"role": "user", "content": "ready?"}]}
        headers = {"Authorization": target.authorization}
        status, answer = request(gateway.port, "POST", "/v1/chat/completions", headers, body)
        if status != 200:
            raise BenchError(f"the echo completion answered {status}: {answer[:300]!r}")
        return Start(empty_database, healthy - spawned, time.perf_counter() - spawned)


def settled_requests(gateway: Gateway, answered: int) -> int:
    """Return how many exchanges the gateway recorded, once all that were answered are or 5 s have passed."""
    deadline = time.monotonic() + 5
    while True:
        recorded = gateway.recorded_requests()
        if recorded >= answered or time.monotonic() > deadline:
            return recorded
        time.sleep(0.1)


def typical_start(all_starts: Sequence[Start], *, empty_database: bool) -> tuple[float, float] | None:
    """Return the medians (healthy, first answer) in seconds of the starts of one kind, None without any."""
    chosen = [start for start in all_starts if start.empty_database is empty_database]
    if not chosen:
        return None
    healthy = statistics.median(start.healthy_s for start in chosen)
    return healthy, statistics.median(start.answered_s for start in chosen)


def added_us(by_target: Mapping[str, Sample], name: str) -> tuple[float, float] | None:
    """Return what a target adds to the p50 and p99 of a direct call, None where either was not measured."""
    direct, sample = by_target.get("direct"), by_target.get(name)
    if direct is None or sample is None:
        return None
    return sample.p50_us - direct.p50_us, sample.p99_us - direct.p99_us
