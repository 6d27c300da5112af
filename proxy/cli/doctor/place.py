"""What `doctor` says of where an installation lies: files and their modes, room on the disk, descriptors."""

import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from proxy.cli.doctor.findings import FAIL, OK, WARN, Finding, in_short
from proxy.config.problems import dotted
from proxy.config.schema import Config
from proxy.store.schema import BESIDE
from proxy.web.server import MIN_CONNECTIONS, RESERVED_DESCRIPTORS

if sys.platform != "win32":
    import resource

# A server lowers `max_connections` to what fits: so much of what was wanted is enough.
_NEARLY = 0.9
# A copy before a migration, and a log that a long read lets grow, need room beside the database.
_LITTLE_ROOM = 1 << 30
# SQLite fails to commit when the disk is full: then nothing is served.
_NO_ROOM = 100 << 20

_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def place_findings(config: Config, files: Iterable[Path]) -> Iterator[Finding]:
    """Yield the findings. `files` are all that the configuration was read from."""
    if sys.platform != "win32":  # modes say nothing there
        yield from _modes(config, files)
    yield from _folder(config.database.parent)
    yield descriptor_finding(config.server.max_connections, _descriptors())


def _modes(config: Config, files: Iterable[Path]) -> Iterator[Finding]:
    public = {provider.ca_file for provider in config.providers.values()}
    private = [file for file in files if file.absolute() != config.path and file not in public]
    bad = [
        *_open_configuration(config),
        *(finding for file in private if (finding := _open_to(file, _OTHERS_READ, "holds a secret"))),
        *_open_database(config.database),
    ]
    yield from bad
    if not bad:
        yield Finding("permissions", OK, "no file with secrets is open to other users")


def _open_configuration(config: Config) -> Iterator[Finding]:
    places = config.source.secrets_in_clear
    if places:
        names = ", ".join(f"{dotted(place)} in line {config.line(*place) or '?'}" for place in places[:5])
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        finding = _open_to(config.path, _OTHERS_READ, f"holds secrets in clear ({names}{more})")
        if finding:
            yield finding


def _open_database(database: Path) -> Iterator[Finding]:
    for suffix in ("", *BESIDE):
        file = database.with_name(database.name + suffix)
        if finding := _open_to(file, _OTHERS, "is part of the database"):
            yield finding


def _open_to(file: Path, modes: int, why: str) -> Finding | None:
    """Return what there is to say about a file that has one of the modes."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return None  # there is none, or whoever needs it says that it cannot be read
    if not mode & modes:
        return None
    name = in_short(file)
    return Finding("permissions", WARN, f"{name} {why}, and has mode {mode:04o}", f"chmod 600 {name}")


def _folder(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding("folder", FAIL, f"{folder} is no folder", "make it, or set `database` to another file")
        return
    if os.access(folder, os.W_OK | os.X_OK):
        yield Finding("folder", OK, f"{folder} can be written")
    else:
        advice = f"let the user that runs the server write it: `chown USER {folder}`"
        yield Finding("folder", FAIL, f"{folder} cannot be written by this user", advice)
    yield room_finding(folder, shutil.disk_usage(folder).free)


def room_finding(folder: Path, free: int) -> Finding:
    """Return what the free bytes of a disk mean."""
    text = f"{size(free)} free in {folder}"
    if free < _NO_ROOM:
        return Finding("disk", FAIL, text, "make room: nothing is served when the database cannot grow")
    if free < _LITTLE_ROOM:
        return Finding("disk", WARN, text, "make room: a copy of the database may need it")
    return Finding("disk", OK, text)


def descriptor_finding(connections: int, limit: int | None) -> Finding:
    """Return whether so many connections fit into a limit of open files; None: there is no limit."""
    if limit is None:
        return Finding("descriptors", OK, f"no limit of open files, for {connections} connections")
    # A client's request takes a second connection, to its provider.
    served = max(MIN_CONNECTIONS, (limit - RESERVED_DESCRIPTORS) // 2)
    if served < connections * _NEARLY:
        wanted = 2 * connections + RESERVED_DESCRIPTORS
        return Finding(
            "descriptors",
            WARN,
            f"{limit} open files are enough for {served} connections, not for the {connections} of "
            "server.max_connections",
            f"`ulimit -Hn {wanted}` or LimitNOFILE={wanted}; or lower server.max_connections",
        )
    return Finding("descriptors", OK, f"{limit} open files, for {min(served, connections)} connections")


def _descriptors() -> int | None:
    """Return how many files a server started from here may open: it raises its limit to the hard one."""
    if sys.platform == "win32":
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard


def size(count: int) -> str:
    """Return bytes in the unit that people use."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count} bytes"
