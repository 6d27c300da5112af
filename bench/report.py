"""The results as Markdown: tables with ratios, the bars that the gateway must hold, and what was amiss."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from measure import BURST_CHUNKS, Sample
from scenarios import (
    DIALECT_STREAMS,
    MEMORY_STREAMS,
    OPEN_RATE,
    PREPAID,
    ByTarget,
    Results,
    added_us,
    typical_start,
)
from servers import CHUNK_RATE, CHUNKS_PER_STREAM

BUSY = 0.9  # of a core; where mock and load are busier than this and the target is not, they are the limit


@dataclass(frozen=True, slots=True)
class Bar:
    """One number that the gateway promises to hold, and what was measured; `limit` is exclusive."""

    what: str
    measured: float
    limit: float
    unit: str

    @property
    def held(self) -> bool:
        return self.measured < self.limit


def bars(results: Results) -> list[Bar]:
    """Return every bar for which this run has a measurement."""
    found: list[Bar] = []
    for name, what, p50_ms, p99_ms in (("gateway", "", 2, 10), (PREPAID, " in prepaid mode", 4, 15)):
        if added := added_us(results.open, name):
            found.append(Bar(f"added p50 at {OPEN_RATE} requests/s{what}", added[0] / 1e3, p50_ms, "ms"))
            found.append(Bar(f"added p99 at {OPEN_RATE} requests/s{what}", added[1] / 1e3, p99_ms, "ms"))
    for count, samples in results.closed.items():
        if PREPAID in samples and count == max(results.closed):
            share = samples["gateway"].per_s / samples[PREPAID].per_s
            found.append(Bar(f"requests/s, track ÷ prepaid ({count} connections)", share, 2, "times"))
    for name, sample in results.dialects.items():
        if name != "gateway":
            share = sample.cpu_us / results.dialects["gateway"].cpu_us
            found.append(Bar(f"CPU per chunk, translated ÷ passed through ({name})", share, 2, "times"))
    for empty, what in ((True, "empty database"), (False, "existing database")):
        if start := typical_start(results.starts, empty_database=empty):
            found.append(Bar(f"start to first answer, {what}", start[1], 1.0, "s"))
    if memory := results.memory:
        growth = memory.after_all - memory.after_first
        requests = f"{memory.first_requests:,} to {memory.all_requests:,}"
        found.append(Bar("resident memory, idle", memory.idle, 70, "MiB"))
        found.append(Bar(f"resident memory, {MEMORY_STREAMS} open streams", memory.with_streams, 150, "MiB"))
        found.append(Bar(f"growth of memory from request {requests}", growth, 5, "MiB"))
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first two columns are text, the others numbers."""
    rule = ["---" if column < 2 else "---:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def ratio(value: float, base: float | None) -> str:
    return f"{value / base:.2f}" if base else "–"


def milliseconds(us: float) -> str:
    return f"{us / 1e3:.2f}" if us < 100_000 else f"{us / 1e3:.0f}"


def added(by_target: ByTarget, name: str) -> tuple[str, str]:
    difference = None if name == "direct" else added_us(by_target, name)
    if difference is None:
        return "–", "–"
    return f"{difference[0] / 1e3:+.2f}", f"{difference[1] / 1e3:+.2f}"


def compared(groups: Mapping[str, ByTarget], load: str, unit: str) -> str:
    """Return one table: for each load and target its rate, CPU, delays, and ratios to nginx and direct."""
    head = [load, "target", f"{unit}s/s", "÷ nginx", f"CPU µs/{unit}", "÷ nginx", "p50 ms", "p99 ms"]
    head += ["added p50", "added p99"]
    rows = []
    for label, by_target in groups.items():
        nginx = by_target.get("nginx")
        for name, sample in by_target.items():
            mark = " \\*" if harness_bound(sample) else ""
            rows.append(
                [
                    label,
                    name,
                    f"{sample.per_s:,.0f}{mark}",
                    ratio(sample.per_s, nginx.per_s if nginx else None),
                    f"{sample.cpu_us:.1f}",
                    ratio(sample.cpu_us, nginx.cpu_us if nginx else None),
                    milliseconds(sample.p50_us),
                    milliseconds(sample.p99_us),
                    *added(by_target, name),
                ]
            )
    return table(head, rows)


def harness_bound(sample: Sample) -> bool:
    """Tell whether mock and load, rather than the target, set the rate."""
    return sample.harness_busy > BUSY and sample.subject_busy < BUSY


def held_streams(results: Results) -> str:
    nginx = results.held.get("nginx")
    rows = []
    for name, held in results.held.items():
        limit = "more were not tried" if held.broke_at is None else f"not {held.broke_at:,}"
        rows.append(
            [
                name,
                limit,
                f"{held.streams:,}",
                f"{held.streams * CHUNK_RATE:,}",
                ratio(held.streams, nginx.streams if nginx else None),
            ]
        )
    return table(["target", "limit", "streams held", "chunks/s", "÷ nginx"], rows)


def bar_table(found: Sequence[Bar]) -> str:
    rows = [
        [bar.what, "held" if bar.held else "**missed**", f"{bar.measured:.2f} {bar.unit}", f"< {bar.limit:g}"]
        for bar in found
    ]
    return table(["what", "", "measured", "bar"], rows)


def labelled(results: Results) -> dict[str, ByTarget]:
    """Return all compared groups under names that tell them apart."""
    groups = {f"{count} connections": group for count, group in results.closed.items()}
    groups |= {f"{OPEN_RATE} requests/s": results.open}
    groups |= {f"{count} streams": group for count, group in results.streams.items()}
    return groups | {"bursts": results.bursts, f"{DIALECT_STREAMS} streams by dialect": results.dialects}


def remarks(results: Results) -> list[str]:
    """Return what a reader must know before believing the tables: errors, a busy machine, missing records."""
    samples: list[tuple[str, str, Sample]] = [
        (load, name, sample) for load, group in labelled(results).items() for name, sample in group.items()
    ]
    found = [
        f"{name} at {load}: {sample.errors} errors of {sample.sent:,} requests; `{sample.first_error}`"
        for load, name, sample in samples
        if sample.errors
    ]
    limited = [f"{name} at {load}" for load, name, sample in samples if harness_bound(sample)]
    if limited:
        found.append(f"\\* mock and load filled their core (the target could do more): {', '.join(limited)}")
    if samples:
        busy = [sample.others_busy for _, _, sample in samples]
        typical, worst = statistics.median(busy), max(busy)
        found.append(f"other processes took {typical:.0%} of a core (median of all loads; worst {worst:.0%})")
    if results.recorded is not None:
        verdict = "every one has" if results.recorded >= results.answered else "**some have no**"
        found.append(
            f"the gateway answered {results.answered:,} requests in full and recorded {results.recorded:,} "
            f"exchanges (streams cut off at a window's end included): {verdict} a usage record"
        )
    return found


def render(results: Results, machine: Sequence[str]) -> str:
    """Return the whole report; sections without measurements are left out."""
    sections = ["# Bench results", "\n".join(f"- {line}" for line in machine)]
    if found := bars(results):
        sections += ["## Numbers to hold", bar_table(found)]
    if results.closed:
        groups = {str(count): group for count, group in results.closed.items()}
        sections += ["## Not streamed, closed loop", compared(groups, "connections", "request")]
    if results.open:
        title = f"## Not streamed, {OPEN_RATE} requests/s"
        sections += [title, compared({str(OPEN_RATE): results.open}, "requests/s", "request")]
    if results.streams:
        groups = {str(count): group for count, group in results.streams.items()}
        title = f"## Streams of {CHUNK_RATE} chunks/s, {CHUNKS_PER_STREAM} chunks each"
        sections += [title, compared(groups, "streams", "chunk")]
    if results.bursts:
        groups = {str(next(iter(results.bursts.values())).connections): results.bursts}
        title = f"## Streams of {BURST_CHUNKS} chunks as fast as they are read"
        sections += [title, compared(groups, "streams", "chunk")]
    if results.dialects:
        title = f"## {DIALECT_STREAMS} streams of {CHUNK_RATE} chunks/s, translated from chat completions"
        sections += [title, compared({str(DIALECT_STREAMS): results.dialects}, "streams", "chunk")]
    if results.held:
        title = f"## Streams of {CHUNK_RATE} chunks/s held with p99 under 50 ms"
        sections += [title, held_streams(results)]
    if notes := remarks(results):
        sections += ["## Remarks", "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(sections) + "\n"
