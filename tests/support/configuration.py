"""Configurations from text, and what is said about wrong ones."""

from pathlib import Path
from textwrap import dedent

import pytest

from proxy.config.load import parse
from proxy.config.problems import ConfigError
from proxy.config.schema import Config

PLACE = Path("/etc/sluice/config.yaml")


def configuration(text: str, path: Path = PLACE, /, **environ: str) -> Config:
    """Return the configuration that a file with this text is; the environment holds only `environ`."""
    return parse(dedent(text).encode(), path, environ)


def problems(text: str, path: Path = PLACE, /, **environ: str) -> list[str]:
    """Return the lines that are printed for a wrong file."""
    with pytest.raises(ConfigError) as raised:
        configuration(text, path, **environ)
    return str(raised.value).splitlines()
