"""What `doctor` says of the program and of what it runs on."""

import importlib
import platform
import sqlite3
import sys
from collections.abc import Iterator
from importlib import metadata

from proxy import __version__
from proxy.cli.doctor.findings import FAIL, OK, Finding
from proxy.store.database import OLDEST_SQLITE

#: `requires-python` of pyproject.toml.
OLDEST_PYTHON = (3, 11)

_INSTALL = "install Sluice again: `pip install .`, or `pip install -e .` in a clone"


def version_findings() -> Iterator[Finding]:
    yield Finding("program", OK, f"Sluice {__version__}")
    yield python_finding(sys.version_info[:3], f"{platform.system()} {platform.machine()}")
    yield sqlite_finding(sqlite3.sqlite_version_info)


def module_findings() -> Iterator[Finding]:
    """Yield the compiled modules without which nothing that serves can be loaded."""
    if sys.platform != "win32":
        yield module_finding("uvloop")
    yield module_finding("httptools")


def python_finding(version: tuple[int, ...], system: str) -> Finding:
    text = f"Python {_dotted(version)} on {system}"
    if version < OLDEST_PYTHON:
        return Finding("python", FAIL, text, f"use Python {_dotted(OLDEST_PYTHON)} or newer")
    return Finding("python", OK, text)


def sqlite_finding(version: tuple[int, ...]) -> Finding:
    text = f"SQLite {_dotted(version)}"
    if version < OLDEST_SQLITE:
        needed = _dotted(OLDEST_SQLITE[:2])
        return Finding("sqlite", FAIL, text, f"use a Python that comes with SQLite {needed} or newer")
    return Finding("sqlite", OK, text)


def module_finding(name: str) -> Finding:
    """Return whether a module is there, and can be loaded."""
    try:
        importlib.import_module(name)
        return Finding(name, OK, f"{name} {metadata.version(name)}")
    except ImportError as error:
        return Finding(name, FAIL, f"{name} cannot be loaded: {error}", _INSTALL)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
