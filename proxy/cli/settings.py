"""Which configuration a command works with."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from proxy.cli.errors import CommandFailed
from proxy.config.load import load
from proxy.config.problems import ConfigError
from proxy.config.schema import Config

VARIABLE = "SLUICE_CONFIG"
DEFAULT_FILE = "config.yaml"


def config_path(args: argparse.Namespace, environ: Mapping[str, str]) -> Path:
    """Return the file of `--config`, else of $SLUICE_CONFIG, else ./config.yaml."""
    return Path(args.config or environ.get(VARIABLE) or DEFAULT_FILE)


def load_config(args: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    """Return the configuration, with the host and port of the command line.

    Raises CommandFailed (2) when it is missing or wrong.
    """
    try:
        return load(
            config_path(args, environ),
            environ,
            host=getattr(args, "host", None),
            port=getattr(args, "port", None),
        )
    except ConfigError as error:
        raise CommandFailed(str(error), status=2) from None
