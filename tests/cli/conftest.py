"""Runs commands as a shell would."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.cli.main import main

CONFIG = """
providers:
  demo: {preset: echo}
plans:
  free: {rpm: 60}
limits: {timezone: Asia/Shanghai}
models:
  fast: {routes: [demo/x], category: fast, price: {input: 2, output: 8, per: 1M}}
  quick: {alias: fast}
"""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a configuration in it."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLUICE_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs one command in this process: `run("key", "list")`."""

    def run(*arguments: str) -> Result:
        try:
            status = main(arguments)
        except SystemExit as exit:
            status = int(exit.code or 0)
        out, err = capfd.readouterr()
        return Result(status, out, err)

    return run
