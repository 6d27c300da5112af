"""Measure the console in headless Chromium on a database with a million exchanges, and print a table.

    python bench/console.py [--exchanges 1000000] [--database FILE]

Needs what its tests need (docs/console.md). A database that is kept with `--database` is filled only once.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from playwright.sync_api import Browser, Page, sync_playwright
from processes import ROOT, Process, free_port

sys.path.insert(0, str(ROOT))  # records and the browser's name are those of the tests

from proxy.store.database import Database
from proxy.store.usage import UsageStore
from tests.console.conftest import chromium
from tests.support.records import record

ADMIN_KEY = "sk-admin-of-the-benchmark-000000000000"
DAYS = 11
ROUNDS = 5
AT_ONCE = 2000
OVERVIEW = "#/overview"

PAINT = """() => new Promise((done) => new PerformanceObserver(
    (list) => done(list.getEntriesByName("first-contentful-paint")[0].startTime)
).observe({type: "paint", buffered: true}))"""
SIZES = """() => performance.getEntries()
    .filter((entry) => entry.encodedBodySize && !entry.name.includes("/api/"))
    .reduce((sums, entry) => [sums[0] + entry.encodedBodySize, sums[1] + entry.decodedBodySize], [0, 0])"""
CALLS = """() => performance.getEntriesByType("resource").filter((entry) => entry.initiatorType === "fetch")
    .map((entry) => [new URL(entry.name).pathname, entry.duration])"""


async def fill(path: Path, count: int) -> None:
    """Settle so many exchanges of the last days, by the works that the gateway itself uses."""
    database = await Database.open(path)
    usage = UsageStore(database)
    now_ms, chance = int(time.time() * 1000), random.Random(1)
    for first in range(0, count, AT_ONCE):
        records = []
        for number in range(first, min(first + AT_ONCE, count)):
            key, model = chance.randrange(30), chance.randrange(12)
            moment = now_ms - (count - number) * DAYS * 86_400_000 // count
            records.append(
                record(
                    number,
                    id=f"req_{moment:012x}{number:020x}",
                    created_ms=moment,
                    ended_ms=moment + 900,
                    day=datetime.fromtimestamp(moment / 1000, UTC).date().isoformat(),
                    key_id=f"key_{key}",
                    account=f"team {key % 5}",
                    model=f"model-{model}",
                    provider=f"provider-{model % 4}",
                    timings={
                        "total_ms": chance.lognormvariate(7, 1),
                        "first_output_ms": chance.lognormvariate(5, 1),
                    },
                )
            )
        await asyncio.gather(*map(usage.settle, records))
    usage.flush()
    await database.close()


def measure(browser: Browser, url: str) -> dict[str, list[float]]:
    """Return milliseconds and bytes of a sign-in page and of an overview, each in a new profile."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for _ in range(ROUNDS):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
        page = context.new_page()
        page.goto(url, wait_until="networkidle")
        note("sign-in: first paint, ms", page.evaluate(PAINT))
        sign_in(page)
        page.goto("about:blank")
        began = time.perf_counter()
        page.goto(url + OVERVIEW, wait_until="commit")
        page.locator("main figure.chart svg").first.wait_for()
        note("overview: figures and chart are there, ms", 1000 * (time.perf_counter() - began))
        page.wait_for_load_state("networkidle")
        note("overview: first paint, ms", page.evaluate(PAINT))
        sent, whole = page.evaluate(SIZES)
        note("overview: files as sent, bytes", sent)
        note("overview: files unpacked, bytes", whole)
        for call, milliseconds in page.evaluate(CALLS):
            note(f"overview: a call of `{call}`, ms", milliseconds)
        context.close()
    return found


def sign_in(page: Page) -> None:
    page.get_by_label("Key").fill(ADMIN_KEY)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", level=1, name="Overview").wait_for()


def run(executable: str, folder: Path, database: Path) -> dict[str, list[float]]:
    """Measure with a gateway on `database`."""
    port = free_port()
    config = folder / "config.yaml"
    settings = {
        "server": {"port": port},
        "database": str(database),
        "admin_key": ADMIN_KEY,
        "providers": {"demo": {"preset": "echo"}},
    }
    config.write_bytes(msgspec.json.encode(settings))  # JSON is YAML
    command = [sys.executable, "-m", "proxy", "--config", str(config)]
    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    with Process(command, core=0, log=folder / "log") as gateway, sync_playwright() as playwright:
        gateway.wait_until_listening(port)
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        try:
            return measure(browser, f"http://127.0.0.1:{port}/console/")
        finally:
            browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--exchanges", type=int, default=1_000_000)
    parser.add_argument("--database", type=Path, help="kept, and used again if it is there")
    arguments = parser.parse_args()
    executable = chromium()
    if executable is None:
        print("no Chromium found; install it, or set SLUICE_CHROMIUM", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        database = (arguments.database or Path(folder) / "sluice.db").absolute()
        if not database.exists():
            asyncio.run(fill(database, arguments.exchanges))
        found = run(executable, Path(folder), database)
    print("| what | median | worst |\n| --- | ---: | ---: |")
    for name, values in found.items():
        print(f"| {name} | {statistics.median(values):,.0f} | {max(values):,.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
