import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.store.lock import AlreadyRunning, InstanceLock, RunInfo, running

HOLD = """
import sys
from pathlib import Path
from proxy.store.lock import InstanceLock
lock = InstanceLock(Path(sys.argv[1]))
lock.acquire()
lock.publish("http://127.0.0.1:8484", "hush")
print("held", flush=True)
sys.stdin.read()
lock.release()
"""

# Each holder makes a file that must not exist and removes it again: two at once would be noticed.
CONTEND = """
import sys
from pathlib import Path
from proxy.store.lock import InstanceLock
database = Path(sys.argv[1])
inside = database.with_name("inside")
for _ in range(int(sys.argv[2])):
    lock = InstanceLock(database)
    lock.acquire(wait_s=30)
    inside.touch(exist_ok=False)
    inside.unlink()
    lock.release()
"""


@pytest.fixture
def run_file(path: Path) -> Path:
    return path.with_name("sluice.db.run")


@pytest.fixture
def lock(path: Path) -> Iterator[InstanceLock]:
    lock = InstanceLock(path)
    lock.acquire()
    yield lock
    lock.release()


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_nobody_runs_where_no_file_is(path: Path) -> None:
    assert running(path) is None


def test_a_holder_is_known_by_its_process(lock: InstanceLock, path: Path, run_file: Path) -> None:
    assert running(path) == RunInfo(os.getpid(), None, None)
    assert run_file.stat().st_mode & 0o777 == 0o600


def test_a_server_tells_its_address_and_secret(lock: InstanceLock, path: Path) -> None:
    lock.publish("http://127.0.0.1:8484", "hush")
    assert running(path) == RunInfo(os.getpid(), "http://127.0.0.1:8484", "hush")
    lock.publish("http://127.0.0.1:1", "h")  # shorter than before
    assert running(path) == RunInfo(os.getpid(), "http://127.0.0.1:1", "h")


def test_the_secret_shows_in_no_repr() -> None:
    assert "hush" not in repr(RunInfo(1, "http://127.0.0.1", "hush"))


def test_a_second_holder_is_refused_and_told_who_holds(lock: InstanceLock, path: Path) -> None:
    lock.publish("http://127.0.0.1:8484", "hush")
    with pytest.raises(AlreadyRunning, match="http://127.0.0.1:8484") as refusal:
        InstanceLock(path).acquire()
    assert refusal.value.info == RunInfo(os.getpid(), "http://127.0.0.1:8484", "hush")


def test_releasing_removes_the_file(path: Path, run_file: Path) -> None:
    lock = InstanceLock(path)
    lock.acquire()
    lock.release()
    assert not run_file.exists()
    assert running(path) is None
    lock.release()  # once more does nothing


def test_publishing_needs_the_lock(path: Path) -> None:
    with pytest.raises(RuntimeError):
        InstanceLock(path).publish("http://127.0.0.1:8484", "hush")


def test_another_process_holds_it(holder: subprocess.Popen[str], path: Path) -> None:
    assert running(path) == RunInfo(holder.pid, "http://127.0.0.1:8484", "hush")
    with pytest.raises(AlreadyRunning):
        InstanceLock(path).acquire()


def test_what_a_killed_process_left_counts_for_nothing(
    holder: subprocess.Popen[str], path: Path, run_file: Path
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert "hush" in run_file.read_text()
    assert running(path) is None
    lock = InstanceLock(path)
    lock.acquire()
    assert running(path) == RunInfo(os.getpid(), None, None)
    lock.release()


def test_a_waiter_gets_the_lock_that_the_path_leads_to(path: Path, run_file: Path) -> None:
    first, second = InstanceLock(path), InstanceLock(path)
    first.acquire()
    waiter = threading.Thread(target=second.acquire, args=(30,))
    waiter.start()
    first.release()
    waiter.join()
    assert running(path) == RunInfo(os.getpid(), None, None)
    with pytest.raises(AlreadyRunning):
        InstanceLock(path).acquire()
    second.release()
    assert not run_file.exists()


def test_processes_that_contend_hold_it_one_after_another(path: Path) -> None:
    contenders = [subprocess.Popen([sys.executable, "-c", CONTEND, path, "25"]) for _ in range(4)]
    assert [contender.wait() for contender in contenders] == [0, 0, 0, 0]
    assert running(path) is None


@pytest.mark.parametrize("left", [b"", b"{", b'{"pid": "x"}', b"\xff\xfe"])
def test_a_lock_whose_file_says_nothing_is_held_all_the_same(path: Path, run_file: Path, left: bytes) -> None:
    run_file.write_bytes(left)
    with run_file.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert running(path) == RunInfo(0, None, None)
        with pytest.raises(AlreadyRunning):
            InstanceLock(path).acquire()
    assert running(path) is None


def test_a_look_does_not_keep_a_holder_out(path: Path, run_file: Path) -> None:
    run_file.touch()
    looking = run_file.open()
    fcntl.flock(looking, fcntl.LOCK_SH)  # as running() does, for an instant
    lock = InstanceLock(path)
    threading.Timer(0.02, looking.close).start()
    lock.acquire()
    lock.release()


def test_a_file_left_open_to_others_is_closed_to_them(path: Path, run_file: Path) -> None:
    run_file.touch(mode=0o644)
    lock = InstanceLock(path)
    lock.acquire()
    assert run_file.stat().st_mode & 0o777 == 0o600
    lock.release()
