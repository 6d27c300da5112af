"""Measure the gateway beside a direct call and beside nginx, and print the comparison as Markdown.

    python bench/run.py [--quick] [--write [FILE]] [--check] [--profile perf|cprofile]

bench/README.md says how to read the result and how far to trust it.
"""

import argparse
import dataclasses
import datetime
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import profiling
import scenarios
from measure import Sample
from processes import ROOT, BenchError, log_tail
from report import bars, render
from scenarios import FULL, OPEN_RATE, PREPAID, QUICK, Plan, Results
from servers import Target, find_nginx
from session import Session

PARTS = ("closed", "open", "streams", "bursts", "dialects", "search", "memory", "start")
TARGETS = ("direct", "nginx", "gateway")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one round of a few loads, under 90 s")
    parser.add_argument(
        "--only", type=names_among(PARTS), default=PARTS, metavar="PART,…", help=", ".join(PARTS)
    )
    parser.add_argument(
        "--targets", type=names_among(TARGETS), default=TARGETS, metavar="TARGET,…", help=", ".join(TARGETS)
    )
    parser.add_argument("--rounds", type=int, help="rounds of every comparison")
    parser.add_argument("--nice", type=int, default=0, help="priority of the whole run; negative needs root")
    parser.add_argument(
        "--gateway-command",
        type=shlex.split,
        default=[sys.executable, "-m", "proxy", "--config", "{config}"],
        metavar="COMMAND",
        help="another build of the gateway; {config} stands for the configuration file",
    )
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=ROOT / "bench" / "RESULTS.md",
        metavar="FILE",
        help="write the report to FILE too (bench/RESULTS.md)",
    )
    parser.add_argument("--raw", type=Path, metavar="FILE", help="write every sample as a line of JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 if a number to hold is missed")
    parser.add_argument("--profile", choices=profiling.TOOLS, help="profile the gateway under load instead")
    return parser.parse_args(arguments)


def names_among(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of comma-separated names, in the order in which they are known."""

    def parse(text: str) -> tuple[str, ...]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return tuple(name for name in known if name in chosen)

    return parse


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def output_of(*command: str) -> str:
    """Return what a program prints about itself, or a dash if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=10)
    except OSError:
        return "–"
    return (done.stdout + done.stderr).strip() or "–"


def describe_machine(cores: tuple[int, int]) -> list[str]:
    """Return what the figures depend on, one line each."""
    facts = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    model = next((value.strip() for name, _, value in facts if name.strip() == "model name"), "processor")
    commit = output_of("git", "describe", "--always", "--dirty")
    nginx = output_of(find_nginx() or "nginx", "-v").removeprefix("nginx version: ")
    return [
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, commit {commit}",
        f"{model}, {os.cpu_count()} cores, Linux {platform.release()}",
        f"CPython {platform.python_version()}, {nginx}",
        f"target on core {cores[0]}; mock and load on core {cores[1]}; priority {os.nice(0)}",
    ]


def run(session: Session, plan: Plan, parts: Sequence[str], names: Sequence[str], results: Results) -> None:
    """Go through the wanted parts with the wanted targets; what was measured before an error is kept."""
    targets = [session.mock] if "direct" in names else []
    if "nginx" in names:
        targets.append(session.nginx())
    if "gateway" not in names:
        compare(session, plan, parts, targets, results)
        return
    gateway = session.gateway("gateway")
    targets.append(gateway.start(session.stack))
    compare(session, plan, parts, targets, results)
    results.answered = session.loader.answered.get(gateway.port, 0)
    if results.answered:
        results.recorded = scenarios.settled_requests(gateway, results.answered)
    if "memory" in parts:
        say("memory")
        results.memory = scenarios.memory(session.loader, session.gateway("memory"), plan)
    if "start" in parts:
        say("start")
        results.starts = scenarios.starts(session.gateway("start"), plan.starts)


