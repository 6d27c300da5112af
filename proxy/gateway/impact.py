"""What another configuration means to those who use the gateway: which models, plans and keys it touches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from proxy.config.problems import clipped
from proxy.config.schema import Plan
from proxy.core.errors import SluiceError
from proxy.core.globs import Globs
from proxy.gateway.keystate import NO_PLAN
from proxy.gateway.snapshot import Snapshot

# So many are named of each; the others are counted.
MOST_NAMED = 10

#: Who answers each name that can be called.
_Reachable = Mapping[str, frozenset[str]]


class Holder(NamedTuple):
    """A key that is in use, as far as it matters here; `plan` is that which holds for its account."""

    name: str
    id: str
    plan: str | None
    models: tuple[str, ...] | None
    providers: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Rights:
    """What plan and key together allow."""

    models: tuple[Globs, ...]
    providers: tuple[Globs, ...]

    @classmethod
    def of(cls, holder: Holder, plans: Mapping[str, Plan]) -> "_Rights":
        plan = plans.get(holder.plan or "", NO_PLAN)
        return cls(_globs(plan.models, holder.models), _globs(plan.providers, holder.providers))

    def allow(self, name: str, providers: Iterable[str]) -> bool:
        return all(globs.allows(name) for globs in self.models) and any(
            all(globs.allows(provider) for globs in self.providers) for provider in providers
        )


def impact(
    before: Snapshot, after: Snapshot, accounts: Mapping[str, str | None], holders: Sequence[Holder]
) -> list[str]:
    """Return one line for each thing that people may notice; `accounts` says whose plan is which."""
    old, new = _reachable(before), _reachable(after)
    return [
        *_counted("models are new", new.keys() - old.keys()),
        *_counted("models are gone", old.keys() - new.keys()),
        *_plans(before.config.plans, after.config.plans, accounts),
        *_losses(before, after, old, new, holders),
    ]


def _reachable(snapshot: Snapshot) -> _Reachable:
    names = [name for name in snapshot.config.models if "*" not in name]
    for provider in snapshot.config.providers.values():
        names += [f"{provider.name}/{model}" for model in provider.models or () if "*" not in model]
    found = {}
    for name in names:
        try:
            deployments = snapshot.catalog.resolve(name).deployments
        except SluiceError:  # all its providers are inactive
            continue
        found[name] = frozenset(deployment.provider for deployment in deployments)
    return found


def _plans(
    old: Mapping[str, Plan], new: Mapping[str, Plan], accounts: Mapping[str, str | None]
) -> Iterator[str]:
    for name, plan in new.items():
        users = [account for account, used in accounts.items() if used == name]
        if name in old and old[name] != plan and users:
            yield f"the plan {name} changes for accounts: {_listed(users)}"


def _losses(
    before: Snapshot, after: Snapshot, old: _Reachable, new: _Reachable, holders: Sequence[Holder]
) -> Iterator[str]:
    """Keys with the same rights are looked at once, and where the plan is as before only what changed is."""
    affected = [name for name in old if old[name] != new.get(name)]
    groups: dict[Holder, list[Holder]] = {}
    for holder in holders:
        groups.setdefault(holder._replace(name="", id=""), []).append(holder)
    told = 0
    for group, members in groups.items():
        plan = group.plan or ""
        same = before.config.plans.get(plan) == after.config.plans.get(plan)
        had = _Rights.of(group, before.config.plans)
        has = _Rights.of(group, after.config.plans)
        lost = [
            name
            for name in (affected if same else old)
            if had.allow(name, old[name]) and not has.allow(name, new.get(name, ()))
        ]
        if lost:
            told += 1
            if told <= MOST_NAMED:
                keys = _listed([f"{member.name} ({member.id})" for member in members])
                yield f"{len(lost)} models are lost to keys: {keys}: {_listed(lost)}"
    if told > MOST_NAMED:
        yield f"… and models to keys of {told - MOST_NAMED} other sets of rights"


def _counted(what: str, names: Iterable[str]) -> Iterator[str]:
    if found := sorted(names):
        yield f"{len(found)} {what}: {_listed(found)}"


def _listed(names: Sequence[str]) -> str:
    shown = [clipped(name) for name in names[:MOST_NAMED]]
    if more := len(names) - len(shown):
        shown.append(f"… {more} more")
    return ", ".join(shown)


def _globs(*lists: tuple[str, ...] | None) -> tuple[Globs, ...]:
    return tuple(Globs(patterns) for patterns in lists if patterns is not None)
