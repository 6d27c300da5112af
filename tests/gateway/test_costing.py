"""The most that a request may cost, and whether its key may spend that."""

from dataclasses import replace
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from proxy.config.schema import Plan
from proxy.core.entities import Account, Limits, Quota, Usage
from proxy.core.errors import InsufficientQuota, PermissionRefused
from proxy.core.funding import Funds, Worst
from proxy.core.pricing import ONE, Price, Ratio
from proxy.core.routing import Deployment
from proxy.gateway.admission import candidates_of
from proxy.gateway.costing import MOST_NANOS, Candidate, check_priced, check_quota, worst_of
from proxy.gateway.funds import AccountFunds
from proxy.gateway.keystate import KeyState
from proxy.gateway.management import blank_key
from proxy.gateway.request import CHAT, EMBEDDINGS, PASSED_THROUGH, ClientRequest, Endpoint, read_json
from proxy.gateway.snapshot import Snapshot
from tests.config.test_facts import imported
from tests.support.configuration import configuration

TEXT = """
billing: {mode: prepaid, exchange_rates: {CNY: 0.5}}
providers:
  a: {base_url: "https://a.example/v1"}
  b: {base_url: "https://b.example/v1"}
  demo: {preset: echo}
models:
  plain: {routes: [a/m], price: {input: 1, output: 2, per: 1M}, max_output: 1000}
  endless: {routes: [a/m], price: {input: 1, output: 2, per: 1M}}
  huge: {routes: [a/m], price: {input: 1, output: 2, per: 1M}, max_output: 100000}
  dear:
    routes:
      - a/m
      - {provider: b, model: m, price: {input: 0, output: 0, per: 1M}}
      - {provider: b, model: n, price: {input: 8, output: 2, per: 1M}}
      - {provider: b, model: o, price: {input: 2, output: 5, currency: CNY, per: 1M}}
    price: {input: 1, output: 3, per: 1M}
    max_output: 1000
  tiered:
    routes: [a/m]
    max_output: 100
    price:
      {input: 1, output: 2, per: 1M, tiers: [{above_input_tokens: 500, input: 10, output: 20}]}
  each: {routes: [a/m], price: {input: 0, output: 0, per_request: 0.25, per: 1M}}
  partly: {routes: [a/m, {provider: b, model: m, price: {input: 1, output: 2, per: 1M}}]}
  free: {routes: [a/m, demo/x], price: {input: 0, output: 0, per: 1M}}
"""
IMAGES = PASSED_THROUGH[0]
UNIT = 10**9


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return Snapshot.build(configuration(TEXT))


def key_state(max_output: int | None = None, quota: Quota | None = None, discount: Ratio = ONE) -> KeyState:
    key = replace(blank_key(0), quota=quota, limits=Limits(max_output=max_output))
    account = Account("default", None, enabled=True, created_ms=0)
    plan = Plan("plan", discount=discount)
    return KeyState(key, account, AccountFunds("default", Funds()), plan, now_ns=0)


def asking(model: str, endpoint: Endpoint = CHAT, **members: Any) -> ClientRequest:
    body = {"model": model, "messages": [], "input": "", "prompt": "", **members}
    return read_json(endpoint, [], msgspec.json.encode(body))


def worst(snapshot: Snapshot, request: ClientRequest, key: KeyState, input_tokens: int = 100) -> Worst:
    _, candidates = candidates_of(request, key, snapshot)
    return worst_of(request, key, snapshot, candidates, input_tokens)