def compare(
    session: Session, plan: Plan, parts: Sequence[str], targets: Sequence[Target], results: Results
) -> None:
    """Measure everything that all targets can be compared in."""
    loader = session.loader
    charges = {"closed", "open"} & set(parts) and targets[-1].name == "gateway"
    funded = [prepaid(session)] if charges else []
    for count in plan.connections if "closed" in parts else ():
        say(f"closed loop, {count} connections")
        closed_loop = partial(loader.closed_loop, connections=count, seconds=plan.window_s)
        results.closed[count] = scenarios.compare([*targets, *funded], plan.rounds, closed_loop)
    if "open" in parts:
        say(f"open loop, {OPEN_RATE} requests/s")
        open_loop = partial(loader.open_loop, rate=OPEN_RATE, seconds=plan.open_s)
        results.open = scenarios.compare([*targets, *funded], plan.rounds, open_loop)
    for count in plan.streams if "streams" in parts else ():
        say(f"{count} streams")
        streams = partial(loader.streams, streams=count, seconds=plan.stream_s)
        results.streams[count] = scenarios.compare(targets, plan.stream_rounds, streams)
    if "bursts" in parts:
        say(f"{plan.burst_streams} streams in bursts")
        bursts = partial(loader.bursts, streams=plan.burst_streams, seconds=plan.window_s)
        results.bursts = scenarios.compare(targets, plan.stream_rounds, bursts)
    if "dialects" in parts and targets[-1].name == "gateway":
        say("translated streams")
        streams = partial(loader.streams, streams=scenarios.DIALECT_STREAMS, seconds=plan.stream_s)
        results.dialects = scenarios.compare(in_dialects(targets[-1]), plan.stream_rounds, streams)
    ceiling = scenarios.MOST_STREAMS
    for target in targets if "search" in parts else ():
        say(f"most streams, {target.name}")
        held = scenarios.most_streams(loader, target, ceiling)
        results.held[target.name] = held
        if target is session.mock:  # it comes first: what the bench itself can do bounds the others
            ceiling = held.streams


def prepaid(session: Session) -> Target:
    """Start a gateway that charges a funded account, and waits for the disk at every commit."""
    gateway = session.gateway("prepaid", mode="prepaid")
    target = gateway.start(session.stack)
    gateway.fund("1000000")
    return dataclasses.replace(target, name=PREPAID)


def in_dialects(gateway: Target) -> list[Target]:
    """Return the gateway as clients of each dialect see it; the mock behind it speaks only chat."""
    others = [
        dataclasses.replace(gateway, name=f"gateway, {name}", model="paced-model", dialect=name)
        for name in ("messages", "responses")
    ]
    return [gateway, *others]


def explain(error: Exception, folder: Path) -> None:
    """Say what went wrong, and what the gateways said about it."""
    say(f"bench: {error}")
    for log in folder.rglob("gateway.log"):
        end = log_tail(log)
        if end and end not in str(error):
            say(f"the log of the gateway for {log.parent.name!r} ends with:\n{end}")


def publish(report: str, samples: Sequence[tuple[str, Sample]], options: argparse.Namespace) -> None:
    """Print the report and write the files that were asked for."""
    sys.stdout.write(report)
    if options.write:
        options.write.write_text(report)
    if options.raw:
        lines = (json.dumps({"target": name, **dataclasses.asdict(sample)}) for name, sample in samples)
        options.raw.write_text("".join(f"{line}\n" for line in lines))


def main(arguments: Sequence[str]) -> int:
    options = parse_arguments(arguments)
    plan = QUICK if options.quick else FULL
    if options.rounds:
        plan = dataclasses.replace(plan, rounds=options.rounds, stream_rounds=options.rounds)
    if options.quick and options.only is PARTS:
        options.only = tuple(part for part in PARTS if part != "search")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    results = Results()
    session = None
    complete = False
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-bench-")))
        try:
            os.nice(options.nice)
            session = Session(stack, folder, options.gateway_command)
            if options.profile:
                sys.stdout.write(profiling.profile(session, options.profile))
                return 0
            run(session, plan, options.only, options.targets, results)
            complete = True
        except (BenchError, PermissionError) as error:
            explain(error, folder)
    if session is not None and session.loader.samples:
        publish(render(results, describe_machine(session.cores)), session.loader.samples, options)
    held = all(bar.held for bar in bars(results))
    return 0 if complete and (held or not options.check) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
