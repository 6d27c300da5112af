"""The console as people use it: in a real browser, elements named as a screen reader names them."""

import re

import pytest

from tests.support.console import EVIL, EVIL_MODEL, Console, ask, money
from tests.support.gateway import ADMIN_KEY, API_KEY

# One browser and one gateway, however many workers share the suite.
pytestmark = pytest.mark.xdist_group("console")

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PAGES = (
    "Overview",
    "Requests",
    "Keys",
    "Accounts",
    "Models",
    "Providers",
    "Test chat",
    "Set up a tool",
    "Configuration",
)


class TestSigningIn:
    def test_a_wrong_key_is_told_so(self, console: Console) -> None:
        page = console.page
        page.goto(console.url + "/console/")
        page.get_by_label("Key", exact=True).fill("sk-sluice-wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").get_by_text("not accepted").wait_for()
        # The browser itself notes each 401 on its console.
        assert all("401" in text for text in console.complaints)
        console.complaints.clear()

    def test_the_key_stays_in_the_tab(self, console: Console) -> None:
        console.sign_in()
        page = console.page
        page.reload()
        page.get_by_role("navigation", name="Pages").wait_for()
        assert page.context.cookies() == []
        assert page.evaluate("localStorage.length") == 0
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("heading", name="Sign in").wait_for()
        assert ADMIN_KEY not in str(page.evaluate("Object.values(sessionStorage)"))

    def test_the_first_page_names_all_of_its_files(self, console: Console) -> None:
        """None is found only by reading another one: a slow link is waited for once."""
        page = console.page
        page.goto(console.url + "/console/")
        page.get_by_role("heading", name="Sign in").wait_for()
        loaded = "performance.getEntriesByType('resource').map((one) => one.name)"
        named = "[...document.head.querySelectorAll('link, script')].map((one) => one.href || one.src)"
        assert set(page.evaluate(loaded)) <= set(page.evaluate(named))


