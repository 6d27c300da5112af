"""What a deployment costs and holds: the configuration first, then lists."""

import pytest

from proxy.config.catalogue import IMPORTED, Catalogue
from proxy.core.routing import Deployment, Model
from proxy.gateway.snapshot import PriceOrigin, Snapshot
from tests.config.test_facts import imported
from tests.support.configuration import configuration

TEXT = """
billing: {exchange_rates: {CNY: 0.14}}
providers: {openai: {}, ali: {}, anthropic: {}, demo: {preset: echo}, own: {base_url: "https://o.example/v1"}}
models:
  bare: {routes: [openai/gpt-4o, openai/gpt-5, demo/x, own/x]}
  set:
    routes:
      - openai/gpt-4o
      - {provider: openai, model: gpt-5, price: {input: 3, per: 1M}}
    price: {input: 1, output: 2, per: 1M}
    max_output: 10
    context_window: 20
    category: mine
"""
LISTS = imported("openai", "", {"id": "gpt-4o", "price": {"input": "7", "output": "8"}, "max_output": 99})


@pytest.fixture
def snapshot() -> Snapshot:
    return Snapshot.build(configuration(TEXT), LISTS)


def cases(snapshot: Snapshot, name: str) -> list[tuple[Model | None, Deployment]]:
    model = snapshot.config.models[name]
    return [(model, deployment) for deployment in model.deployments]


def test_prices_come_from_the_nearest_place(snapshot: Snapshot) -> None:
    every = [*cases(snapshot, "set"), *cases(snapshot, "bare")]
    every += [
        (None, Deployment("ali", "qwen-max")),
        (None, Deployment("anthropic", "claude-haiku-4-5-20251001")),
    ]
    found = [(snapshot.price_of(*case), snapshot.price_origin_of(*case)) for case in every]
    assert [(price and price.input // 10**6, origin) for price, origin in found] == [
        (1000, PriceOrigin("configuration")),
        (3000, PriceOrigin("configuration")),
        (7000, PriceOrigin("imported", "2026-11-20")),
        (None, None),
        (0, PriceOrigin("free")),
        (None, None),
        (2400, PriceOrigin("catalogue", "2026-05-01")),
        (1000, PriceOrigin("catalogue", "2026-11-12")),
    ]


def test_limits_and_category_come_from_the_nearest_place(snapshot: Snapshot) -> None:
    def known(model: Model | None, deployment: Deployment) -> tuple[int | None, int | None, str | None]:
        return (
            snapshot.max_output_of(model, deployment),
            snapshot.context_window_of(model, deployment),
            snapshot.category_of(model, deployment),
        )

    assert known(*cases(snapshot, "set")[0]) == (10, 20, "mine")
    assert known(*cases(snapshot, "bare")[0]) == (99, 128_000, "general")
    assert known(None, Deployment("openai", "gpt-4o-mini")) == (16_384, 128_000, "fast")
    assert known(None, Deployment("own", "gpt-4o")) == (None, None, None)


def test_other_imports_take_the_place_of_these(snapshot: Snapshot) -> None:
    route = Deployment("openai", "gpt-4o")
    after = snapshot.with_imported(Catalogue((), IMPORTED))
    assert after.price_origin_of(None, route) == PriceOrigin("catalogue", "2026-11-12")
    assert after.providers is snapshot.providers
    assert snapshot.price_origin_of(None, route) == PriceOrigin("imported", "2026-11-20")
