"""The table of presets."""

import pytest

from proxy.config.presets import PRESETS, REGIONS, Preset
from proxy.config.schema import REPAIRS
from proxy.config.urls import base_url, is_loopback

ROWS = {row.name: row for row in PRESETS.values()}
EVERY_ROW = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def test_names_and_aliases_are_unlike() -> None:
    assert len(PRESETS) == sum(1 + len(row.aliases) for row in ROWS.values())


@EVERY_ROW
def test_addresses_are_base_urls(row: Preset) -> None:
    for host in row.hosts.values():
        for path in filter(None, (row.chat, row.messages, row.responses, *row.endpoints.values())):
            url = host.format(resource="mine") + path
            assert base_url(url, "") == url


@EVERY_ROW
def test_only_local_presets_need_no_key_and_no_encryption(row: Preset) -> None:
    assert row.variables or row.local
    for host in row.hosts.values():
        assert host.startswith("https://") is not row.local
        assert is_loopback(host.removeprefix("http://").split(":")[0]) is row.local


@EVERY_ROW
def test_values_are_among_those_of_the_file(row: Preset) -> None:
    assert set(row.regions) <= set(REGIONS)
    assert set(row.repair) <= set(REPAIRS)
    assert row.stream_usage in ("auto", "never")
    assert row.protocol in ("openai", "anthropic", "echo")
    assert row.auth in ("bearer", "x-api-key", "api-key", "none")
