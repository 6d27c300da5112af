"""What the admin API takes, and what becomes of it."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from proxy.core.entities import Account, Limits, Quota
from proxy.core.errors import BadRequest
from proxy.gateway.changes import (
    AccountChange,
    KeyChange,
    NewKey,
    changed_account,
    changed_key,
    check_account_name,
)
from proxy.gateway.management import blank_key

KEY = replace(
    blank_key(1, "before"),
    models=("a",),
    limits=Limits(rpm=1, tpm=2),
    quota=Quota(10**9, "day"),
    expires_ms=5,
)


def changed(**members: Any) -> Any:
    return changed_key(KEY, msgspec.convert(members, KeyChange))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, {}),
        ({"name": "after"}, {"name": "after"}),
        ({"account": "team"}, {"account": "team"}),
        ({"enabled": False}, {"enabled": False}),
        ({"models": ["x", "y-*"]}, {"models": ("x", "y-*")}),
        ({"models": None}, {"models": None}),
        ({"models": []}, {"models": ()}),
        ({"providers": ["p"]}, {"providers": ("p",)}),
        ({"ips": ["10.0.0.0/8", "::1"]}, {"ips": ("10.0.0.0/8", "::1")}),
        ({"ips": None}, {"ips": None}),
        ({"limits": {"rpm": 9}}, {"limits": Limits(rpm=9, tpm=2)}),
        ({"limits": {"rpm": None}}, {"limits": Limits(tpm=2)}),
        ({"limits": {}}, {}),
        ({"limits": None}, {"limits": Limits()}),
        ({"quota": {"amount": "0.5"}}, {"quota": Quota(5 * 10**8, "day")}),
        ({"quota": {"amount": 7}}, {"quota": Quota(7 * 10**9, "day")}),
        ({"quota": {"period": "total"}}, {"quota": Quota(10**9, "total")}),
        ({"quota": None}, {"quota": None}),
        ({"expires_at": "1970-01-01T00:00:09Z"}, {"expires_ms": 9000}),
        ({"expires_at": None}, {"expires_ms": None}),
    ],
    ids=str,
)
def test_what_is_given_is_set_and_nothing_else(members: dict[str, Any], expected: dict[str, Any]) -> None:
    assert changed(**members) == replace(KEY, **expected)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"name": "a\nb"}, "name"),
        ({"name": "\x1b[31m"}, "name"),
        ({"name": "  "}, "name"),
        ({"ips": ["10.0.0.0/8", "10.0.0.1/8"]}, "ips[1]"),
        ({"ips": ["localhost"]}, "ips[0]"),
        ({"quota": {"amount": "-1"}}, "quota.amount"),
        ({"quota": {"amount": "1e3"}}, "quota.amount"),
        ({"quota": {"amount": "0.0000000001"}}, "quota.amount"),
        ({"quota": {"period": "year"}}, "quota.period"),
        ({"expires_at": "2027-01-31"}, "expires_at"),
        ({"expires_at": ""}, "expires_at"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as raised:
        changed(**members)
    assert raised.value.code == "invalid_value"
    assert raised.value.param == param
    assert raised.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize(("given", "missing"), [({"amount": "1"}, "period"), ({"period": "day"}, "amount")])
def test_a_first_quota_is_whole(given: dict[str, Any], missing: str) -> None:
    fields = msgspec.convert({"name": "k", "quota": given}, NewKey)
    with pytest.raises(BadRequest) as raised:
        changed_key(blank_key(1), fields)
    assert raised.value.param == f"quota.{missing}"


@pytest.mark.parametrize(
    "members",
    [
        {"id": "key_other"},
        {"created_at": "2027-01-31T00:00:00Z"},
        {"limits": {"rps": 1}},
        {"limits": {"rpm": 0}},
        {"limits": {"rpm": -1}},
        {"limits": {"rpm": 1.5}},
        {"limits": {"rpm": True}},
        {"limits": {"rpm": "5"}},
        {"limits": {"rpm": 10**15 + 1}},
        {"quota": {"amount": 0.1, "period": "day"}},
        {"quota": {"amount": "1", "spent": "0"}},
        {"models": "all"},
        {"models": [""]},
        {"models": ["m"] * 1001},
        {"name": ""},
        {"name": "n" * 101},
        {"enabled": None},
        {"enabled": 1},
    ],
    ids=lambda members: str(members)[:60],
)
def test_objects_are_closed_and_typed(members: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(members, KeyChange)


def test_a_new_key_needs_a_name_and_is_enabled() -> None:
    with pytest.raises(msgspec.ValidationError, match="name"):
        msgspec.convert({}, NewKey)
    with pytest.raises(msgspec.ValidationError, match="enabled"):
        msgspec.convert({"name": "k", "enabled": False}, NewKey)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, {}),
        ({"plan": "pro"}, {"plan": "pro"}),
        ({"plan": None, "enabled": False}, {"plan": None, "enabled": False}),
    ],
    ids=str,
)
def test_accounts_change_likewise(members: dict[str, Any], expected: dict[str, Any]) -> None:
    account = Account("team", "free", enabled=True, created_ms=1)
    assert changed_account(account, msgspec.convert(members, AccountChange)) == replace(account, **expected)


@pytest.mark.parametrize("name", ["team", "Jürgen", "团队", "a@b.example", "a b", "…"])
def test_names_of_accounts(name: str) -> None:
    check_account_name(name)


@pytest.mark.parametrize("name", ["a/b", ".", "..", " a", "a ", "a\tb", "\u202e", " "])
def test_names_that_no_account_can_have(name: str) -> None:
    with pytest.raises(BadRequest) as raised:
        check_account_name(name)
    assert raised.value.param == "name"
