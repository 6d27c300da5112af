"""The files that a configuration is read from, and how each looked when it was read."""

import os
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """What tells that a file is another one, or another content: an editor replaces it, or writes to it."""

    modified_ns: int
    size: int
    inode: int


class Files:
    """Reads files, and remembers the stamp of each; None where there is none."""

    def __init__(self) -> None:
        self.stamps: dict[Path, Stamp | None] = {}

    def read(self, path: Path, most: int) -> bytes:
        """Return at most so many bytes of a file. Raises OSError, ValueError (a null in the path)."""
        try:
            with path.open("rb") as file:
                # Before it is read: what changes meanwhile has another stamp afterwards.
                self.stamps[path] = _stamp(os.fstat(file.fileno()))
                return file.read(most)
        except (OSError, ValueError):
            self.stamps[path] = stamp_of(path)
            raise

    def look(self) -> dict[Path, Stamp | None]:
        """Return the stamps that the same files have now."""
        return {path: stamp_of(path) for path in self.stamps}


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of the file to which a path leads, None where there is none."""
    try:
        return _stamp(path.stat())
    except (OSError, ValueError):
        return None


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_mtime_ns, status.st_size, status.st_ino)
