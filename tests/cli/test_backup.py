"""`backup` and `restore`, with the server stopped and running."""

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxy.cli import backup as backup_module
from proxy.cli import client as client_module
from proxy.cli.main import main
from proxy.store import backups as backups_module
from proxy.store.copies import examine
from proxy.store.lock import InstanceLock
from tests.cli.conftest import CONFIG, Run
from tests.cli.test_serve import ROOT, serving, start
from tests.support import money
from tests.support.clients import MESSAGES
from tests.support.gateway import gateway

pytestmark = pytest.mark.usefixtures("folder")

PREPAID = CONFIG + "billing: {mode: prepaid}\napi_key: sk-sluice-test-0123456789abcdef\n"


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def state(run: Run) -> dict[str, Any]:
    """Return what an installation knows: its keys, its funds, what was used."""
    commands = ("key list", "account list", "account ledger default", "usage", "requests")
    return {command: run(*command.split(), "--json").json for command in commands}


def fill(run: Run) -> str:
    """Make a database with a key and some money; return the key."""
    made = run("key", "create", "--name", "alice", "--json").json["key"]
    assert run("account", "topup", "default", "5.00").status == 0
    return str(made)


def ask(url: str, key: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "fast", "messages": MESSAGES}
    return httpx2.post(f"{url}/v1/chat/completions", headers=headers, json=body)


