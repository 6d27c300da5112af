"""The console in a browser's tab, and the names that no page may take for markup."""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2

from tests.support.gateway import ADMIN_KEY

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

#: What would show as an element, or run, if any page took a name for markup.
EVIL = "<img src=x onerror=\"document.title='pwned'\"><b>&amp;\"'"
EVIL_MODEL = "<script>pwned</script>"
EVIL_UPSTREAM = "<img/src=x/onerror=pwned>"
PATIENCE_MS = 10_000


@dataclass
class Console:
    """The console in one tab, and what went wrong in it."""

    page: "Page"
    url: str
    admin: httpx2.Client
    complaints: list[str] = field(default_factory=list)

    def sign_in(self, key: str = ADMIN_KEY) -> None:
        """Be signed in: by the form if the page is there, else as the form leaves it, which is faster."""
        if self.page.url.startswith(self.url):
            self.page.get_by_label("Key", exact=True).fill(key)
            self.page.get_by_role("button", name="Sign in").click()
        else:
            role = "admin" if key == ADMIN_KEY else "holder"
            kept = json.dumps({"sluice.key": key, "sluice.role": role, "test.begun": "yes"})
            begin = f"if (!sessionStorage.getItem('test.begun')) Object.assign(sessionStorage, {kept});"
            self.page.add_init_script(begin)
            self.page.goto(self.url + "/console/")
        self.page.get_by_role("navigation", name="Pages").wait_for()

    def open(self, name: str) -> None:
        """Go to a page by the navigation."""
        self.page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True).click()
        self.page.get_by_role("heading", level=1, name=name, exact=True).wait_for()

    def dialog(self) -> "Locator":
        return self.page.get_by_role("dialog")

    def settled(self) -> None:
        """Wait until nothing is loading any more."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_function("() => !document.querySelector('[aria-busy]')")


def ask(address: str, key: str, model: str = "fast", **body: Any) -> httpx2.Response:
    return httpx2.post(
        f"{address}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "one two three"}], **body},
        headers={"authorization": f"Bearer {key}"},
        trust_env=False,
    )


def money(admin: httpx2.Client, account: str, call: str, once: str, **body: Any) -> None:
    path = f"/accounts/{account}/{call}"
    answer = admin.post(path, json=body, headers={"idempotency-key": once})
    assert answer.status_code == 200, answer.text
