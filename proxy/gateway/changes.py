"""What the admin API takes about keys and accounts, and what becomes of it.

Objects are closed: an unknown member is an error. A change follows RFC 7396, JSON Merge Patch:
what is left out stays, null removes, an object is merged member by member.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from ipaddress import ip_network
from typing import Annotated, Any, TypeAlias, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict as members_of

from proxy.core.entities import Account, ApiKey, Limits, Quota
from proxy.core.errors import BadRequest
from proxy.core.moments import parse_moment
from proxy.core.money import parse_amount
from proxy.core.periods import PERIODS

T = TypeVar("T")
Given: TypeAlias = T | UnsetType
Text = Annotated[str, Meta(min_length=1, max_length=200)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Names = Annotated[tuple[Text, ...], Meta(max_length=1000)]
# 10^15: far above any real limit, and sums of a day's tokens still fit 64 bits.
Count = Annotated[int, Meta(ge=1, le=10**15)]
# A month: a rotation that takes longer is no rotation.
Grace = Annotated[int, Meta(ge=0, le=31 * 86_400)]


class LimitFields(Struct, forbid_unknown_fields=True, frozen=True):
    rpm: Given[Count | None] = UNSET
    tpm: Given[Count | None] = UNSET
    rpd: Given[Count | None] = UNSET
    tpd: Given[Count | None] = UNSET
    concurrency: Given[Count | None] = UNSET
    max_context: Given[Count | None] = UNSET
    max_output: Given[Count | None] = UNSET


class QuotaFields(Struct, forbid_unknown_fields=True, frozen=True):
    """`amount` is decimal text of the billing currency, or a whole number."""

    amount: Given[str | int] = UNSET
    period: Given[str] = UNSET


class KeyFields(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What can be set of a key when it is made, and changed later."""

    account: Given[str] = UNSET
    models: Given[Names | None] = UNSET
    providers: Given[Names | None] = UNSET
    ips: Given[Names | None] = UNSET
    limits: Given[LimitFields | None] = UNSET
    quota: Given[QuotaFields | None] = UNSET
    expires_at: Given[str | None] = UNSET


class NewKey(KeyFields, forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: Name


class KeyChange(KeyFields, forbid_unknown_fields=True, frozen=True, kw_only=True):
    name: Given[Name] = UNSET
    enabled: Given[bool] = UNSET


class Rotation(Struct, forbid_unknown_fields=True, frozen=True):
    """`grace_s`: how many seconds the old secret works on."""

    grace_s: Grace = 0


class NewAccount(Struct, forbid_unknown_fields=True, frozen=True):
    name: Name
    plan: Given[str | None] = UNSET


class AccountChange(Struct, forbid_unknown_fields=True, frozen=True):
    plan: Given[str | None] = UNSET
    enabled: Given[bool] = UNSET


def changed_key(key: ApiKey, fields: KeyFields) -> ApiKey:
    """Return the key with these fields set. Raises BadRequest, naming the member."""
    given = _given(fields)
    values: dict[str, Any] = {
        name: given[name] for name in ("name", "account", "enabled", "models", "providers") if name in given
    }
    if "name" in values:
        check_printable(values["name"], "name")
    if "ips" in given:
        values["ips"] = given["ips"]
        _check_networks(given["ips"] or ())
    if "limits" in given:
        values["limits"] = _changed_limits(key.limits, given["limits"])
    if "quota" in given:
        values["quota"] = _changed_quota(key.quota, given["quota"])
    if "expires_at" in given:
        values["expires_ms"] = moment_ms(given["expires_at"], "expires_at")
    return replace(key, **values)


def changed_account(account: Account, fields: AccountChange) -> Account:
    return replace(account, **_given(fields))


def check_account_name(name: str) -> None:
    """Raise BadRequest for a name that cannot stand in a path, or not be told from another."""
    check_printable(name, "name")
    if "/" in name or name in (".", "..") or name != name.strip():
        raise invalid("name", "an account's name has no slash, and no space at its ends")


def _given(fields: Struct) -> dict[str, Any]:
    return {name: value for name, value in members_of(fields).items() if value is not UNSET}


def _changed_limits(limits: Limits, fields: LimitFields | None) -> Limits:
    return Limits() if fields is None else replace(limits, **_given(fields))


def _changed_quota(quota: Quota | None, fields: QuotaFields | None) -> Quota | None:
    if fields is None:
        return None
    values: Mapping[str, Any] = asdict(quota) if quota else {}
    given = _given(fields)
    if "amount" in given:
        values = {**values, "amount_nanos": _quota_nanos(given["amount"])}
    if "period" in given:
        if given["period"] not in PERIODS:
            raise invalid("quota.period", f"must be one of {', '.join(PERIODS)}")
        values = {**values, "period": given["period"]}
    for member, name in (("amount_nanos", "amount"), ("period", "period")):
        if member not in values:
            raise invalid(f"quota.{name}", "is required")
    return Quota(**values)


def amount_nanos(value: str | int, param: str) -> int:
    """Return an amount, decimal text or a whole number, in nanos. Raises BadRequest, naming the member."""
    try:
        return parse_amount(str(value))
    except ValueError as error:
        raise invalid(param, str(error)) from None


def _quota_nanos(value: str | int) -> int:
    nanos = amount_nanos(value, "quota.amount")
    if nanos < 0:
        raise invalid("quota.amount", "must not be below zero")
    return nanos


def moment_ms(text: str | None, param: str) -> int | None:
    """Return an RFC 3339 time in Unix milliseconds. Raises BadRequest, naming the member."""
    try:
        return None if text is None else parse_moment(text)
    except ValueError as error:
        raise invalid(param, str(error)) from None


def _check_networks(blocks: tuple[str, ...]) -> None:
    for index, block in enumerate(blocks):
        try:
            ip_network(block)
        except ValueError as error:
            raise invalid(f"ips[{index}]", f"{error}; write an address or a block like 10.0.0.0/8") from None


def check_printable(text: str, param: str) -> None:
    """Raise BadRequest for text that is empty, or could command a terminal."""
    if not text.isprintable() or not text.strip():
        raise invalid(param, "must be printable text")


def invalid(param: str, message: str) -> BadRequest:
    """Return the error of a member."""
    return BadRequest("invalid_value", f"{param}: {message}.", param=param)
