"""Commands about money, with and without a running server."""

import csv
import io
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CONFIG, Run
from tests.cli.test_serve import serving

PLANS = """
plans:
  free: {rpm: 60}
  pro: {subscription: {price: 10, credit: 12, days: 30}}
"""
PREPAID = CONFIG.replace("\nplans:\n  free: {rpm: 60}\n", PLANS) + "billing: {mode: prepaid}\n"
ACCOUNT = {"plan", "own_plan", "name", "enabled", "created_at", "funds", "held", "available"}


@pytest.fixture(autouse=True)
def prepaid(folder: Path) -> Path:
    (folder / "config.yaml").write_text(PREPAID)
    return folder


def sold(run: Run) -> dict[str, Any]:
    """Top up, subscribe, give tokens; return the account."""
    assert run("account", "topup", "default", "25.50", "--note", "cash").status == 0
    assert run("account", "subscribe", "default", "pro").status == 0
    account: dict[str, Any] = run(
        "account", "grant-tokens", "default", "5000", "--models", "a,b*", "--json"
    ).json
    return account


class TestChanges:
    def test_each_command_prints_the_new_entries_and_the_account(self, run: Run) -> None:
        top_up = run("account", "topup", "default", "25.50", "--note", "cash")
        assert top_up.status == 0
        for text in ("topup", "25.500000000", "cash", "local", "available"):
            assert text in top_up.out
        assert "12.000000000 of 12.000000000 left" in run("account", "subscribe", "default", "pro").out
        assert "5,000 of 5,000 tokens left" in run("account", "grant-tokens", "default", "5000").out

    def test_json_is_the_account_and_its_new_entries(self, run: Run) -> None:
        made = sold(run)
        assert set(made) == ACCOUNT | {"entries"}
        assert made["available"] == "27.500000000"
        (entry,) = made["entries"]
        assert (entry["kind"], entry["amount"], entry["actor"]) == ("grant", 5000, "local")
        assert made["funds"]["grants"][0]["models"] == ["a", "b*"]

    def test_the_same_command_again_is_made_again(self, run: Run) -> None:
        for _ in range(2):
            made = run("account", "topup", "default", "5", "--json").json
        assert made["funds"]["wallet"] == "10.000000000"

    @pytest.mark.parametrize(
        "arguments", [("-5.25", "--note", "wrong"), ("--note", "wrong", "-5.25")], ids=["before", "behind"]
    )
    def test_a_correction_may_be_negative(self, run: Run, arguments: tuple[str, ...]) -> None:
        made = run("account", "adjust", "default", *arguments, "--json").json
        assert made["funds"]["wallet"] == "-5.250000000"
        assert made["entries"][0]["note"] == "wrong"

    def test_a_correction_of_each_fund(self, run: Run) -> None:
        fund = f"grant:{sold(run)['funds']['grants'][0]['id']}"
        adjust = ("account", "adjust", "default")
        made = run(*adjust, "-5000", "--fund", fund, "--note", "n", "--json").json
        assert made["funds"]["grants"][0]["tokens_left"] == 0
        made = run(*adjust, "-2", "--fund", "subscription", "--note", "n", "--json").json
        assert made["funds"]["subscription"]["credit_left"] == "10.000000000"
        gone = run(*adjust, "5", "--fund", "grant:x", "--note", "n")
        assert (gone.status, gone.out) == (1, "")
        assert run(*adjust, "-11", "--fund", "subscription", "--note", "n").status == 2

    def test_a_grant_ends_when_it_is_said(self, run: Run) -> None:
        grant = ("account", "grant-tokens", "default", "5")
        day = run(*grant, "--expires", "2099-01-31", "--json").json["funds"]["grants"]
        assert day[0]["expires_at"] == "2099-01-30T16:00:00.000Z"  # 00:00 in Shanghai
        month = run(*grant, "--expires", "30d", "--json").json["funds"]["grants"][0]  # what ends first
        lasts = datetime.fromisoformat(month["expires_at"]) - datetime.now(UTC)
        assert timedelta(days=29) < lasts <= timedelta(days=30)
        never = run(*grant, "--expires", "never", "--models", "all", "--json").json["funds"]["grants"][-1]
        assert (never["expires_at"], never["models"]) == (None, None)
        assert run(*grant, "--expires", "2020-01-01").status == 2

    @pytest.mark.parametrize(
        "arguments",
        [
            ("topup", "default"),
            ("topup", "default", "0"),
            ("topup", "default", "-5"),
            ("topup", "default", "5,00"),
            ("adjust", "default", "-5"),
            ("adjust", "default", "0", "--note", "n"),
            ("adjust", "default", "five", "--note", "n"),
            ("grant-tokens", "default", "-5"),
            ("grant-tokens", "default", "5.5"),
            ("grant-tokens", "default", "5", "--expires", "soon"),
            ("subscribe", "default"),
            ("statement", "default", "--month", "May"),
            ("ledger", "default", "--limit", "0"),
        ],
        ids=" ".join,
    )
    def test_wrong_use_ends_with_2(self, run: Run, folder: Path, arguments: tuple[str, ...]) -> None:
        result = run("account", *arguments)
        assert (result.status, result.out) == (2, "")
        assert "usage:" in result.err
        assert not (folder / "sluice.db").exists()

    @pytest.mark.parametrize(
        "arguments",
        [
            ("topup", "nobody", "5"),
            ("adjust", "nobody", "5", "--note", "n"),
            ("grant-tokens", "nobody", "5"),
            ("subscribe", "nobody", "pro"),
            ("subscribe", "default", "pro"),  # the wallet is empty
            ("subscribe", "default", "free"),  # not sold
            ("subscribe", "default", "gold"),
            ("ledger", "nobody"),
            ("statement", "nobody"),
        ],
        ids=" ".join,
    )
    def test_what_fails_or_is_not_found_ends_with_1(self, run: Run, arguments: tuple[str, ...]) -> None:
        result = run("account", *arguments)
        assert (result.status, result.out) == (1, "")
        assert len(result.err.splitlines()) == 1

    def test_a_second_subscription_ends_with_1(self, run: Run) -> None:
        sold(run)
        result = run("account", "subscribe", "default", "pro")
        assert result.status == 1
        assert "subscribed to pro until" in result.err


