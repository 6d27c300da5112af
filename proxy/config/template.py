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
    with open(path, "xb", opener=_private) as file:
        try:
            file.write(starting_configuration())
            file.flush()
        except OSError:
            path.unlink()
            raise


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
