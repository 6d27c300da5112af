"""What the console says: states, prices, receipts and money as they are, in both languages."""

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.console.test_console_texts import FOLDER, TEXT, chinese
from tests.support.console import Console, ask, money
from tests.support.gateway import API_KEY

if TYPE_CHECKING:
    from playwright.sync_api import Request, Route

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.slow]

RECEIPT = "**/admin/api/requests/req_*"


def changed(console: Console, path: str, change: Any) -> None:
    """Let an answer be seen with what `change` makes of it."""

    def answer(route: "Route") -> None:
        response = route.fetch()
        body = response.json()
        change(body)
        route.fulfill(response=response, json=body)

    console.page.route(path, answer)


def provider(console: Console, **members: Any) -> None:
    def change(body: Any) -> None:
        next(item for item in body["data"] if item["name"] == "demo").update(members)

    changed(console, "**/admin/api/providers", change)


def counted(console: Console, *keys: str) -> None:
    """Wait until the requests of these keys are in the sums of the hour, which are written once a second."""
    query = {"hours": 1, "by": "key"}
    while set(keys) - {item["key"] for item in console.admin.get("/stats", params=query).json()["groups"]}:
        console.page.wait_for_timeout(100)


class TestStates:
    def test_a_key_of_an_account_that_cannot_pay(self, console: Console) -> None:
        page, admin = console.page, console.admin
        for name in ("penniless", "switched off"):
            admin.post("/accounts", json={"name": name})
        admin.patch("/accounts/switched off", json={"enabled": False})
        poor = admin.post("/keys", json={"name": "poor key", "account": "penniless"}).json()
        admin.post("/keys", json={"name": "still key", "account": "switched off"})
        console.sign_in()
        console.open("Keys")
        page.get_by_role("row", name="poor key").get_by_text("account has no funds").wait_for()
        page.get_by_role("row", name="still key").get_by_text("account disabled").wait_for()
        page.get_by_role("button", name="Sign out").click()
        console.sign_in(poor["key"])
        page.get_by_text("The account has no funds").wait_for()
        money(admin, "penniless", "topup", "penniless", amount="5")
        page.reload()
        page.get_by_text("¥5.00").first.wait_for()
        assert page.get_by_text("The account has no funds").count() == 0

    def test_where_costs_are_only_tracked_no_purse_is_shown(self, console: Console) -> None:
        page = console.page
        changed(console, "**/admin/api/config", lambda body: body["billing"].update(mode="track"))
        console.sign_in()
        console.open("Accounts")
        page.get_by_role("columnheader", name="Cost this month").wait_for()
        assert page.get_by_role("columnheader", name="Wallet").count() == 0
        page.get_by_role("link", name="default").first.click()
        page.get_by_text("no account is ever refused for money").wait_for()
        assert not page.get_by_role("button", name="Top up").is_visible()
        page.get_by_text("Funds, in the order").click()
        page.get_by_role("button", name="Top up").click()
        console.dialog().get_by_label(re.compile("^Amount")).wait_for()

    def test_ready_is_not_what_fails_every_time(self, console: Console) -> None:
        page = console.page
        quiet = {"attempts": 0, "failed": 0, "first_byte_ms": None}
        provider(console, last_hour=[quiet] * 11 + [{"attempts": 11, "failed": 11, "first_byte_ms": None}])
        console.sign_in()
        page.get_by_role("listitem").filter(has_text="11 of 11 attempts failed").wait_for()
        for name in ("Providers", "Models"):
            console.open(name)
            page.get_by_text("ready, but 11 of 11 failed").first.wait_for()

    def test_what_needs_attention_is_bounded(self, console: Console) -> None:
        def many(body: Any) -> None:
            template = body["data"][0] | {"quota": {"amount": "1", "spent": "1", "resets_at": None}}
            body["data"] = [template | {"id": f"key_{number}"} for number in range(500)]

        changed(console, "**/admin/api/keys*", many)
        console.sign_in()
        side = console.page.get_by_role("region", name="Needs attention")
        side.get_by_text("and 495 more").wait_for()
        assert side.get_by_text("has spent its quota").count() == 5


