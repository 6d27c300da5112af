"""The lock that lets one process at a time write a database, and tells others how to reach it.

The lock is on the file `<database>.run`, mode 0600. The system drops it with its holder, however
that ends, so that what the file says counts only while somebody holds the lock.
"""

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, *, shared: bool) -> bool:
        del shared  # not to be had here; running() therefore looks again before it believes
        # Windows forbids others to read what is locked: a byte far behind the text.
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(fd: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


# Another process's running() takes the lock for an instant, and a holder that has just come has
# not yet written who it is: a lock counts as held when it still is after this time.
_SETTLING_S = 0.1
_RETRY_S = 0.01


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Who holds the lock. `url` is None while a command does; `pid` is 0 when it cannot be read."""

    pid: int
    url: str | None = None
    secret: str | None = field(default=None, repr=False)


class AlreadyRunning(Exception):
    """Another process, described by `info`, holds the lock of the database."""

    def __init__(self, database: Path, info: RunInfo) -> None:
        where = info.url or "a command"
        super().__init__(f"{database} is in use by process {info.pid} ({where})")
        self.info = info


class InstanceLock:
    """The exclusive lock of one database, held until `release` or the end of the process."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = _run_file(database)
        self._fd: int | None = None

    def acquire(self, wait_s: float = 0) -> None:
        """Take the lock, waiting (and blocking the thread) at most `wait_s`.

        Raises:
            AlreadyRunning: another process holds it.
            OSError: the file cannot be created or opened.
        """
        deadline = time.monotonic() + max(wait_s, _SETTLING_S)
        while (fd := self._try()) is None:
            if time.monotonic() >= deadline:
                raise AlreadyRunning(self._database, running(self._database) or RunInfo(0))
            time.sleep(_RETRY_S)
        self._fd = fd
        self._write(fd, RunInfo(os.getpid()))

    def publish(self, url: str, secret: str) -> None:
        """Tell commands of the same system user where this server listens, and its secret."""
        if self._fd is None:
            raise RuntimeError("the lock is not held")
        self._write(self._fd, RunInfo(os.getpid(), url, secret))

    def release(self) -> None:
        """Give the lock up and remove its file; without the lock, do nothing."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        os.ftruncate(fd, 0)
        if sys.platform == "win32":  # an open file cannot be removed there; nor need it be
            os.close(fd)
            return
        # Removed while still locked: a waiter that gets the lock of the old file sees that the
        # path no longer leads to it.
        self._path.unlink(missing_ok=True)
        os.close(fd)

    def _try(self) -> int | None:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(fd, shared=False) and _is_at(self._path, fd):
            return fd
        os.close(fd)
        return None

    def _write(self, fd: int, info: RunInfo) -> None:
        self._path.chmod(0o600)  # it may have been left by somebody less careful
        text = msgspec.json.encode(info) + b"\n"
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, text)  # one call: a reader sees the old first line or the new one
        os.ftruncate(fd, len(text))


def running(database: Path) -> RunInfo | None:
    """Return who holds the lock of `database` now, None if nobody does.

    Raises:
        OSError: the file cannot be read, as when it belongs to another user.
    """
    deadline = time.monotonic() + _SETTLING_S
    while True:
        try:
            fd = os.open(_run_file(database), os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            if _lock(fd, shared=True):
                return None
            info = _read(fd)
        finally:
            os.close(fd)
        if info.pid or time.monotonic() >= deadline:
            return info
        time.sleep(_RETRY_S)


def _run_file(database: Path) -> Path:
    return database.with_name(database.name + ".run")


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _read(fd: int) -> RunInfo:
    os.lseek(fd, 0, os.SEEK_SET)
    line, _, _ = os.read(fd, 4096).partition(b"\n")
    try:
        return msgspec.json.decode(line, type=RunInfo)
    except msgspec.DecodeError:  # empty: its holder is just coming or going
        return RunInfo(0)