class TestShowing:
    def test_an_account_shows_its_funds_and_the_latest_entries(self, run: Run) -> None:
        sold(run)
        text = run("account", "show", "default").out
        for part in ("own plan", "pro, 12.000000000 of", "for a, b*", "15.500000000", "27.500000000", "cash"):
            assert part in text
        assert set(run("account", "show", "default", "--json").json) == ACCOUNT
        assert (
            "Nothing in its ledger yet"
            in run("account", "create", "team").out + run(*("account", "show", "team")).out
        )

    def test_a_new_account_shows_the_tokens_it_was_given(self, run: Run, folder: Path) -> None:
        (folder / "config.yaml").write_text(PREPAID.replace("prepaid}", "prepaid, signup_tokens: 7000}"))
        assert "7,000 of 7,000 tokens left" in run("account", "create", "team").out
        assert "signup_tokens" in run("account", "ledger", "team").out

    def test_a_grant_for_no_model_and_with_an_end(self, run: Run) -> None:
        run("account", "grant-tokens", "default", "5", "--expires", "2099-01-31")
        assert "5 of 5 tokens left, until 2099-01-30" in run("account", "show", "default").out

    def test_the_ledger(self, run: Run) -> None:
        assert "Nothing in its ledger yet" in run("account", "ledger", "default").out
        sold(run)
        entries = run("account", "ledger", "default", "--json").json
        assert [entry["kind"] for entry in entries] == ["grant", "subscribe", "subscribe", "topup"]
        assert len(run("account", "ledger", "default", "--limit", "2", "--json").json) == 2

    def test_a_statement(self, run: Run) -> None:
        sold(run)
        month = datetime.now(UTC) + timedelta(hours=8)
        text = run("account", "statement", "default", "--month", f"{month:%Y-%m}").out
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["kind"] for row in rows] == ["topup", "subscribe", "subscribe", "grant"]
        assert not text.endswith("\n\n")
        assert run("account", "statement", "default", "--json").json == rows
        assert run("account", "statement", "default", "--month", "2020-01").out.count("\n") == 1