class TestReceipt:
    def test_it_can_be_computed_again(self, console: Console, address: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", "receipt", amount="5.00")
        made = console.admin.post("/keys", json={"name": "named on a receipt"}).json()
        id = ask(address, made["key"], "abroad").headers["x-request-id"]
        console.sign_in()
        page.goto(f"{console.url}/console/#/requests/{id}")
        page.get_by_text("× 7 (exchange rate USD → CNY)").wait_for()
        page.get_by_text("Cached input $0.50").wait_for()
        page.get_by_role("link", name="named on a receipt").wait_for()
        assert re.search(r"\d{4}, \d+:\d\d:\d\d", page.locator("main time").inner_text())

    def test_why_nobody_was_asked(self, console: Console, address: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", "nobody", amount="5.00")
        id = ask(address, API_KEY).headers["x-request-id"]
        failed = {"attempts": [], "status": 502, "finish": "upstream_error", "error": "upstream_reset"}
        changed(console, RECEIPT, lambda body: body.update(failed))
        console.sign_in()
        page.goto(f"{console.url}/console/#/requests/{id}")
        page.get_by_text("Every provider of this model was resting or disabled").wait_for()
        page.get_by_text("The provider closed the connection").wait_for()


class TestMoney:
    def test_what_is_booked_is_told_exactly(self, console: Console) -> None:
        page = console.page
        console.admin.post("/accounts", json={"name": "exact"})
        console.sign_in()
        page.goto(f"{console.url}/console/#/accounts/exact")
        page.get_by_role("button", name="Top up").click()
        console.dialog().get_by_label(re.compile("^Amount")).fill("1234.567")
        console.dialog().get_by_text("¥1,234.567 is added").wait_for()
        console.dialog().get_by_role("button", name="Top up").click()
        money(console.admin, "exact", "adjust", "exact", amount="-0.5", fund="wallet", note="less")
        page.reload()
        row = page.get_by_role("row", name=re.compile("less"))
        row.wait_for()
        assert row.get_by_role("cell").all_inner_texts()[3:5] == ["−¥0.500", "¥1,234.067"]
        page.get_by_role("cell", name="+¥1,234.567").wait_for()

    def test_one_body_is_one_call_though_another_was_tried_between(self, console: Console) -> None:
        page = console.page
        sent: list[tuple[str, str]] = []

        def lost(route: "Route") -> None:
            amount = json.loads(route.request.post_data or "")["amount"]
            sent.append((amount, route.request.headers["idempotency-key"]))
            route.abort()

        page.route("**/topup", lost)
        console.sign_in()
        page.goto(f"{console.url}/console/#/accounts/default")
        page.get_by_role("button", name="Top up").click()
        for amount in ("1", "2", "1"):
            console.dialog().get_by_label(re.compile("^Amount")).fill(amount)
            with page.expect_event("requestfailed"):
                console.dialog().get_by_role("button", name="Top up").click()
            console.dialog().get_by_role("alert").wait_for()
        assert [amount for amount, _ in sent] == ["1", "2", "1"]
        assert sent[0] == sent[2] != sent[1]
        console.complaints.clear()

    def test_an_edit_sends_only_what_was_changed(self, console: Console) -> None:
        page, admin = console.page, console.admin
        expires = "2099-01-01T10:20:30.000Z"
        fields = {"name": "before", "expires_at": expires, "limits": {"rpm": 5, "tpm": 500}}
        made = admin.post("/keys", json=fields).json()
        console.sign_in()
        console.open("Keys")
        page.get_by_role("button", name="Edit: before").click()
        admin.patch(f"/keys/{made['id']}", json={"models": ["fast"], "limits": {"rpm": 7}})
        console.dialog().get_by_label("Name").fill("after")
        console.dialog().get_by_label("Tokens per minute").fill("600")
        console.dialog().get_by_role("button", name="Save").click()
        console.dialog().wait_for(state="detached")
        now = admin.get(f"/keys/{made['id']}").json()
        assert (now["name"], now["models"], now["expires_at"]) == ("after", ["fast"], expires)
        assert (now["limits"]["rpm"], now["limits"]["tpm"]) == (7, 600)


class TestOverview:
    def test_a_switch_asks_only_for_what_is_missing(self, console: Console, address: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", "switch", amount="5.00")
        made = console.admin.post("/keys", json={"name": "switch"}).json()
        ask(address, made["key"])
        counted(console, made["id"])
        console.sign_in()
        console.settled()
        asked: list[str] = []

        def note(request: "Request") -> None:
            if "/admin/api/" in request.url:
                asked.append(request.url)

        page.on("request", note)
        page.get_by_role("button", name="Tokens").click()
        page.get_by_role("img", name="Tokens").wait_for()
        page.get_by_role("button", name="Key", exact=True).click()
        page.wait_for_url("**by=key")
        console.settled()
        assert asked == []

    def test_keys_of_one_name_are_told_apart(self, console: Console, address: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", "twins", amount="5.00")
        made = [console.admin.post("/keys", json={"name": "twin"}).json() for _ in range(2)]
        for key in made:
            # Enough to stand among the dearest.
            ask(address, key["key"], messages=[{"role": "user", "content": "word " * 3000}])
        counted(console, *(key["id"] for key in made))
        console.sign_in()
        rows = page.get_by_role("region", name="Top keys").get_by_role("link", name="twin")
        rows.nth(1).wait_for()
        assert len(set(rows.all_inner_texts())) == 2
        rows.first.click()
        page.wait_for_url("**/#/requests?key=key_*")

    def test_what_failed_can_be_tried_again(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        page.route("**/admin/api/usage*", lambda route: route.abort())
        page.get_by_role("button", name="7 days").click()
        again = page.get_by_role("button", name="Try again")
        again.nth(4).wait_for()  # the chart and four tables
        page.unroute_all()
        again.evaluate_all("(all) => all.forEach((one) => one.click())")
        again.first.wait_for(state="detached")
        console.complaints.clear()

    def test_an_empty_chart_says_since_when(self, console: Console) -> None:
        console.sign_in()
        console.page.goto(f"{console.url}/console/#/overview?period=custom&from=2020-01-01&to=2020-01-09")
        console.page.get_by_text("Nothing was recorded from Jan 1 to Jan 9.").wait_for()

    def test_a_name_keeps_its_hue(self, console: Console) -> None:
        console.sign_in()
        hues = """async (values) => {
            const { chart } = await import("/console/chart.js");
            const series = Object.entries(values).map(([name, value]) => ({ name, values: [value] }));
            const made = chart({ title: "x", labels: ["1"], series, format: String });
            const items = [...made.querySelectorAll(".legend li")];
            return Object.fromEntries(items.map((one) => [one.textContent, one.firstChild.className]));
        }"""
        page = console.page
        first = page.evaluate(hues, {"hue a": 3, "hue b": 2, "hue c": 1})
        second = page.evaluate(hues, {"hue c": 9, "hue d": 5, "hue a": 1})
        assert len(set(first.values())) == len(set(second.values())) == 3
        assert {name: second[name] for name in ("hue a", "hue c")} == {
            name: first[name] for name in ("hue a", "hue c")
        }


def test_a_price_with_everything(console: Console) -> None:
    page = console.page
    terms = {"currency": "USD", "input": "0", "output": "0", "cached_input": "0", "cache_write": "0"}
    terms |= {"reasoning": "0", "per_request": "0.04"}
    rich = terms | {
        "input": "2",
        "output": "8",
        "cached_input": "0.5",
        "cache_write": "2.5",
        "reasoning": "12",
    }
    tier = rich | {"above_input_tokens": 128000, "input": "4", "per_request": "0"}

    def change(body: Any) -> None:
        for model in body["data"]:
            if model["id"] in ("abroad", "fast"):
                price = terms if model["id"] == "fast" else rich
                tiers = [tier] if price is rich else []
                model["routes"][0]["price"] = price | {"per": "1M", "tiers": tiers}

    changed(console, "**/admin/api/models", change)
    console.sign_in()
    console.open("Models")
    card = page.get_by_role("article").filter(has=page.get_by_role("heading", name="abroad", exact=True))
    for text in ("Cache write", "$2.50", "Reasoning output", "$12.00", "Per request", "$0.04"):
        card.get_by_text(text, exact=True).wait_for()
    card.get_by_text("Above 128K input tokens: Input $4.00").wait_for()
    flat = page.get_by_role("article").filter(has=page.get_by_role("heading", name="fast", exact=True))
    flat.get_by_text("Per request").wait_for()
    assert flat.get_by_text("0.00").count() == 0


@pytest.mark.parametrize("file", ["reasons.js", "price.js", "provider-state.js"])
def test_what_is_looked_up_has_its_chinese(file: str) -> None:
    """Texts in tables, which no call of `t` shows."""
    text = (FOLDER / "pages" / file).read_text()
    sentences = {found for found in re.findall(rf": {TEXT}", text) if " " in found}
    assert sentences <= chinese("zh.js").keys()
