"""A gateway in a process of its own, and Debian's Chromium in front of it.

Skipped where Playwright (`pip install '.[console-tests]'`) or Chromium (`apt-get install chromium`;
another one by `SLUICE_CHROMIUM`) is missing; the end of the run then says so.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.support.console import EVIL, EVIL_MODEL, EVIL_UPSTREAM, PATIENCE_MS, Console
from tests.support.gateway import ADMIN_KEY, configuration
from tests.support.process import GatewayProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Request


def chromium() -> str | None:
    names = (os.environ.get("SLUICE_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if report.nodeid.startswith("tests/console/")
    ]
    if skipped:
        terminalreporter.write_line(
            f"The console was NOT tested in a browser ({len(skipped)} tests): {skipped[0].longrepr[2]}",
            yellow=True,
        )


# Playwright keeps a loop running in this thread, where tests elsewhere need one of their own: it ends with
# the package.
@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("Playwright is missing: pip install '.[console-tests]'")
    executable = chromium()
    if executable is None:
        pytest.skip("Chromium is missing: apt-get install chromium, or set SLUICE_CHROMIUM")
    with sync_playwright() as playwright:
        # Containers have neither user namespaces nor a large /dev/shm.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    price = {"input": 2, "output": 8, "per": "1M"}
    return configuration(
        tmp_path_factory.mktemp("console"),
        providers={
            "demo": {"preset": "echo"},
            "other": {"preset": "echo"},
            "idle": {"preset": "deepseek", "api_key": "${NO_SUCH_VARIABLE:-}"},
        },
        models={
            "fast": {"routes": ["demo/fast"], "price": price, "category": "fast", "context_window": 64000},
            "abroad": {"routes": ["other/abroad"], "price": price | {"cached_input": 0.5, "currency": "USD"}},
            EVIL_MODEL: {
                "routes": [{"provider": "other", "model": EVIL_UPSTREAM}],
                "category": EVIL,
                "price": price,
            },
        },
        billing={"mode": "prepaid", "currency": "CNY", "exchange_rates": {"USD": 7}},
        plans={"pro": {"rpm": 600, "subscription": {"price": 10, "credit": 12, "days": 30}}},
    )


@pytest.fixture(scope="package")
def address(config_file: Path, browser: "Browser") -> Iterator[str]:
    """One gateway for all tests: each makes the keys and accounts that it looks at."""
    with GatewayProcess(config_file) as process:
        yield "http://{}:{}".format(*process.address)


@pytest.fixture
def admin(address: str) -> Iterator[httpx2.Client]:
    headers = {"authorization": f"Bearer {ADMIN_KEY}"}
    with httpx2.Client(base_url=address + "/admin/api", headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def console(
    browser: "Browser", address: str, admin: httpx2.Client, request: pytest.FixtureRequest
) -> Iterator[Console]:
    """A new tab; at its end nothing may have been complained about, and nobody else been asked."""
    options: dict[str, Any] = {"locale": "en-US", "viewport": {"width": 1280, "height": 900}}
    context = browser.new_context(**(options | getattr(request, "param", {})))
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(
        "addEventListener('securitypolicyviolation',"
        "(event) => console.error('CSP', event.violatedDirective, event.blockedURI))"
    )
    page = context.new_page()
    found = Console(page, address, admin)

    def asked(request: "Request") -> None:
        if not request.url.startswith((address + "/", "data:", "blob:")):
            found.complaints.append(f"foreign request: {request.url}")

    page.on("request", asked)
    page.on("pageerror", lambda error: found.complaints.append(f"error: {error}"))
    page.on("console", lambda message: message.type == "error" and found.complaints.append(message.text))
    yield found
    context.close()
    assert not found.complaints
