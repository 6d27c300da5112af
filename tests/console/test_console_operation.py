"""The console where something goes wrong, goes on for long, or is done by keyboard."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.console import Console, ask, money

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = [pytest.mark.xdist_group("console"), pytest.mark.slow]

CAUSE = {
    "class": "auth",
    "code": "upstream_auth_failed",
    "message": "The provider demo refused the key.",
    "at": "2099-12-31T20:00:00.000Z",
}
RESTING = {"key": "…abcd", "state": "resting", "until": "2100-01-01T14:02:00.000Z", "cause": CAUSE}


def providers(page: "Page", **changes: Any) -> None:
    """Let the provider demo be seen with other members than it has."""

    def changed(route: "Route") -> None:
        answer = route.fetch()
        body = answer.json()
        for provider in body["data"]:
            if provider["name"] == "demo":
                provider.update(changes)
        route.fulfill(response=answer, json=body)

    page.route("**/admin/api/providers", changed)


class TestProviders:
    def test_the_last_hour_in_pictures_and_words(self, console: Console) -> None:
        page = console.page
        quiet = {"attempts": 0, "failed": 0, "first_byte_ms": None}
        hour = [quiet] * 10 + [
            {"attempts": 30, "failed": 0, "first_byte_ms": 200.0},
            {"attempts": 12, "failed": 3, "first_byte_ms": 720.0},
        ]
        providers(page, last_hour=hour)
        console.sign_in()
        console.open("Providers")
        card = page.get_by_role("region", name="demo")
        card.get_by_text("42 attempts, 3 failed, first byte 320 ms in the last hour").wait_for()
        assert card.locator("svg.spark").count() == 2

    def test_none_is_drawn_without_attempts(self, console: Console) -> None:
        providers(console.page, last_hour=[{"attempts": 0, "failed": 0, "first_byte_ms": None}] * 12)
        console.sign_in()
        console.open("Providers")
        card = console.page.get_by_role("region", name="demo")
        card.get_by_text("Not asked in the last hour").wait_for()
        assert card.locator("svg.spark").count() == 0


class TestAttention:
    def test_a_refused_key_is_probed_from_the_list(self, console: Console) -> None:
        page = console.page
        providers(page, state="resting", keys=[RESTING])
        console.sign_in()
        item = (
            page.get_by_role("region", name="Needs attention")
            .get_by_role("listitem")
            .filter(has_text="…abcd")
        )
        item.get_by_text(
            re.compile(r"Key …abcd of demo was refused at .*2099.* and rests until .*2100")
        ).wait_for()
        item.get_by_text(CAUSE["message"]).wait_for()
        assert item.get_by_role("link").get_attribute("href") == "#/providers"
        page.unroute_all()
        item.get_by_role("button", name="Probe again").click()
        page.get_by_text("demo answers.").wait_for()
        item.wait_for(state="detached")

    def test_a_probe_that_fails_says_why(self, console: Console) -> None:
        page = console.page
        providers(page, state="resting", keys=[RESTING])
        probed = {"probe": [{"key": "…abcd", "ok": False, "error": CAUSE, "ms": 3}]}
        page.route("**/providers/demo/probe", lambda route: route.fulfill(json=probed))
        console.sign_in()
        button = page.get_by_role("button", name=re.compile("^Probe again"))
        button.click()
        page.get_by_role("alert").get_by_text(f"…abcd: {CAUSE['message']}").wait_for()
        assert button.is_enabled()


@pytest.fixture
def settings(config_file: Path) -> Iterator[dict[str, Any]]:
    """The configuration of the gateway, which is put back at the end."""
    text = config_file.read_text()
    yield json.loads(text)
    config_file.write_text(text)


def test_the_last_reloads_are_listed(console: Console, config_file: Path, settings: dict[str, Any]) -> None:
    page = console.page
    console.sign_in()
    console.open("Configuration")
    reloads = page.locator("section").filter(has=page.get_by_role("heading", name="Last reloads"))
    again = page.get_by_role("button", name="Read the file again")
    config_file.write_text(json.dumps(settings | {"plans": settings["plans"] | {"new": {"rpm": 6}}}))
    again.click()
    # It may have been read by itself before that: then the newest one has no changes.
    added = reloads.get_by_role("group").filter(has_text="changes: 1").first
    added.evaluate("one => { one.open = true; }")
    added.get_by_role("row", name=re.compile(r"plans\.new added")).wait_for()
    config_file.write_text(f"\n\n{json.dumps(settings | {'bogus': 1})}")
    again.click()
    page.get_by_role("alert").get_by_text("config.yaml:3: bogus: unknown key").wait_for()
    newest = reloads.get_by_role("group").first
    newest.get_by_text("refused").wait_for()
    newest.get_by_text("config.yaml:3: bogus: unknown key").wait_for()
    page.get_by_text("the file has errors", exact=True).wait_for()
    assert reloads.get_by_role("group").count() >= 2
    assert all("400" in text for text in console.complaints)
    console.complaints.clear()


class TestPages:
    def test_older_entries_of_a_ledger(self, console: Console) -> None:
        page = console.page
        console.admin.post("/accounts", json={"name": "long"})
        for number in range(60):
            money(console.admin, "long", "topup", f"long {number}", amount="1", note=f"number {number}")
        console.sign_in()
        page.goto(f"{console.url}/console/#/accounts/long")
        rows = page.get_by_role("region", name="Ledger").get_by_role("row")
        page.get_by_role("button", name="Show older ones").click()
        page.get_by_text("number 0", exact=True).wait_for()
        assert rows.count() == 61
        assert page.get_by_role("button", name="Show older ones").count() == 0

    def test_older_requests(self, console: Console, address: str) -> None:
        page = console.page
        money(console.admin, "default", "topup", "older", amount="5.00")
        made = console.admin.post("/keys", json={"name": "asks often"}).json()
        for _ in range(55):
            ask(address, made["key"])
        console.sign_in()
        page.goto(f"{console.url}/console/#/requests?key={made['id']}")
        page.get_by_role("button", name="Show older ones").click()
        page.get_by_role("button", name="Show older ones").wait_for(state="detached")
        assert page.get_by_role("region", name="Requests").get_by_role("row").count() == 56


class TestFailures:
    def test_a_form_that_cannot_open_says_why(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        console.open("Keys")
        error = {"error": {"message": "The database cannot be read.", "code": "x"}}
        page.route("**/admin/api/accounts*", lambda route: route.fulfill(status=503, json=error))
        page.get_by_role("button", name="Create a key").click()
        page.get_by_role("alert").get_by_text("The database cannot be read.").wait_for()
        page.unroute_all()
        page.get_by_role("button", name="Create a key").click()
        console.dialog().get_by_label("Name").wait_for()
        assert all("503" in text for text in console.complaints)
        console.complaints.clear()

    def test_what_was_typed_into_the_chat_stays(self, console: Console) -> None:
        page = console.page
        made = console.admin.post("/keys", json={"name": "short", "limits": {"max_context": 1}}).json()
        console.sign_in()
        page.goto(f"{console.url}/console/#/chat?key={made['id']}&model=fast")
        page.get_by_label("Message").fill("a long question")
        page.get_by_role("button", name="Send").click()
        page.get_by_role("alert").get_by_text("max_context").wait_for()
        assert page.get_by_label("Message").input_value() == "a long question"
        # What was refused at the door has no receipt.
        assert all("400" in text or "404" in text for text in console.complaints)
        console.complaints.clear()


class TestKeyboard:
    @pytest.mark.parametrize("name", ["Keys", "Models"])
    def test_a_slash_goes_to_the_search(self, console: Console, name: str) -> None:
        page = console.page
        console.sign_in()
        console.open(name)
        search = page.get_by_label("Search")
        search.wait_for()
        page.keyboard.press("/")
        page.keyboard.type("a/b")
        assert search.input_value() == "a/b"

    def test_escape_closes_a_drawer_and_the_focus_returns(self, console: Console) -> None:
        page = console.page
        console.sign_in()
        console.open("Keys")
        create = page.get_by_role("button", name="Create a key")
        create.press("Enter")
        console.dialog().get_by_label("Name").wait_for()
        page.keyboard.press("/")  # is typed: no search is looked for behind a drawer
        assert console.dialog().get_by_label("Name").input_value() == "/"
        page.keyboard.press("Escape")
        console.dialog().wait_for(state="detached")
        assert page.evaluate("document.activeElement.textContent") == "Create a key"

    def test_the_focus_returns_though_the_list_is_another_one(self, console: Console) -> None:
        page = console.page
        console.admin.post("/keys", json={"name": "edited by keyboard"})
        console.sign_in()
        console.open("Keys")
        page.get_by_role("button", name="Edit: edited by keyboard").press("Enter")
        console.dialog().get_by_role("button", name="Save").press("Enter")
        console.dialog().wait_for(state="detached")
        console.settled()
        label = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert label == "Edit: edited by keyboard"
