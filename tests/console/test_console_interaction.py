"""What a person does while the console loads, polls and redraws is kept: clicks, focus, place, secrets."""

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.console import Console, ask, money

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.slow]

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
UNAVAILABLE: dict[str, Any] = {
    "status": 503,
    "json": {"error": {"message": "The database cannot be read.", "code": "x"}},
}
HIDDEN_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', {})"


def refused(console: Console, status: int) -> None:
    """The browser itself notes each of these on its console; nothing else may be there."""
    assert all(str(status) in text for text in console.complaints)
    console.complaints.clear()


def made(console: Console, name: str, **fields: Any) -> dict[str, Any]:
    answer = console.admin.post("/keys", json={"name": name, **fields})
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json()
    return key


def marked(page: "Page") -> None:
    page.evaluate("document.querySelector('nav').dataset.same = 'yes'")


def is_marked(page: "Page") -> bool:
    return page.locator("nav[data-same]").count() == 1


class TestFacts:
    def test_no_page_opens_before_the_currency_is_known(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        page.route("**/admin/api/config", lambda route: route.fulfill(**UNAVAILABLE))
        page.reload()
        page.get_by_role("alert").get_by_text("The database cannot be read.").wait_for()
        assert page.get_by_role("heading", level=1).count() == 0
        page.unroute_all()
        page.get_by_role("button", name="Try again").click()
        page.get_by_role("heading", level=1, name="Overview").wait_for()
        refused(console, 503)

    def test_nor_for_a_holder(self, console: Console) -> None:
        page = console.page
        key = made(console, "knows nothing")
        console.sign_in(key["key"])
        page.route("**/v1/key", lambda route: route.fulfill(**UNAVAILABLE))
        page.goto(f"{console.url}/console/#/models")
        page.reload()
        page.get_by_role("alert").get_by_text("The database cannot be read.").wait_for()
        assert page.get_by_role("heading", level=1).count() == 0
        refused(console, 503)


class TestSigningIn:
    @pytest.mark.parametrize("key", ["sk-sluice-abc…", "sk-admin-“abc”", "密钥"])
    def test_what_no_header_can_hold_is_not_accepted(self, console: Console, key: str) -> None:
        page = console.page
        page.goto(console.url + "/console/")
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").get_by_text("This key is not accepted.").wait_for()

    def test_language_and_appearance_are_those_of_the_browser(self, console: Console) -> None:
        console.sign_in()
        page = console.page
        page.get_by_label("Appearance").select_option("dark")
        page.get_by_label("Language").select_option("zh")
        page.get_by_role("heading", level=1, name="概览").wait_for()
        assert page.evaluate("Object.keys(localStorage).sort()") == ["sluice.language", "sluice.theme"]
        other = page.context.new_page()
        other.goto(console.url + "/console/")
        other.get_by_role("button", name="登录").wait_for()
        assert other.locator("html").get_attribute("data-theme") == "dark"


class TestFrame:
    def test_a_switch_keeps_frame_place_and_focus(self, console: Console) -> None:
        page = console.page
        page.set_viewport_size({"width": 1280, "height": 400})
        console.sign_in()
        console.settled()
        marked(page)
        page.get_by_role("button", name="30 days").focus()
        page.evaluate("scrollTo(0, 120)")
        page.keyboard.press("Enter")
        page.wait_for_url("**period=30d")
        console.settled()
        assert is_marked(page)
        assert page.evaluate("scrollY") == 120
        assert page.evaluate("document.activeElement.textContent") == "30 days"

    def test_another_page_begins_at_its_top_with_the_focus(self, console: Console) -> None:
        page = console.page
        page.set_viewport_size({"width": 1280, "height": 400})
        console.sign_in()
        console.settled()
        marked(page)
        page.evaluate("scrollTo(0, 120)")
        console.open("Keys")
        assert is_marked(page)
        assert page.evaluate("scrollY") == 0
        assert page.evaluate("document.activeElement.id") == "main"
        assert page.get_by_role("link", name="Keys", exact=True).get_attribute("aria-current") == "page"
        assert page.locator("nav [aria-current]").count() == 1

    def test_what_was_said_outlives_the_page(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        console.open("Configuration")
        page.get_by_role("button", name="Read the file again").click()
        said = page.get_by_text("Read again: nothing has changed.")
        said.wait_for()
        console.open("Keys")
        assert said.is_visible()

    def test_nothing_moves_while_models_load(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        console.settled()
        page.evaluate(
            "window.shift = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) =>"
            " window.shift += one.value)).observe({ type: 'layout-shift' })"
        )
        page.evaluate("location.hash = '#/models'")
        page.get_by_role("article").first.wait_for()
        console.settled()
        assert page.evaluate("window.shift") < 0.02


class TestFilters:
    def test_a_click_right_after_typing_is_not_lost(self, console: Console) -> None:
        page = console.page
        made(console, "found by typing")
        console.sign_in()
        console.open("Keys")
        page.get_by_label("Search").press_sequentially("FOUND by typ")
        assert page.get_by_role("row").count() == 2
        assert page.url.endswith("#/keys?q=FOUND+by+typ")
        page.get_by_role("button", name="Edit: found by typing").click()
        console.dialog().get_by_role("heading", name="Edit found by typing").wait_for()

    def test_models_are_filtered_in_place(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        console.open("Models")
        page.get_by_role("button", name="Rows").click()
        page.get_by_label("Category").select_option("fast")
        assert page.get_by_role("row").count() == 2
        page.get_by_label("Search").press_sequentially("fast")
        page.get_by_role("row").get_by_role("link", name="Try it").click()
        page.get_by_role("heading", level=1, name="Test chat").wait_for()
        assert page.get_by_label("Model").input_value() == "fast"
        page.go_back()
        page.get_by_role("row").nth(1).wait_for()
        assert page.get_by_label("Category").input_value() == "fast"

    def test_requests_by_a_click_on_what_they_have_in_common(self, console: Console, address: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", "common", amount="5.00")
        key = made(console, "asks in common")
        for model in ("fast", "demo/echo"):
            assert ask(address, key["key"], model).status_code == 200
        console.sign_in()
        page.goto(f"{console.url}/console/#/requests")
        page.get_by_role("link", name="asks in common", exact=True).first.click()
        page.wait_for_url(f"**key={key['id']}")
        console.settled()
        assert page.get_by_role("row").count() == 3
        assert page.get_by_label("Key", exact=True).input_value() == key["id"]
        page.get_by_label("Model", exact=True).focus()
        page.get_by_label("Model", exact=True).select_option("fast")
        page.wait_for_url("**model=fast")
        console.settled()
        assert page.get_by_role("row").count() == 2
        assert page.evaluate("document.activeElement.name") == "model"
        page.get_by_role("link", name="Without Key asks in common").click()
        page.wait_for_url("**/#/requests?model=fast")
        page.get_by_role("link", name="Clear the filters").click()
        page.get_by_role("link", name="Without Model fast").wait_for(state="detached")


class TestPolling:
    def test_one_that_began_early_and_ended_late_appears(self, console: Console, address: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", "late", amount="5.00")
        key = made(console, "late")
        answers = [ask(address, key["key"]).headers["x-request-id"] for _ in range(3)]

        def without_the_middle(route: "Route") -> None:
            answer = route.fetch()
            body = answer.json()
            body["data"] = [item for item in body["data"] if item["id"] != answers[1]]
            route.fulfill(response=answer, json=body)

        page.clock.install()
        page.route("**/admin/api/requests?*", without_the_middle)
        console.sign_in()
        page.goto(f"{console.url}/console/#/requests?key={key['id']}")
        console.settled()
        assert page.get_by_role("row").count() == 3
        page.locator(f"a[href='#/requests/{answers[0]}']").focus()
        page.unroute_all()
        page.clock.fast_forward(5000)
        page.locator(f"a[href='#/requests/{answers[1]}']").wait_for()
        assert page.evaluate("document.activeElement.getAttribute('href')") == f"#/requests/{answers[0]}"
        page.locator("time").first.get_by_text("second").wait_for()
        page.clock.fast_forward(180_000)
        page.locator("time").first.get_by_text("3 minutes ago").wait_for()

    @pytest.mark.parametrize("name", ["Requests", "Providers"])
    def test_an_error_stands_there_until_it_is_over(self, console: Console, name: str) -> None:
        page = console.page
        page.clock.install()
        console.sign_in()
        console.open(name)
        console.settled()
        page.route(f"**/admin/api/{name.lower()}*", lambda route: route.fulfill(**UNAVAILABLE))
        page.clock.fast_forward(5000)
        notice = page.get_by_role("alert").get_by_text("The database cannot be read.")
        notice.wait_for()
        page.get_by_text("Last answered").wait_for()
        page.unroute_all()
        page.clock.fast_forward(5000)
        notice.wait_for(state="detached")
        refused(console, 503)

    def test_older_ones_pause_it(self, console: Console, address: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", "pause", amount="5.00")
        key = made(console, "pauses")
        for _ in range(51):
            ask(address, key["key"])
        page.clock.install()
        console.sign_in()
        page.goto(f"{console.url}/console/#/requests?key={key['id']}")
        page.get_by_role("button", name="Show older ones").click()
        page.get_by_text("Show older ones").wait_for(state="detached")
        assert page.get_by_role("row").count() == 52
        page.get_by_role("button", name="Go on").click()
        page.clock.fast_forward(5000)
        page.get_by_role("button", name="Pause").wait_for()
        page.get_by_role("button", name="Show older ones").wait_for()
        assert page.get_by_role("row").count() == 51


class TestCopying:
    def test_without_a_clipboard_it_copies_from_a_drawer(self, console: Console) -> None:
        page = console.page
        page.add_init_script(HIDDEN_CLIPBOARD)
        console.sign_in()
        console.open("Keys")
        page.evaluate("document.execCommand = () => ((window.copied = document.activeElement.value), true)")
        secret = create(console, "copied over http")
        page.get_by_role("button", name="Copy the key").click()
        page.get_by_text("Copied", exact=True).wait_for()
        assert page.evaluate("window.copied") == secret

    def test_what_cannot_be_copied_is_selected(self, console: Console) -> None:
        page = console.page
        page.add_init_script(HIDDEN_CLIPBOARD)
        console.sign_in()
        console.open("Keys")
        page.evaluate("document.execCommand = () => false")
        secret = create(console, "selected by hand")
        page.get_by_role("button", name="Copy the key").click()
        page.get_by_text("Select it and copy by hand").wait_for()
        assert page.evaluate("getSelection().toString()") == secret


def create(console: Console, name: str) -> str:
    """Create a key by the page, and return its secret; the drawer stays open."""
    console.page.get_by_role("button", name="Create a key").click()
    form = console.dialog()
    form.get_by_label("Name").fill(name)
    form.get_by_role("button", name="Create a key").click()
    return form.locator("code[data-secret]").inner_text()


class TestSecret:
    def test_it_stays_until_it_is_copied(self, console: Console) -> None:
        page = console.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        console.sign_in()
        console.open("Keys")
        secret = create(console, "not to be lost")
        copy = page.get_by_role("button", name="Copy the key")
        assert page.evaluate("document.activeElement.textContent") == "Copy the key"
        for _ in range(3):
            page.keyboard.press("Escape")
        page.get_by_role("alert").get_by_text("Copy the key first").wait_for()
        page.get_by_role("button", name="Close").click()
        page.evaluate("location.hash = '#/models'")
        page.get_by_role("heading", level=1, name="Models", include_hidden=True).wait_for()
        assert console.dialog().locator("code[data-secret]").inner_text() == secret
        copy.click()
        page.get_by_text("Copied", exact=True).wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == secret
        page.keyboard.press("Escape")
        console.dialog().wait_for(state="detached")

    def test_done_ends_it(self, console: Console) -> None:
        console.sign_in()
        console.open("Keys")
        create(console, "written down")
        console.page.get_by_role("button", name="Done").click()
        console.dialog().wait_for(state="detached")


class TestSetUp:
    def test_a_link_cannot_say_where_the_key_is_sent(self, console: Console) -> None:
        page = console.page
        key = made(console, "holds the key")["key"]
        console.sign_in(key)
        page.goto(f"{console.url}/console/#/setup?tool=curl&base_url=https%3A%2F%2Fevil.example")
        page.get_by_text(f"Bearer {key}").wait_for()
        assert "evil" not in page.locator("main").inner_text()
        assert page.get_by_label("Address of this gateway").input_value() == console.url

    def test_another_address_is_filled_in_while_it_is_typed(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        page.goto(f"{console.url}/console/#/setup?tool=curl")
        page.get_by_label("Address of this gateway").fill("https://ai.example.org")
        page.get_by_text("https://ai.example.org/v1/chat/completions").wait_for()
        assert "example.org" not in page.url
        page.get_by_label("Tool").select_option("codex")
        page.get_by_text("https://ai.example.org/v1").first.wait_for()
        page.get_by_role("link", name="Create a key").click()
        page.get_by_role("heading", level=1, name="Keys").wait_for()


class TestChat:
    def test_a_new_conversation_ends_the_answer_of_the_one_before(self, console: Console) -> None:
        page = console.page
        money(console.admin, "default", "topup", "new one", amount="5.00")
        console.sign_in()
        page.goto(f"{console.url}/console/#/chat?model=fast")
        network = page.context.new_cdp_session(page)
        slow = {"offline": False, "latency": 0, "downloadThroughput": 4000, "uploadThroughput": -1}
        page.get_by_label("Message").fill("word " * 2000)
        network.send("Network.emulateNetworkConditions", slow)
        page.get_by_role("button", name="Send").click()
        page.get_by_role("log").get_by_role("article").nth(1).get_by_text("word").wait_for()
        page.get_by_role("button", name="New conversation").click()
        network.send("Network.emulateNetworkConditions", slow | {"downloadThroughput": -1})
        page.get_by_text("Say something").wait_for()
        page.get_by_label("Message").fill("short")
        with page.expect_request("**/chat") as sent:
            page.get_by_role("button", name="Send").click()
        assert (sent.value.post_data_json or {})["messages"] == [{"role": "user", "content": "short"}]
        page.get_by_role("link", name="Receipt").wait_for()
        assert page.get_by_role("log").get_by_role("article").count() == 2
        assert page.get_by_role("button", name="Stop").is_hidden()

    def test_the_reader_is_left_where_they_are(self, console: Console) -> None:
        page = console.page
        page.set_viewport_size({"width": 1280, "height": 500})
        money(console.admin, "default", "topup", "reading", amount="5.00")
        console.sign_in()
        page.goto(f"{console.url}/console/#/chat?model=fast")
        message = page.get_by_label("Message")
        message.fill("line\n\n" * 100)
        page.get_by_role("button", name="Send").click()
        page.get_by_role("link", name="Receipt").wait_for()
        end = "scrollY + innerHeight > document.documentElement.scrollHeight - 48"
        assert page.evaluate(end)
        page.evaluate("scrollTo(0, 300)")
        message.evaluate("(one) => { one.value = 'more'; one.form.requestSubmit(); }")
        page.wait_for_function(f"() => {end}")  # what one says oneself is gone to
        network = page.context.new_cdp_session(page)
        slow = {"offline": False, "latency": 0, "downloadThroughput": 4000, "uploadThroughput": -1}
        page.get_by_role("link", name="Receipt").nth(1).wait_for()
        network.send("Network.emulateNetworkConditions", slow)
        message.evaluate("(one) => (one.value = 'word\\n\\n'.repeat(1500))")
        page.get_by_role("button", name="Send").click()
        page.get_by_role("log").get_by_role("article").nth(5).get_by_text("word").first.wait_for()
        assert page.get_by_role("log").get_attribute("aria-busy") == "true"
        page.evaluate("scrollTo(0, 300)")
        before = page.evaluate("document.documentElement.scrollHeight")
        page.wait_for_function(f"() => document.documentElement.scrollHeight > {before} + 100")
        assert page.evaluate("scrollY") == 300
        page.get_by_role("button", name="Stop").click()
        network.send("Network.emulateNetworkConditions", slow | {"downloadThroughput": -1})
        page.get_by_text("Stopped. The receipt says").wait_for()
        assert page.get_by_role("log").get_attribute("aria-busy") is None

    def test_models_are_those_of_the_key(self, console: Console) -> None:
        page = console.page
        key = made(console, "abroad only", models=["abroad"])
        made(console, "nothing at all", models=[])
        console.sign_in()
        page.goto(f"{console.url}/console/#/chat?key={key['id']}")
        model = page.get_by_label("Model")
        model.wait_for()
        assert model.locator("option").all_inner_texts() == ["abroad"]
        page.get_by_label("Key").select_option(label="nothing at all (default)")
        assert model.locator("option").all_inner_texts() == ["No model can be called"]
        page.goto(f"{console.url}/console/#/chat?model=demo/echo")
        page.wait_for_function("() => document.querySelector('[name=model]').value === 'demo/echo'")
        assert page.get_by_label("Key").input_value() != key["id"]

    def test_tables_and_links_of_an_answer(self, console: Console) -> None:
        page = console.page
        money(console.admin, "default", "topup", "markdown", amount="5.00")
        console.sign_in()
        page.goto(f"{console.url}/console/#/chat?model=fast")
        text = (
            "See:\n| a | b |\n|---|--:|\n| 1 | **2** |\n\n"
            "[ours](https://example.org/x) [theirs](javascript:alert(1))"
        )
        page.get_by_label("Message").fill(text)
        page.get_by_role("button", name="Send").click()
        answer = page.get_by_role("log").get_by_role("article").nth(1)
        answer.get_by_role("row", name="1 2").wait_for()
        assert answer.get_by_role("columnheader").all_inner_texts() == ["a", "b"]
        link = answer.get_by_role("link", name="ours")
        assert link.get_attribute("href") == "https://example.org/x"
        assert link.get_attribute("rel") == "noopener noreferrer"
        assert answer.get_by_role("link", name=re.compile("theirs")).count() == 0
        answer.get_by_text("[theirs](javascript:alert(1))").wait_for()

    @pytest.mark.parametrize("console", [PHONE], indirect=True)
    def test_send_is_above_the_bar_of_a_phone(self, console: Console) -> None:
        console.sign_in()
        console.page.goto(f"{console.url}/console/#/chat")
        send = console.page.get_by_role("button", name="Send").bounding_box()
        bar = console.page.get_by_role("navigation", name="Pages").bounding_box()
        assert send is not None
        assert bar is not None
        assert send["y"] + send["height"] <= bar["y"]
