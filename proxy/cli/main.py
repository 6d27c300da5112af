"""Runs one command: reads the options, calls its function, prints, and returns the exit status."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import import_module

from proxy.cli.errors import CommandFailed
from proxy.cli.output import Output
from proxy.cli.parser import build_parser

#: What a command is: a function of its options and the environment.
Command = Callable[[argparse.Namespace, Mapping[str, str]], Output | Awaitable[Output] | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of `argv`, by default of the process; return 0, 1 or 2."""
    args = build_parser().parse_args(argv)
    module, _, name = args.run.partition(":")
    command: Command = getattr(import_module(module), name)
    try:
        output = command(args, os.environ)
        if asyncio.iscoroutine(output):
            output = asyncio.run(output)
    except CommandFailed as failure:
        sys.stderr.write(f"{failure}\n")
        return failure.status
    except KeyboardInterrupt:
        return 130
    return _print(output, as_json=args.json) if isinstance(output, Output) else 0


def _print(output: Output, *, as_json: bool) -> int:
    try:
        sys.stdout.write(output.shown(as_json=as_json) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, `head` for one, has seen enough. Python flushes once more at exit, and must
        # not fail again. https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return output.status
