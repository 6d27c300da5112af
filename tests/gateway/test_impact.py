"""Whom another configuration concerns."""

from proxy.gateway.impact import Holder, impact
from proxy.gateway.snapshot import Snapshot
from tests.support.configuration import configuration

BEFORE = """
plans:
  free: {models: [a, "demo/*"]}
  pro: {rpm: 10}
providers:
  demo: {preset: echo, models: [x, "y-*"]}
  other: {preset: echo}
models:
  a: {routes: [demo/x, other/a]}
  b: {routes: [other/b]}
  "w-*": {routes: ["demo/*"]}
"""


def effects(old: str, new: str, *holders: Holder, **accounts: str | None) -> list[str]:
    before, after = (Snapshot.build(configuration(text)) for text in (BEFORE, BEFORE.replace(old, new)))
    assert old in BEFORE
    return impact(before, after, accounts, holders)


def holder(
    name: str,
    plan: str | None = None,
    models: tuple[str, ...] | None = None,
    providers: tuple[str, ...] | None = None,
) -> Holder:
    return Holder(name, f"key_{name}", plan, models, providers)


def test_models_come_and_go() -> None:
    assert effects("  b: {", "  c: {") == ["1 models are new: c", "1 models are gone: b"]
    assert effects("models: [x,", "models: [z,")[:2] == [
        "1 models are new: demo/z",
        "1 models are gone: demo/x",
    ]


def test_a_model_without_any_active_provider_is_gone() -> None:
    inactive = "other: {base_url: 'http://o.example', api_key: '${NONE:-}'}"
    assert effects("other: {preset: echo}", inactive) == ["1 models are gone: b"]


def test_plans_matter_to_accounts_that_use_them() -> None:
    assert effects("rpm: 10", "rpm: 9", first="pro", second="free", third=None) == [
        "the plan pro changes for accounts: first"
    ]
    assert effects("rpm: 10", "rpm: 9", second="free") == []


def test_keys_lose_models() -> None:
    everything, listed, planned = holder("all"), holder("listed", models=("b", "w-*")), holder("plan", "free")
    assert effects("  b: {", "  c: {", everything, listed, planned)[2:] == [
        "1 models are lost to keys: all (key_all): b",
        "1 models are lost to keys: listed (key_listed): b",
    ]


def test_keys_that_may_the_same_are_told_together() -> None:
    keys = [holder(f"k{number}") for number in range(12)]
    (line,) = effects("  b: {", "  c: {", *keys)[2:]
    assert line.startswith("1 models are lost to keys: k0 (key_k0), k1")
    assert line.endswith("… 2 more: b")


def test_a_plan_that_allows_less_takes_models_away() -> None:
    assert effects('[a, "demo/*"]', "[a]", holder("k", "free"), holder("other", "pro")) == [
        "1 models are lost to keys: k (key_k): demo/x"
    ]
    assert effects("rpm: 10", "providers: [demo]", holder("k", "pro")) == [
        "1 models are lost to keys: k (key_k): b"
    ]


def test_a_model_is_lost_to_keys_that_may_not_use_who_still_has_it() -> None:
    bound, free = holder("bound", providers=("demo",)), holder("free")
    assert effects("[demo/x, other/a]", "[other/a]", bound, free) == [
        "1 models are lost to keys: bound (key_bound): a"
    ]


def test_many_sets_of_rights_are_counted() -> None:
    keys = [holder(f"k{number}", models=("b", f"m{number}")) for number in range(15)]
    found = effects("  b: {", "  c: {", *keys)[2:]
    assert len(found) == 11
    assert found[-1] == "… and models to keys of 5 other sets of rights"
