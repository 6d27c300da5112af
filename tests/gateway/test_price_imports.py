"""Price lists that the database holds."""

import logging

import pytest

from proxy.config.catalogue import NOTHING_IMPORTED
from proxy.gateway.price_imports import catalogue_of
from proxy.store.prices import PriceImport


@pytest.mark.parametrize(
    "lists",
    [
        "[1]",
        "nonsense",
        '[{"preset": "gone", "currency": "USD", "source": "s", "date": "2026-11-20", "models": []}]',
    ],
)
def test_what_another_version_has_kept_does_not_stop_the_start(
    lists: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert catalogue_of(PriceImport("old.json", 1, lists)) is NOTHING_IMPORTED
    assert "old.json" in caplog.text
