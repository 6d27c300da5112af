"""How changes of files are seen."""

import os
from pathlib import Path

import pytest

from proxy.config.files import Files
from proxy.config.load import ConfigFile
from proxy.config.problems import ConfigError


def test_nothing_that_was_read_has_changed_at_first(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("{}")
    file = ConfigFile(path, {})
    file.read()
    assert not file.changed()
    path.write_text("{  }")
    assert file.changed()
    file.read()
    assert not file.changed()


def test_a_file_of_the_same_size_and_time_in_its_place_is_another(tmp_path: Path) -> None:
    path, other = tmp_path / "config.yaml", tmp_path / "other.yaml"
    path.write_text("{}")
    file = ConfigFile(path, {})
    file.read()
    other.write_text("[]")
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)
    assert file.changed()


def test_files_named_by_values_count_also_when_they_are_missing(tmp_path: Path) -> None:
    path, key = tmp_path / "config.yaml", tmp_path / "key.txt"
    path.write_text("admin_key: file:key.txt")
    file = ConfigFile(path, {})
    with pytest.raises(ConfigError, match="key.txt"):
        file.read()
    assert not file.changed()
    key.write_text("sk-admin-0123456789")
    assert file.changed()
    file.read()
    assert not file.changed()
    key.unlink()
    assert file.changed()


def test_a_missing_configuration_is_seen_when_it_comes(tmp_path: Path) -> None:
    file = ConfigFile(tmp_path / "config.yaml", {})
    with pytest.raises(ConfigError):
        file.read()
    assert not file.changed()
    (tmp_path / "config.yaml").write_text("{}")
    assert file.changed()


def test_a_path_that_no_system_knows_has_no_stamp() -> None:
    files = Files()
    with pytest.raises(ValueError, match="null"):
        files.read(Path("a\0b"), 1)
    assert files.look() == files.stamps == {Path("a\0b"): None}
