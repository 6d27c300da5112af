"""The starting configuration."""

import stat
from pathlib import Path

import pytest

from proxy.config.load import load
from proxy.config.template import starting_configuration, write_initial

ROOT = Path(__file__).parents[2]


def test_it_is_the_example_of_the_repository() -> None:
    assert (ROOT / "config.example.yaml").read_bytes() == starting_configuration()


def test_it_is_written_for_its_owner_alone_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_initial(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path, {}).providers["demo"].active


def test_it_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_initial(path)
    assert path.read_text() == "mine"


def test_a_file_that_cannot_be_written_whole_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr("proxy.config.template.starting_configuration", fail)
    with pytest.raises(OSError, match="disk full"):
        write_initial(tmp_path / "config.yaml")
    assert not list(tmp_path.iterdir())
