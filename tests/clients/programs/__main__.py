"""Runs the programs against the gateway and prints what works: `scripts/clients --help`."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.clients.programs.installation import Installation
from tests.clients.programs.programs import PROGRAMS, Program
from tests.clients.programs.script import DIRECT, KINDS, Kind
from tests.clients.programs.stage import Stage

_NOT_INSTALLED = "not installed"


def main() -> int:
    options = _options()
    installation = Installation(options.cache) if options.cache else Installation.usual()
    if options.install:
        try:
            installation.install()
        except subprocess.CalledProcessError as error:
            return error.returncode or 1
    chosen = [program for program in PROGRAMS if any(word in program.name for word in options.only or [""])]
    kinds = [DIRECT] if options.direct else list(KINDS)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        return _run(chosen, kinds, installation, options.keep)
    with tempfile.TemporaryDirectory(prefix="sluice-clients-") as directory:
        return _run(chosen, kinds, installation, Path(directory))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/clients",
        description="Run the programs people use against a gateway with a scripted provider.",
    )
    parser.add_argument("--install", action="store_true", help="first install, or update, all of npm's")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where; default: ~/.cache/sluice-clients")
    parser.add_argument("--direct", action="store_true", help="leave the gateway out: whose fault is it?")
    parser.add_argument("--only", action="append", metavar="WORD", help="programs with this in their names")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep all files, output and requests there")
    return parser.parse_args()


def _run(programs: list[Program], kinds: list[Kind], installation: Installation, directory: Path) -> int:
    """Run each program with each kind of provider, and print a row for each program."""
    faults: dict[tuple[str, str], list[str]] = {}
    cells: dict[tuple[str, str], str] = {}
    for kind in kinds:
        place = directory / kind.name.replace(" ", "-")
        place.mkdir(exist_ok=True)
        with Stage(kind, place) as stage:
            for program in programs:
                here = (program.name, kind.name)
                if program.version(installation) is None:
                    cells[here] = _NOT_INSTALLED
                    continue
                started = time.monotonic()
                faults[here] = stage.run(program, installation, place / program.name.replace(" ", "-"))
                word = "FAILED" if faults[here] else "ok"
                cells[here] = f"{word} {time.monotonic() - started:.1f} s"
    _print_row("program", "version", *(kind.name for kind in kinds))
    for program in programs:
        version = program.version(installation) or "-"
        _print_row(program.name, version, *(cells[program.name, kind.name] for kind in kinds))
    for (program_name, kind_name), found in faults.items():
        if found:
            sys.stdout.write("\n  - ".join([f"\n{program_name} ({kind_name})", *found]) + "\n")
    return 1 if any(faults.values()) else 0


def _print_row(name: str, version: str, *cells: str) -> None:
    sys.stdout.write(f"{name:30}{version:11}{''.join(f'{cell:16}' for cell in cells)}".rstrip() + "\n")


sys.exit(main())
