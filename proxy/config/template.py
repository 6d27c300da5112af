"""The commented starting configuration, which ships inside the package."""

import os
from importlib.resources import files
from pathlib import Path

# The repository's config.example.yaml is the same file: in the package it is found however the
# package was installed, and a test keeps the two alike.
_NAME = "config.example.yaml"


def starting_configuration() -> bytes:
    return files("proxy.config").joinpath(_NAME).read_bytes()


def write_initial(path: Path) -> None:
    """Write the starting configuration, readable by its owner alone: keys may be put into it.

    Raises FileExistsError rather than overwrite, and any other OSError.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(starting_configuration())
    except OSError:
        path.unlink()
        raise
