"""Which configuration a command works with."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from proxy.cli.errors import CommandFailed
from proxy.config.load import ConfigFile
from proxy.config.problems import ConfigError
from proxy.config.schema import Config

VARIABLE = "SLUICE_CONFIG"
DEFAULT_FILE = "config.yaml"


def config_path(args: argparse.Namespace, environ: Mapping[str, str]) -> Path:
    """Return the file of `--config`, else of $SLUICE_CONFIG, else ./config.yaml."""
    return Path(args.config or environ.get(VARIABLE) or DEFAULT_FILE)


def config_file(args: argparse.Namespace, environ: Mapping[str, str]) -> ConfigFile:
    """Return the file of `config_path`, with the host and port of the command line."""
    host, port = getattr(args, "host", None), getattr(args, "port", None)
    return ConfigFile(config_path(args, environ), environ, host=host, port=port)


def load_config(args: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    """Return the configuration. Raises CommandFailed (2) when it is missing or wrong."""
    return read_config(config_file(args, environ))


def read_config(file: ConfigFile) -> Config:
    """Return the configuration in a file. Raises CommandFailed (2) when it is missing or wrong."""
    try:
        return file.read()
    except ConfigError as error:
        raise CommandFailed(str(error), status=2) from None
