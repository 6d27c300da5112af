"""The funds of accounts as admission sees them: what the database has, less what running exchanges hold.

Balances change in the database, in the writer's thread (`store/ledger.py`); here stands what the
last commit left. docs/billing.md, "Funds"
"""

import asyncio

from proxy.core.errors import InsufficientQuota
from proxy.core.funding import Funds, Hold, Shortage, Worst, reserve
from proxy.core.money import display_amount
from proxy.store.usage import Settled

# When funds that others hold come free is not known; a short answer takes about so long.
_HELD_RETRY_S = 1.0


class AccountFunds:
    """The funds of one account, and the holds on them. All its methods belong to the event loop."""

    __slots__ = ("_held_tokens", "_holds", "account", "held_nanos", "left")

    def __init__(self, account: str, left: Funds) -> None:
        self.account = account
        #: The balances as of the last commit.
        self.left = left
        self.held_nanos = 0
        self._held_tokens: dict[str, int] = {}
        self._holds: dict[str, tuple[int, Hold]] = {}

    def available_nanos(self, now_ms: int) -> int:
        """Return the money that is not held: below zero when the account owes some."""
        return self.left.money_nanos(now_ms) - self.held_nanos

    def subscribed_plan(self, now_ms: int) -> str | None:
        """Return the plan that a running subscription puts in the place of the account's."""
        subscription = self.left.subscription
        return subscription.plan if subscription is not None and subscription.runs(now_ms) else None

    def check(self, worst: Worst, *, model: str, now_ms: int, credit_limit_nanos: int, currency: str) -> Hold:
        """Return what to hold for a request; takes nothing. Raises InsufficientQuota."""
        hold = reserve(
            self.left,
            self._held_tokens,
            self.held_nanos,
            worst,
            model=model,
            now_ms=now_ms,
            credit_limit_nanos=credit_limit_nanos,
        )
        if isinstance(hold, Shortage):
            raise self._refusal(hold, worst, currency)
        return hold

    def take(self, exchange: str, created_ms: int, hold: Hold) -> None:
        """Hold funds for an exchange, until it is settled or given back."""
        self._holds[exchange] = (created_ms, hold)
        self.held_nanos += hold.nanos
        for id, tokens in hold.grants:
            self._held_tokens[id] = self._held_tokens.get(id, 0) + tokens

    def give_back(self, exchange: str) -> None:
        """End the hold of an exchange."""
        _, hold = self._holds.pop(exchange)
        self.held_nanos -= hold.nanos
        for id, tokens in hold.grants:
            self._held_tokens[id] -= tokens
            if not self._held_tokens[id]:
                del self._held_tokens[id]

    def settled(self, exchange: str, commit: asyncio.Future[Settled]) -> None:
        """Take what the settlement of an exchange left; one that was refused keeps its hold."""
        if commit.cancelled() or commit.exception() is not None:
            return
        self.give_back(exchange)
        funds = commit.result().funds
        if funds is not None:
            self.left = funds

    def expired(self, now_ms: int) -> bool:
        """Return whether something has expired that no running exchange can still be paid with."""
        ends = [grant.expires_ms for grant in self.left.grants if grant.expires_ms is not None]
        if self.left.subscription is not None:
            ends.append(self.left.subscription.expires_ms)
        due = [end for end in ends if end <= now_ms]
        return bool(due) and all(created >= max(due) for created, _ in self._holds.values())

    def _refusal(self, shortage: Shortage, worst: Worst, currency: str) -> InsufficientQuota:
        left = display_amount(shortage.left_nanos, currency)
        cost = display_amount(worst.nanos, currency)
        may_cost = f"this request may cost up to {cost} (about {worst.tokens:,} tokens)"
        if shortage.code == "in_flight_budget_exhausted":
            return InsufficientQuota(
                shortage.code,
                f'The account "{self.account}" has {left} that running requests do not hold, and {may_cost}. '
                "Please try again when one of them has ended.",
                retry_after_s=_HELD_RETRY_S,
                should_retry=True,
            )
        return InsufficientQuota(
            shortage.code,
            f'The account "{self.account}" has {left} left, and {may_cost}. It must be topped up.',
        )
