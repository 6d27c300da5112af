"""A new key and the tools that it is for: shown once, filled in, tried."""

import re

import httpx2
import pytest

from tests.support.console import Console, ask, money
from tests.support.gateway import API_KEY

pytestmark = pytest.mark.xdist_group("console")


def make(console: Console, name: str) -> str:
    """Create a key by the page, and return its secret; the drawer stays open."""
    console.page.get_by_role("button", name="Create a key").click()
    form = console.dialog()
    form.get_by_label("Name").fill(name)
    form.get_by_role("button", name="Create a key").click()
    return form.locator("code[data-secret]").inner_text()


def recorded(console: Console, name: str) -> list[dict[str, object]]:
    (key,) = [key for key in console.admin.get("/keys").json()["data"] if key["name"] == name]
    found: list[dict[str, object]] = console.admin.get("/requests", params={"key": key["id"]}).json()["data"]
    return found


def test_a_new_key_is_filled_into_the_tools(console: Console) -> None:
    page = console.page
    console.sign_in()
    console.open("Keys")
    secret = make(console, "for three tools")
    drawer = console.dialog()
    drawer.get_by_text(f"Bearer {secret}").wait_for()
    drawer.get_by_role("button", name="Claude Code").click()
    drawer.get_by_text(f'"ANTHROPIC_AUTH_TOKEN": "{secret}"').wait_for()
    assert drawer.get_by_role("button", name="Claude Code").get_attribute("aria-pressed") == "true"
    assert drawer.get_by_role("button", name="curl").get_attribute("aria-pressed") == "false"
    drawer.get_by_role("link", name="Set up a tool").click()
    page.get_by_role("heading", level=1, name="Set up a tool").wait_for()
    assert page.get_by_label("Tool").input_value() == "claude-code"
    assert page.get_by_label("API key").input_value() == secret
    page.get_by_label("Tool").select_option("codex")
    page.get_by_text(f"export SLUICE_API_KEY='{secret}'").wait_for()
    assert secret not in page.url
    assert secret not in str(page.evaluate("[Object.values(sessionStorage), Object.values(localStorage)]"))
    page.reload()
    page.get_by_text("export SLUICE_API_KEY='sk-sluice-…'").wait_for()
    assert page.get_by_label("API key").input_value() == ""


def test_a_rotated_key_gets_a_model_that_it_may_call(console: Console) -> None:
    body = {"name": "echo only", "models": ["demo/e*"], "providers": ["demo"]}
    assert console.admin.post("/keys", json=body).status_code == 201
    console.sign_in()
    console.open("Keys")
    console.page.get_by_role("button", name="Rotate: echo only").click()
    console.dialog().get_by_role("button", name="Rotate").click()
    secret = console.dialog().locator("code[data-secret]").inner_text()
    code = console.dialog().get_by_text(f"Bearer {secret}")
    code.wait_for()
    assert '"model": "demo/echo"' in code.inner_text()