class TestBackup:
    def test_it_prints_what_it_wrote(self, run: Run, folder: Path) -> None:
        fill(run)
        umask = os.umask(0)
        try:
            result = run("backup", "copy.db")
        finally:
            os.umask(umask)
        assert result.status == 0
        assert result.out.startswith("Wrote copy.db.\n")
        copy = folder / "copy.db"
        contents = examine(copy, copy, thoroughly=True)
        assert copy.stat().st_mode & 0o777 == 0o600
        assert names(folder) == ["config.yaml", "copy.db", "sluice.db"]
        assert run("backup", "--json", "other.db").json == {
            "path": "other.db",
            "size_bytes": copy.stat().st_size,
            "schema_version": contents.schema_version,
            "exchanges": 0,
        }

    def test_a_file_is_overwritten_only_by_force(self, run: Run, folder: Path) -> None:
        fill(run)
        (folder / "copy.db").write_text("mine")
        result = run("backup", "copy.db")
        assert (result.status, result.out) == (1, "")
        assert "copy.db exists already" in result.err
        assert "--force" in result.err
        assert (folder / "copy.db").read_text() == "mine"
        assert run("backup", "--force", "copy.db").status == 0
        assert examine(folder / "copy.db", Path("copy.db"), thoroughly=True).exchanges == 0
        (folder / "sub").mkdir()
        assert run("backup", "sub", "--force").status == 1
        assert names(folder) == ["config.yaml", "copy.db", "sluice.db", "sub"]

    def test_never_over_the_database_itself(self, run: Run, folder: Path) -> None:
        fill(run)
        (folder / "link.db").symlink_to(folder / "sluice.db")
        before = (folder / "sluice.db").read_bytes()
        for file in ("sluice.db", "link.db"):
            result = run("backup", "--force", file)
            assert (result.status, "is the database itself" in result.err) == (2, True)
        assert (folder / "sluice.db").read_bytes() == before

    def test_nor_over_another_one_in_use(self, run: Run, folder: Path) -> None:
        fill(run)
        for name in ("other.db", "other.db-wal"):
            (folder / name).write_text("theirs")
        result = run("backup", "--force", "other.db")
        assert (result.status, "-wal" in result.err) == (1, True)
        assert (folder / "other.db").read_text() == "theirs"

    def test_without_a_database_there_is_nothing(self, run: Run, folder: Path) -> None:
        result = run("backup", "copy.db")
        assert (result.status, "nothing to back up" in result.err) == (1, True)
        assert names(folder) == ["config.yaml"]

    def test_a_folder_that_is_not_there(self, run: Run, folder: Path) -> None:
        fill(run)
        result = run("backup", "nowhere/copy.db")
        assert result.status == 1
        assert result.err == "nowhere/copy.db cannot be written: No such file or directory\n"

    def test_a_folder_that_cannot_be_written(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(run)

        def refuse(*arguments: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(backup_module, "take", refuse)
        result = run("backup", "copy.db")
        assert (result.status, result.err) == (1, "copy.db cannot be written: Permission denied\n")

    def test_a_damaged_database_makes_no_backup(self, run: Run, folder: Path) -> None:
        fill(run)
        content = bytearray((folder / "sluice.db").read_bytes())
        content[3 * 4096 : 3 * 4096 + 200] = b"\xa5" * 200
        (folder / "sluice.db").write_bytes(content)
        result = run("backup", "copy.db")
        assert (result.status, "is damaged" in result.err) == (1, True)
        assert names(folder) == ["config.yaml", "sluice.db"]

    def test_the_left_over_of_a_killed_one_is_in_nobody_s_way(self, run: Run, folder: Path) -> None:
        fill(run)
        (folder / "copy.db.part").write_text("half")
        assert run("backup", "copy.db").status == 0
        assert names(folder) == ["config.yaml", "copy.db", "sluice.db"]

    def test_a_command_that_uses_the_database_is_waited_for(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(run)
        monkeypatch.setattr(client_module, "BUSY_S", 0.01)
        lock = InstanceLock(folder / "sluice.db")
        lock.acquire()
        result = run("backup", "copy.db")
        lock.release()
        assert (result.status, "in use by process" in result.err) == (1, True)
        assert run("backup", "copy.db").status == 0

    @pytest.mark.parametrize("served", [False, True], ids=["stopped", "running"])
    def test_a_disk_that_is_full(self, run: Run, folder: Path, served: bool) -> None:
        """No file may grow beyond 64 KiB, in the process of the command."""
        fill(run)

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        def attempt() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "proxy", "backup", "copy.db"],
                capture_output=True,
                text=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                preexec_fn=limit,
            )

        if served:
            with serving():
                result = attempt()
        else:
            result = attempt()
        assert result.returncode == 1, result.stderr
        assert result.stderr.startswith("copy.db ")
        assert "Traceback" not in result.stderr
        assert names(folder) == ["config.yaml", "sluice.db"]


class TestBesideAServer:
    def test_the_server_writes_it_while_requests_go_on(self, run: Run, folder: Path) -> None:
        key = fill(run)
        with serving() as served:
            assert ask(served.url, key).status_code == 200
            made = run("backup", "copy.db", "--json").json
            assert made["exchanges"] == 1
            assert made["size_bytes"] == (folder / "copy.db").stat().st_size
            assert (folder / "copy.db").stat().st_mode & 0o777 == 0o600
            assert ask(served.url, key).status_code == 200
            assert run("backup", "copy.db").status == 1
            assert run("backup", "copy.db", "--force", "--json").json["exchanges"] == 2
            assert not [name for name in names(folder) if "part" in name]
        money.check_books(folder / "copy.db")

    def test_what_the_server_says_is_passed_on(self, run: Run, folder: Path) -> None:
        with serving() as served:
            (folder / "sluice.db.backup-part").mkdir()  # nothing can be written there, not even by root
            result = run("backup", "copy.db")
            assert result.status == 1
            assert result.err.startswith("The backup cannot be made: ")
            assert served.stop() == 0
        assert "copy.db" not in names(folder)
        assert "copy.db.part" not in names(folder)

    async def test_a_server_that_dies_meanwhile(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(backups_module.Backup, "_read", lambda self: b"")
        async with gateway(tmp_path, providers={"demo": {"preset": "echo"}}) as sluice:
            lock = InstanceLock(tmp_path / "sluice.db")
            lock.acquire()
            lock.publish(sluice.url, sluice.app.run_secret)
            status = await asyncio.to_thread(main, ["backup", "copy.db"])
            lock.release()
        assert status == 1
        assert "did not answer" in capfd.readouterr().err
        assert not [name for name in names(tmp_path) if name.startswith("copy")]

    def test_restore_refuses_and_names_the_process(self, run: Run, folder: Path) -> None:
        key = fill(run)
        run("backup", "copy.db")
        with serving() as served:
            result = run("restore", "copy.db")
            assert (result.status, result.out) == (1, "")
            assert f"in use by process {served.process.pid}" in result.err
            assert served.url in result.err
            assert "nothing was changed" in result.err
            assert f"kill {served.process.pid}" in result.err
            assert ask(served.url, key).status_code == 200
            assert served.stop() == 0
        assert names(folder) == ["config.yaml", "copy.db", "sluice.db"]
        assert run("restore", "copy.db").status == 0


class TestRestore:
    def test_everything_is_as_it_was(self, run: Run, folder: Path) -> None:
        (folder / "config.yaml").write_text(PREPAID)
        key = fill(run)
        with serving() as served:
            assert ask(served.url, key).status_code == 200
        before = state(run)
        assert before["requests"][0]["cost"] != "0.000000000"
        assert run("backup", "copy.db").status == 0
        with serving() as served:
            assert ask(served.url, key).status_code == 200
        late = run("key", "create", "--name", "late", "--json").json["key"]
        after = state(run)
        assert after != before

        result = run("restore", "copy.db")
        assert result.status == 0
        assert str(folder / "sluice.db.before-restore") in result.out
        assert state(run) == before
        assert run("ledger", "verify").status == 0
        with serving() as served:
            assert ask(served.url, key).status_code == 200
            assert ask(served.url, late).status_code == 401

        # And back again: nothing was lost.
        assert run("restore", "sluice.db.before-restore").status == 0
        assert state(run) == after
        assert names(folder) == [
            "config.yaml",
            "copy.db",
            "sluice.db",
            "sluice.db.before-restore",
            "sluice.db.before-restore.1",
        ]
        assert {file.stat().st_mode & 0o777 for file in folder.glob("*.db*")} == {0o600}

    def test_on_a_fresh_machine(self, run: Run, folder: Path) -> None:
        key = fill(run)
        run("backup", "copy.db")
        (folder / "sluice.db").unlink()
        restored = run("restore", "copy.db", "--json").json
        contents = examine(folder / "copy.db", Path("copy.db"), thoroughly=True)
        assert restored == {
            "path": str(folder / "sluice.db"),
            "restored_from": "copy.db",
            "kept": None,
            "size_bytes": contents.size_bytes,
            "schema_version": contents.schema_version,
            "exchanges": 0,
        }
        assert names(folder) == ["config.yaml", "copy.db", "sluice.db"]
        with serving() as served:
            assert ask(served.url, key).status_code == 200
        (folder / "sluice.db").unlink()
        assert "There was none before." in run("restore", "copy.db").out

    def test_after_a_kill_what_was_committed_last_is_kept(self, run: Run, folder: Path) -> None:
        key = fill(run)
        run("backup", "copy.db")
        with serving() as served:
            assert ask(served.url, key).status_code == 200
            served.process.kill()
            served.process.wait()
        assert (folder / "sluice.db-wal").stat().st_size > 0
        assert run("restore", "copy.db").status == 0
        assert not [name for name in names(folder) if "-wal" in name or "-shm" in name]
        assert run("requests", "--json").json == []
        kept = folder / "sluice.db.before-restore"
        assert examine(kept, kept, thoroughly=True).exchanges == 1

    def test_a_damaged_database_is_replaced_as_its_message_says(self, run: Run, folder: Path) -> None:
        key = fill(run)
        run("backup", "copy.db")
        content = bytearray((folder / "sluice.db").read_bytes())
        content[3 * 4096 : 3 * 4096 + 200] = b"\xa5" * 200
        (folder / "sluice.db").write_bytes(content)
        with start("--port", "0", stderr=subprocess.PIPE) as process:
            _, err = process.communicate()
        assert process.returncode == 2
        assert "python -m proxy restore FILE" in err
        assert run("restore", "copy.db").status == 0
        with serving() as served:
            assert ask(served.url, key).status_code == 200
        assert (folder / "sluice.db.before-restore").read_bytes() == content

    def test_an_older_schema_is_migrated_at_the_next_start(self, run: Run, folder: Path) -> None:
        fill(run)
        with closing(sqlite3.connect(folder / "old.db", isolation_level=None)) as connection:
            script = (ROOT / "proxy/store/migrations/0001_initial.sql").read_text()
            connection.executescript(script)
            connection.execute(
                "INSERT INTO migrations VALUES (1, 'initial', '2026-01-01T00:00:00Z', '0.0.1')"
            )
            connection.execute("INSERT INTO settings VALUES ('billing_currency', 'USD')")
        assert run("restore", "old.db", "--json").json["schema_version"] == 1
        assert run("ledger", "verify").status == 0
        assert "sluice.db.v1" in names(folder)

    @staticmethod
    def refused(run: Run, folder: Path, status: int, words: str, file: str = "copy.db") -> None:
        before = {file.name: file.read_bytes() for file in folder.iterdir()}
        result = run("restore", file)
        assert (result.status, result.out) == (status, "")
        assert words in result.err
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before

    @pytest.mark.parametrize(
        ("spoil", "status", "words"),
        [
            (lambda file: file.unlink(), 1, "copy.db is not a file"),
            (lambda file: file.write_text("text" * 999), 1, "copy.db is not a database of Sluice"),
            (lambda file: file.write_bytes(file.read_bytes()[:20480]), 1, "copy.db is damaged"),
            (
                lambda file: change(file, "INSERT INTO migrations VALUES (99, '', '', '9.8.7')"),
                2,
                "needs version 9.8.7",
            ),
            (
                lambda file: change(file, "UPDATE settings SET value = 'EUR' WHERE name LIKE '%currency'"),
                2,
                "in EUR",
            ),
            (lambda file: change(file, "PRAGMA application_id = 1"), 1, "not a database of Sluice"),
        ],
        ids=["missing", "text", "cut off", "newer", "another currency", "foreign"],
    )
    def test_what_does_not_fit_changes_nothing(
        self, run: Run, folder: Path, spoil: Callable[[Path], Any], status: int, words: str
    ) -> None:
        fill(run)
        run("backup", "copy.db")
        spoil(folder / "copy.db")
        self.refused(run, folder, status, words)
        (folder / "sluice.db").unlink()
        self.refused(run, folder, status, words)

    def test_the_database_is_no_backup_of_itself(self, run: Run, folder: Path) -> None:
        fill(run)
        self.refused(run, folder, 2, "is the database itself", "sluice.db")
        self.refused(run, folder, 1, "is not a file", ".")

    def test_a_command_that_uses_the_database_is_waited_for(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(run)
        run("backup", "copy.db")
        monkeypatch.setattr(backup_module, "BUSY_S", 0.01)
        lock = InstanceLock(folder / "sluice.db")
        lock.acquire()
        result = run("restore", "copy.db")
        lock.release()
        assert (result.status, "in use by process" in result.err) == (1, True)
        assert run("restore", "copy.db").status == 0

    def test_a_disk_that_is_full(self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(run)
        run("backup", "copy.db")

        def full(*arguments: object) -> None:
            raise OSError(28, "No space left on device", "sluice.db.restore-part")

        monkeypatch.setattr(backup_module, "prepare", full)
        self.refused(run, folder, 1, "No space left on device")

        def broken(*arguments: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(backup_module, "prepare", broken)
        self.refused(run, folder, 1, "copy.db was not restored: database or disk is full")

    def test_a_folder_that_is_not_there(self, run: Run, folder: Path) -> None:
        fill(run)
        run("backup", "copy.db")
        (folder / "config.yaml").write_text(CONFIG + "database: nowhere/sluice.db\n")
        self.refused(run, folder, 1, "No such file or directory")

    def test_a_link_to_the_database_stays_one(self, run: Run, folder: Path) -> None:
        fill(run)
        run("backup", "copy.db")
        (folder / "real").mkdir()
        (folder / "sluice.db").rename(folder / "real" / "data.db")
        (folder / "sluice.db").symlink_to(folder / "real" / "data.db")
        assert run("restore", "copy.db").status == 0
        assert (folder / "sluice.db").is_symlink()
        assert names(folder / "real") == ["data.db", "data.db.before-restore"]


def change(file: Path, sql: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(sql)