class TestCheck:
    def test_accounts_without_funds_are_listed(self, run: Run, folder: Path) -> None:
        assert run("check", "--json").json["findings"] == []  # no database yet
        assert not (folder / "sluice.db").exists()
        run("account", "create", "team")
        run("account", "topup", "team", "5")
        (finding,) = run("check", "--json").json["findings"]
        assert (finding["kind"], finding["path"]) == ("no_funds", "billing.mode")
        assert "default" in finding["message"]
        assert "has no funds" in run("check").out
        run("account", "topup", "default", "5")
        assert run("check", "--json").json["findings"] == []

    def test_not_where_nothing_is_paid_or_debts_are_allowed(self, run: Run, folder: Path) -> None:
        run("account", "list")
        for billing in ("billing: {mode: track}", "billing: {mode: prepaid, credit_limit: 1}"):
            (folder / "config.yaml").write_text(PREPAID.replace("billing: {mode: prepaid}", billing))
            assert run("check", "--json").json["findings"] == []


class TestProof:
    def test_what_is_right_ends_with_0(self, run: Run) -> None:
        sold(run)
        result = run("ledger", "verify")
        assert result.status == 0
        assert "1 accounts, 4 entries, 0 exchanges" in result.out
        assert run("ledger", "verify", "--json").json["ok"] is True

    def test_what_differs_is_printed_and_ends_with_1(self, run: Run, folder: Path) -> None:
        sold(run)
        with closing(sqlite3.connect(folder / "sluice.db")) as database:
            database.execute("UPDATE accounts SET wallet_nanos = wallet_nanos + 1")
            values = "('2026-01-01', 'default', 'key_1', '', 'm', 1, 2, 3, 4, 5, 6, 7, 8)"
            database.execute(f"INSERT INTO daily_sums VALUES {values}")
            database.commit()
        result = run("ledger", "verify")
        assert result.status == 1
        for text in ("2 differences", "15.500000001", "day 2026-01-01", "requests 1, failed 2"):
            assert text in result.out
        assert run("ledger", "verify", "--json").json["difference_count"] == 2

    def test_sums_show_the_figures_that_differ(self, run: Run, folder: Path) -> None:
        run("account", "list")
        with closing(sqlite3.connect(folder / "sluice.db")) as database:
            database.execute(
                "INSERT INTO exchanges (id, created_ms, day, key_id, account, dialect, endpoint, stream, "
                "model, finish, input_tokens, output_tokens, cached_tokens, cache_write_tokens, "
                "reasoning_tokens, cost_nanos) "
                "VALUES ('r', 1, '2026-01-01', 'k', 'a', 'chat', '/', 0, 'm', 'ok', 1,2,0,0,0,5)"
            )
            database.execute(
                "INSERT INTO daily_sums VALUES ('2026-01-01', 'a', 'k', '', 'm', 1,0,1,2,0,0,0,6)"
            )
            database.commit()
        last = run("ledger", "verify").out.splitlines()[-1]
        assert last.split("model m")[1].split() == ["cost", "0.000000005", "cost", "0.000000006"]

    def test_what_is_not_listed_is_counted(
        self, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("proxy.store.proof.MOST_LISTED", 1)
        run("account", "create", "team")
        with closing(sqlite3.connect(folder / "sluice.db")) as database:
            database.execute("UPDATE accounts SET wallet_nanos = 1")
            database.commit()
        assert "And 1 more." in run("ledger", "verify").out


def test_all_of_it_works_beside_a_running_server(run: Run) -> None:
    with serving():
        assert set(sold(run)) == ACCOUNT | {"entries"}
        assert run("account", "adjust", "default", "-1", "--note", "n").status == 0
        assert len(run("account", "ledger", "default", "--json").json) == 5
        assert run("account", "statement", "default").out.startswith("id,created_at,")
        assert run("ledger", "verify").status == 0
        assert run("check", "--json").json["findings"] == []
        assert run("account", "subscribe", "default", "pro").status == 1
    assert run("ledger", "verify").status == 0