class TestOperator:
    def test_every_page_opens_without_complaint(self, console: Console) -> None:
        console.sign_in()
        for name in PAGES:
            console.open(name)
            console.settled()
            assert console.page.get_by_role("alert").count() == 0, name
            labelled = "[...document.querySelectorAll('main :is(input, select, textarea):not([hidden])')]"
            assert console.page.evaluate(f"{labelled}.every((one) => one.labels.length > 0)"), name

    def test_a_key_from_its_making_to_its_end(self, console: Console, address: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", "life", amount="5.00")
        console.sign_in()
        console.open("Keys")
        page.get_by_role("button", name="Create a key").click()
        form = console.dialog()
        form.get_by_label("Name").fill("life of a key")
        form.get_by_label("Models").fill("fast\ndemo/*")
        form.get_by_label(re.compile("^Quota")).fill("2.50")
        form.get_by_text("Limits", exact=True).click()
        form.get_by_label("Requests per minute").fill("30")
        form.get_by_role("button", name="Create a key").click()
        form.get_by_text("cannot be shown again").wait_for()
        secret = form.locator("code[data-secret]").inner_text()
        assert secret.startswith("sk-sluice-")
        form.get_by_role("button", name="Done").click()

        (made,) = [key for key in console.admin.get("/keys").json()["data"] if key["name"] == "life of a key"]
        assert made["models"] == ["fast", "demo/*"]
        assert made["limits"]["rpm"] == 30
        assert made["quota"]["amount"] == "2.500000000"
        answer = ask(address, secret)
        assert answer.status_code == 200

        console.open("Requests")
        page.locator(f"a[href='#/requests/{answer.headers['x-request-id']}']").click()
        page.get_by_role("heading", name="Receipt").wait_for()
        page.get_by_text(answer.headers["x-sluice-cost"]).first.wait_for()
        page.get_by_text(re.compile(r"× 2 \+ ")).first.wait_for()

        console.open("Keys")
        page.get_by_role("button", name="Edit: life of a key").click()
        console.dialog().get_by_label("Name").fill("a longer life")
        console.dialog().get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Rotate: a longer life").click()
        console.dialog().get_by_role("button", name="Rotate").click()
        console.dialog().get_by_text("cannot be shown again").wait_for()
        assert console.dialog().locator("code[data-secret]").inner_text() != secret
        console.dialog().get_by_role("button", name="Done").click()
        page.get_by_role("button", name="Revoke: a longer life").click()
        console.dialog().get_by_role("button", name="Revoke").click()
        page.get_by_text("a longer life is revoked.").wait_for()
        assert ask(address, secret).status_code == 401

    def test_money(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        console.open("Accounts")
        page.get_by_role("button", name="Create an account").click()
        console.dialog().get_by_label("Name").fill("team A")
        console.dialog().get_by_role("button", name="Create an account").click()
        page.get_by_role("link", name="team A").click()
        page.get_by_role("button", name="Top up").click()
        console.dialog().get_by_label(re.compile("^Amount")).fill("1234.50")
        console.dialog().get_by_text("¥1,234.50 is added to the wallet of team A.").wait_for()
        console.dialog().get_by_role("button", name="Top up").click()
        page.get_by_text("¥1,234.50").first.wait_for()
        page.get_by_role("button", name="Subscribe").click()
        console.dialog().get_by_role("button", name="Subscribe").click()
        page.get_by_text("Subscription pro").wait_for()
        page.get_by_role("button", name="Grant tokens").click()
        console.dialog().get_by_label("Tokens").fill("50000")
        console.dialog().get_by_role("button", name="Grant tokens").click()
        page.get_by_text("50,000 / 50,000 tokens").wait_for()
        page.get_by_role("button", name="Correct a balance").click()
        console.dialog().get_by_label(re.compile("^Amount")).fill("-24.50")
        console.dialog().get_by_label("Note").fill("typing error")
        console.dialog().get_by_role("button", name="Correct it").click()
        page.get_by_text("typing error").wait_for()
        account = console.admin.get("/accounts/team A").json()
        assert account["funds"]["wallet"] == "1200.000000000"
        assert account["plan"] == "pro"
        with page.expect_download() as download:
            page.get_by_role("button", name="Download CSV").click()
        assert "typing error" in download.value.path().read_text()
        page.get_by_role("button", name="Disable").click()
        console.dialog().get_by_role("button", name="Disable").click()
        page.get_by_role("button", name="Enable", exact=True).wait_for()
        assert console.admin.get("/accounts/team A").json()["enabled"] is False

    def test_an_error_says_what_the_gateway_said(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        console.open("Keys")
        page.get_by_role("button", name="Create a key").click()
        console.dialog().get_by_label("Name").fill("wrong address")
        console.dialog().get_by_text("Providers and addresses").click()
        console.dialog().get_by_label("Addresses").fill("not-an-address")
        console.dialog().get_by_role("button", name="Create a key").click()
        console.dialog().get_by_role("alert").get_by_text("ips[0]").wait_for()
        assert all("400" in text for text in console.complaints)
        console.complaints.clear()

    def test_chat_runs_as_the_chosen_key(self, console: Console) -> None:
        page = console.page
        made = console.admin.post("/keys", json={"name": "for the chat"}).json()
        money(console.admin, "default", "topup", "chat", amount="5.00")
        console.sign_in()
        console.open("Test chat")
        page.get_by_text("billed like any other").wait_for()
        page.get_by_label("Key").select_option(made["id"])
        page.get_by_label("Model").select_option("fast")
        page.get_by_label("Message").fill("hello <b>bold</b> `code`")
        page.get_by_role("button", name="Send").click()
        receipt = page.get_by_role("log").get_by_role("link", name="Receipt")
        receipt.wait_for()
        assert page.get_by_role("log").locator("b").count() == 0
        assert page.get_by_role("log").locator("article").nth(1).locator("code").inner_text() == "code"
        (request,) = console.admin.get("/requests", params={"key": made["id"]}).json()["data"]
        assert (request["stream"], request["finish"]) == (True, "ok")
        receipt.click()
        page.get_by_role("heading", name="Receipt").wait_for()

    def test_a_chat_can_be_stopped(self, console: Console) -> None:
        page = console.page
        made = console.admin.post("/keys", json={"name": "to be stopped"}).json()
        money(console.admin, "default", "topup", "stopping", amount="5.00")
        console.sign_in()
        console.open("Test chat")
        page.get_by_label("Key").select_option(made["id"])
        page.get_by_label("Model").select_option("fast")
        slow = {"offline": False, "latency": 0, "downloadThroughput": 4000, "uploadThroughput": -1}
        network = page.context.new_cdp_session(page)
        network.send("Network.emulateNetworkConditions", slow)
        page.get_by_label("Message").fill("word " * 2000)
        page.get_by_role("button", name="Send").click()
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped.").wait_for()
        network.send("Network.emulateNetworkConditions", slow | {"downloadThroughput": -1})
        page.get_by_label("Message").fill("short")
        page.get_by_role("button", name="Send").click()
        page.get_by_role("link", name="Receipt").last.wait_for()

    def test_providers_are_disabled_and_enabled(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        console.open("Providers")
        page.get_by_role("button", name="Disable: demo").click()
        page.get_by_role("button", name="Enable: demo").click()
        page.get_by_role("button", name="Disable: demo").wait_for()
        page.get_by_role("button", name="Probe: demo").click()
        page.get_by_text("answers").wait_for()

    def test_the_address_keeps_filters(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        console.open("Requests")
        page.get_by_label("Provider").select_option("idle")
        page.get_by_text("No request matches").wait_for()
        assert page.url.endswith("?provider=idle")
        page.get_by_role("link", name="Clear the filters").last.click()
        page.get_by_text("No request matches").wait_for(state="detached")

    def test_a_chart_is_read_by_keyboard_and_as_a_table(self, console: Console, address: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", "chart", amount="5.00")
        assert ask(address, API_KEY).status_code == 200
        console.sign_in()
        picture = page.get_by_role("img", name="Requests")
        picture.focus()
        page.keyboard.press("ArrowRight")
        page.locator(".chart-tip").first.wait_for()
        page.get_by_text("Show as a table").first.click()
        page.get_by_role("region", name="Requests").get_by_role("columnheader", name="fast").wait_for()


class TestHolder:
    def test_a_key_sees_its_own(self, console: Console) -> None:
        page = console.page
        money(console.admin, "default", "topup", "holder", amount="5.00")
        console.sign_in(API_KEY)
        page.get_by_text("What remains").wait_for()
        names = page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts()
        assert names == ["My key", "Usage", "Models", "Test chat", "Set up a tool"]
        console.open("Test chat")
        page.get_by_label("Model").select_option("fast")
        page.get_by_label("Message").fill("hello")
        page.get_by_role("button", name="Send").click()
        page.get_by_role("link", name="Receipt").click()
        page.get_by_role("heading", name="Receipt").wait_for()
        for name in ("Usage", "Models", "Set up a tool"):
            console.open(name)
            console.settled()
            assert page.get_by_role("alert").count() == 0, name

    def test_a_revoked_key_is_signed_out(self, console: Console) -> None:
        made = console.admin.post("/keys", json={"name": "soon gone"}).json()
        console.sign_in(made["key"])
        console.page.get_by_text("What remains").wait_for()
        console.admin.delete(f"/keys/{made['id']}")
        console.page.get_by_role("link", name="Models").click()
        console.page.get_by_role("heading", name="Sign in").wait_for()
        console.page.get_by_text("revoked").wait_for()
        console.complaints.clear()


class TestLooks:
    def test_the_language_is_switched_and_remembered(self, console: Console) -> None:
        console.sign_in()
        page = console.page
        page.get_by_label("Language").select_option("zh")
        page.get_by_role("heading", level=1, name="概览").wait_for()
        assert page.locator("html").get_attribute("lang") == "zh-CN"
        page.reload()
        page.get_by_role("heading", level=1, name="概览").wait_for()

    @pytest.mark.parametrize("console", [{"locale": "zh-CN"}], indirect=True)
    def test_the_browsers_language_is_the_first(self, console: Console) -> None:
        console.page.goto(console.url + "/console/")
        console.page.get_by_role("button", name="登录").wait_for()

    @pytest.mark.parametrize("console", [{"color_scheme": "dark"}], indirect=True)
    def test_dark_as_the_system_and_light_by_choice(self, console: Console) -> None:
        console.sign_in()
        ground = "getComputedStyle(document.body).backgroundColor"
        assert console.page.evaluate(ground) == "rgb(16, 20, 21)"
        console.page.get_by_label("Appearance").select_option("light")
        assert console.page.evaluate(ground) == "rgb(247, 248, 248)"

    @pytest.mark.parametrize("console", [PHONE], indirect=True)
    def test_a_phone_shows_every_page_without_scrolling_sideways(self, console: Console) -> None:
        console.sign_in()
        page = console.page
        for path in ("overview", "requests", "keys", "accounts", "accounts/default", "models", "providers"):
            page.goto(f"{console.url}/console/#/{path}")
            console.settled()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        page.get_by_role("button", name="More").click()
        console.dialog().get_by_role("link", name="Configuration").click()
        page.get_by_role("heading", level=1, name="Configuration").wait_for()
        console.settled()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_names_are_never_taken_for_markup(console: Console, address: str) -> None:
    """Whatever an administrator, a client or a provider writes is shown as the text that it is."""
    page, admin = console.page, console.admin
    assert admin.post("/accounts", json={"name": EVIL}).status_code == 201
    account = EVIL
    made = admin.post("/keys", json={"name": EVIL, "account": account, "models": [EVIL_MODEL, EVIL]})
    key = made.json()
    headers = {"idempotency-key": "evil"}
    body = {"amount": "5", "note": EVIL}
    assert admin.post(f"/accounts/{quoted(account)}/topup", json=body, headers=headers).status_code == 200
    answer = ask(address, key["key"], EVIL_MODEL)
    assert answer.status_code == 200, answer.text
    console.sign_in()
    paths = ("overview?by=key", "overview?period=7d&by=provider", "requests", "keys", "accounts", "models")
    paths += ("models?view=rows", "providers", "chat", "setup", "config")
    paths += (f"accounts/{quoted(account)}", f"requests/{answer.headers['x-request-id']}")
    for path in paths:
        page.goto(f"{console.url}/console/#/{path}")
        console.settled()
        for summary in page.locator("main summary").all():
            summary.click()
        assert page.locator("main img").count() == 0, path
        assert page.locator("main script").count() == 0, path
        assert page.title() != "pwned", path
    page.goto(f"{console.url}/console/#/keys")
    page.get_by_text(EVIL, exact=True).first.wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    console.sign_in(key["key"])
    page.goto(f"{console.url}/console/#/mykey")
    page.get_by_text(EVIL, exact=True).first.wait_for()
    assert page.locator("main img").count() == 0


def test_a_year_of_days_and_a_hundred_series_are_a_few_paths(console: Console) -> None:
    console.sign_in()
    console.open("Configuration")
    page = console.page
    page.evaluate(
        """async () => {
            const { chart } = await import("/console/chart.js");
            const labels = Array.from({ length: 365 }, (_, index) => String(index));
            const series = Array.from({ length: 100 }, (_, index) => ({
                name: `series ${index}`, values: labels.map((_, day) => (index * day) % 97),
            }));
            for (const kind of ["bars", "lines"]) {
                document.querySelector("main").append(
                    chart({ title: kind, labels, series, kind, format: String }));
            }
        }"""
    )
    # Stacked: the five largest and the others as one. As many lines as there are series.
    for kind, paths in (("bars", 6), ("lines", 100)):
        picture = page.get_by_role("img", name=kind)
        picture.wait_for()
        assert picture.locator("path").count() == paths
        assert 2 < picture.locator("text").count() < 30
        behind = page.locator("figure").filter(has=picture)
        behind.get_by_text("Show as a table").click()
        behind.locator("tbody tr").last.wait_for()  # by role it would take as many seconds as it has cells
        assert behind.locator("tbody tr").count() == 365
        assert behind.locator("thead th").count() == 100


def quoted(name: str) -> str:
    return "".join(f"%{byte:02X}" for byte in name.encode())