class TestTheWorst:
    @pytest.mark.parametrize(
        ("model", "of_key", "members", "output"),
        [
            pytest.param("plain", None, {}, 1000, id="as much as the model can"),
            pytest.param("plain", None, {"max_tokens": 10}, 10, id="what is asked for"),
            pytest.param("plain", None, {"max_completion_tokens": 10}, 10, id="by its other name"),
            pytest.param("plain", None, {"max_tokens": 10, "max_completion_tokens": 20}, 20, id="the larger"),
            pytest.param("plain", None, {"max_tokens": 5000}, 1000, id="not more than the model can"),
            pytest.param("plain", 300, {}, 300, id="as much as the key may"),
            pytest.param("plain", 300, {"max_tokens": 500}, 300, id="not more than the key may"),
            pytest.param("plain", 3000, {"max_tokens": 5000}, 1000, id="the tighter bound, of the model"),
            pytest.param("endless", None, {}, 4096, id="nobody knows"),
            pytest.param("endless", None, {"max_tokens": 5000}, 5000, id="asked for, without bounds"),
            pytest.param("endless", None, {"max_tokens": 9000}, 8192, id="at most so much"),
            pytest.param("endless", 6000, {}, 6000, id="the key's bound alone"),
            pytest.param("huge", None, {}, 8192, id="at most so much of the model's"),
            pytest.param("huge", 20_000, {"max_tokens": 30_000}, 8192, id="at most so much of the key's"),
        ],
    )
    def test_output(
        self, snapshot: Snapshot, model: str, of_key: int | None, members: dict[str, Any], output: int
    ) -> None:
        found = worst(snapshot, asking(model, **members), key_state(of_key))
        assert found == Worst(100, output, 100 * 1000 + output * 2000, False)

    def test_the_output_is_that_of_the_first_candidate(self) -> None:
        """It is the one that most likely answers; the others differ only where nobody configured it."""
        lists = imported(
            "openai", "", {"id": "gpt-4o", "price": {"input": "1", "output": "1"}, "max_output": 99}
        )
        text = """
            providers: {openai: {api_key: k}, a: {base_url: "https://a.example/v1"}}
            models: {first: {routes: [openai/gpt-4o, a/m]}, second: {routes: [a/m, openai/gpt-4o]}}
        """
        snapshot = Snapshot.build(configuration(text), lists)
        found = [worst(snapshot, asking(name), key_state()).output_tokens for name in ("first", "second")]
        assert found == [99, 4096]

    def test_the_dearest_candidate_counts(self, snapshot: Snapshot) -> None:
        few = worst(snapshot, asking("dear", max_tokens=1), key_state(), 100)
        assert few == Worst(100, 1, 802_000, False)  # 8 and 2: the third
        much = worst(snapshot, asking("dear", max_tokens=1000), key_state(), 1)
        assert much == Worst(1, 1000, 3_001_000, False)  # 1 and 3: the first

    def test_other_currencies_and_discounts_count(self, snapshot: Snapshot) -> None:
        pinned = replace(asking("dear", max_tokens=1000), pinned="b")
        found = worst(snapshot, pinned, key_state(discount=Ratio(4, 5)), 1)
        assert found.nanos == (2 + 5 * 1000) * 1000 // 2 * 4 // 5  # the fourth, 0.5 for one CNY

    @pytest.mark.parametrize(("tokens", "nanos"), [(500, 500_000 + 200_000), (501, 5_010_000 + 2_000_000)])
    def test_the_tier_is_that_of_the_input(self, snapshot: Snapshot, tokens: int, nanos: int) -> None:
        assert worst(snapshot, asking("tiered"), key_state(), tokens).nanos == nanos

    def test_where_no_text_is_generated_there_is_no_output(self, snapshot: Snapshot) -> None:
        found = worst(snapshot, asking("plain", EMBEDDINGS, max_tokens=50), key_state(20), 100)
        assert found == Worst(100, 0, 100_000, False)

    def test_a_price_for_each_request(self, snapshot: Snapshot) -> None:
        assert worst(snapshot, asking("each", IMAGES), key_state(), 0) == Worst(0, 0, UNIT // 4, False)

    def test_what_costs_nothing(self, snapshot: Snapshot) -> None:
        assert worst(snapshot, asking("free"), key_state()) == Worst(100, 4096, 0, True)
        free = worst(snapshot, asking("plain"), key_state(discount=Ratio(0, 1)))
        assert free == Worst(100, 1000, 0, True)

    def test_one_free_candidate_of_several_does_not_make_it_free(self, snapshot: Snapshot) -> None:
        key, request = key_state(), asking("dear")
        _, candidates = candidates_of(request, key, snapshot)
        assert [candidate.free for candidate in candidates] == [False, True, False, False]
        assert not worst(snapshot, request, key).free


class TestCandidates:
    def test_no_exchange_costs_more_than_the_ledger_can_hold(self) -> None:
        dear = Candidate(Deployment("a", "m"), Price("USD", 10**15, 0, 0, 0, 0), Ratio(10**6, 1))
        assert dear.cost_nanos(Usage(10**9, 0)) == MOST_NANOS

    def test_without_a_price_nothing_is_charged(self) -> None:
        candidate = Candidate(Deployment("a", "m"), None, ONE)
        assert (candidate.cost_nanos(Usage(10**6, 10**6)), candidate.free) == (0, True)

    def test_with_one_what_it_says(self) -> None:
        candidate = Candidate(Deployment("a", "m"), Price("USD", 2000, 0, 0, 0, 0), Ratio(1, 2))
        assert (candidate.cost_nanos(Usage(10**6)), candidate.free) == (1000, False)

    def test_fallback_models_stand_behind_every_priority_of_the_model(self) -> None:
        ranks = [
            Candidate(Deployment("a", "m", priority), None, ONE, fallback=of).rank
            for priority, of in [(9, 0), (1, 1)]
        ]
        assert ranks == [(0, 9), (1, 1)] == sorted(ranks)
        assert Candidate(Deployment("a", "m", 2), None, ONE).rank == (0, 2)


class TestUnpriced:
    MESSAGE = "The model 'partly' has no price, and "

    def check(self, text: str, model: str, quota: Quota | None = None) -> None:
        snapshot, key = Snapshot.build(configuration(text)), key_state(quota=quota)
        request = asking(model)
        resolution = snapshot.catalog.resolve(model)
        candidates = [
            Candidate(item, snapshot.price_of(resolution.model, item), ONE) for item in resolution.deployments
        ]
        check_priced(request.model, key, snapshot, candidates)

    def refused(self, text: str, quota: Quota | None = None) -> InsufficientQuota:
        with pytest.raises(InsufficientQuota) as raised:
            self.check(text, "partly", quota)
        return raised.value

    @pytest.mark.parametrize("mode", ["prepaid", "track"])
    def test_where_it_is_rejected(self, mode: str) -> None:
        text = TEXT.replace("mode: prepaid", f"mode: {mode}, unpriced: reject")
        error = self.refused(text)
        assert (error.status, error.code, error.param) == (402, "model_not_priced", "model")
        assert error.message == (
            self.MESSAGE + "this gateway serves none without (billing.unpriced: reject)."
        )
        self.check(text, "plain")
        self.check(text, "free")

    def test_a_quota_needs_a_price(self) -> None:
        text = TEXT.replace("mode: prepaid", "mode: track")
        error = self.refused(text, Quota(1, "day"))
        assert (error.status, error.code) == (402, "model_not_priced")
        assert error.message == (
            self.MESSAGE + "this API key has a quota, against which nothing could be counted."
        )
        self.check(text, "plain", Quota(1, "day"))

    def test_otherwise_it_is_served_for_nothing(self) -> None:
        self.check(TEXT.replace("mode: prepaid", "mode: track"), "partly")
        self.check(TEXT.replace("mode: prepaid", "mode: prepaid, unpriced: free"), "partly")


class TestQuota:
    DAY = "2026-12-30"

    def refused(self, key: KeyState, zone: Any = UTC, nanos: int = UNIT // 2) -> PermissionRefused:
        with pytest.raises(PermissionRefused) as raised:
            check_quota(key, Worst(1, 1, nanos, False), self.DAY, zone, "USD")
        return raised.value

    def let_in(self, key: KeyState, *, nanos: int = 10**15, free: bool = False, day: str = DAY) -> None:
        check_quota(key, Worst(1, 1, nanos, free), day, UTC, "USD")

    def test_without_one_all_may_be_spent(self) -> None:
        key = key_state()
        key.spending.add(self.DAY, 10**18)
        self.let_in(key)

    def test_one_last_request_may_exceed_it(self) -> None:
        key = key_state(quota=Quota(2 * UNIT, "day"))
        self.let_in(key)
        key.spending.add(self.DAY, 2 * UNIT - 1)
        self.let_in(key)
        key.spending.add(self.DAY, 1)
        error = self.refused(key)
        assert (error.status, error.code) == (403, "quota_exceeded")
        assert error.details == {"resets_at": "2026-12-31T00:00:00.000Z"}
        assert error.message == (
            "This API key has spent $2.00 of its quota of $2.00 (per day), and this request may cost up to "
            "$0.50. It begins anew at 2026-12-31T00:00:00.000Z."
        )
        self.let_in(key, nanos=0, free=True)
        self.let_in(key, day="2026-12-31")
        key.spending.add(self.DAY, UNIT)
        assert "has spent $3.00 of its quota of $2.00" in self.refused(key).message

    def test_what_runs_counts(self) -> None:
        key = key_state(quota=Quota(2 * UNIT, "week"))
        key.spending.add(self.DAY, UNIT)
        key.spending.running_nanos = UNIT - 1
        self.let_in(key)
        key.spending.running_nanos = UNIT
        assert self.refused(key).message == (
            "This API key has spent $1.00 of its quota of $2.00 (per week), and this request may cost up to "
            "$0.50. Running requests may take $1.00 more. It begins anew at 2027-01-04T00:00:00.000Z."
        )

    def test_a_total_never_begins_anew(self) -> None:
        key = key_state(quota=Quota(UNIT, "total"))
        key.spending.add("2020-01-01", UNIT)
        error = self.refused(key)
        assert error.details == {"resets_at": None}
        assert error.message == (
            "This API key has spent $1.00 of its quota of $1.00 (in total), and this request may cost up to "
            "$0.50. It does not begin anew."
        )

    def test_days_are_those_of_the_zone(self) -> None:
        key = key_state(quota=Quota(0, "month"))
        assert self.refused(key, ZoneInfo("Asia/Shanghai")).details == {
            "resets_at": "2026-12-31T16:00:00.000Z"
        }