class TestCheck:
    @pytest.mark.parametrize(
        ("tool", "dialect"), [("curl", "chat"), ("claude-code", "messages"), ("codex", "responses")]
    )
    def test_it_asks_as_the_tool_would(self, console: Console, tool: str, dialect: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", f"check {tool}", amount="5.00")
        made = console.admin.post("/keys", json={"name": f"check {tool}"}).json()
        console.sign_in()
        page.goto(f"{console.url}/console/#/setup?tool={tool}&model=fast")
        page.get_by_label("API key").fill(made["key"])
        page.get_by_role("button", name="Check").click()
        page.get_by_text("It works: fast answered, from demo.").wait_for()
        page.get_by_text("billed like any other").wait_for()
        (request,) = recorded(console, f"check {tool}")
        assert (request["dialect"], request["finish"]) == (dialect, "ok")
        usage = request["usage"]
        assert isinstance(usage, dict)
        assert usage["output_tokens"] <= 16
        page.get_by_text(f"{usage['input_tokens']} tokens in, {usage['output_tokens']} out").wait_for()
        page.get_by_role("link", name="Receipt").click()
        page.get_by_role("heading", level=1, name="Receipt").wait_for()

    def test_it_says_what_is_missing(self, console: Console) -> None:
        console.sign_in()
        console.open("Set up a tool")
        console.page.get_by_role("button", name="Check").click()
        console.page.get_by_text("An API key is missing").wait_for()

    def test_it_says_what_the_gateway_says(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        console.open("Set up a tool")
        page.get_by_label("API key").fill("sk-sluice-of-nobody")
        page.get_by_role("button", name="Check").click()
        page.get_by_role("alert").get_by_text("API key").wait_for()
        assert page.get_by_label("API key").input_value() == "sk-sluice-of-nobody"
        assert all("401" in text for text in console.complaints)
        console.complaints.clear()

    def test_a_holder_checks_with_the_own_key(self, console: Console) -> None:
        money(console.admin, "default", "topup", "own check", amount="5.00")
        console.sign_in(API_KEY)
        console.open("Set up a tool")
        console.page.get_by_label("Model").select_option("fast")
        console.page.get_by_role("button", name="Check").click()
        console.page.get_by_text("It works: fast answered").wait_for()

    def test_what_cannot_be_pointed_here_is_not_checked(self, console: Console) -> None:
        console.sign_in()
        console.page.goto(f"{console.url}/console/#/setup?tool=lingma")
        console.page.get_by_role("heading", name="Lingma").wait_for()
        assert console.page.get_by_role("button", name="Check").count() == 0


def test_what_a_key_used_today_stands_beside_the_month(console: Console, address: str) -> None:
    money(console.admin, "default", "topup", "today", amount="5.00")
    made = console.admin.post("/keys", json={"name": "used today", "models": ["fast"]}).json()
    tokens = ask(address, made["key"]).json()["usage"]["total_tokens"]
    console.sign_in()
    console.page.goto(f"{console.url}/console/#/keys?q={made['id']}")
    row = console.page.get_by_role("row", name=re.compile("used today"))
    row.get_by_text(f"{tokens} tokens").wait_for()
    row.get_by_text("Models: fast").wait_for()
    titles = console.page.get_by_role("columnheader").all_inner_texts()
    assert titles[4:6] == ["Today", "This month"]
    cells = row.get_by_role("cell")
    assert cells.nth(4).inner_text().split("\n")[0] == cells.nth(5).inner_text()


def test_models_are_priced_in_both_currencies_and_tell_who_serves_them(console: Console) -> None:
    page = console.page
    console.sign_in()
    page.goto(f"{console.url}/console/#/models?q=abroad")
    card = page.get_by_role("article").filter(has_text="abroad")
    for price, converted in (("$2.00", "≈ ¥14.00"), ("$8.00", "≈ ¥56.00"), ("$0.50", "≈ ¥3.50")):
        card.get_by_text(price, exact=True).wait_for()
        card.get_by_text(converted, exact=True).wait_for()
    card.get_by_text("Cached input").wait_for()
    assert card.get_by_role("list", name="Providers").inner_text().split() == ["other", "ready"]
    page.get_by_role("button", name="Rows").click()
    row = page.get_by_role("row").filter(has_text="abroad")
    row.filter(has_text="≈ ¥14.00").filter(has_text=re.compile("other.*ready")).wait_for()


def test_holders_see_both_currencies_too(console: Console) -> None:
    console.sign_in(API_KEY)
    console.open("Models")
    card = console.page.get_by_role("article").filter(
        has=console.page.get_by_role("heading", name="abroad", exact=True)
    )
    card.get_by_text("≈ ¥14.00").wait_for()
    card.get_by_text("Served by other").wait_for()


def test_a_receipt_shows_first_output_and_end_on_its_scale(console: Console, address: str) -> None:
    money(console.admin, "default", "topup", "scale", amount="5.00")
    answer: httpx2.Response = ask(address, API_KEY, stream=True)
    console.sign_in()
    console.page.goto(f"{console.url}/console/#/requests/{answer.headers['x-request-id']}")
    line = console.page.locator("section").filter(has_text="Time line")
    line.get_by_text(re.compile(r"^first output after \d")).wait_for()
    line.get_by_text(re.compile(r"^end after \d")).wait_for()
    assert line.locator(".track .mark-output").count() == 1
