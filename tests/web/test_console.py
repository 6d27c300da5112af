"""The console's files: what is served, under which headers, and that nothing else is."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from proxy.web import console
from proxy.web.console import CONTENT_SECURITY_POLICY, read_files
from tests.support.gateway import Sluice, configuration, gateway
from tests.support.raw import RawClient

FOLDER = Path(console.__file__).parent / "console"
BROWSER = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
async def sluice(tmp_path: Path) -> AsyncIterator[Sluice]:
    async with gateway(tmp_path, providers={"demo": {"preset": "echo"}}) as sluice:
        yield sluice


def nobody(sluice: Sluice) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=sluice.url)


class TestServing:
    async def test_every_file_needs_no_key_and_carries_the_headers(self, sluice: Sluice) -> None:
        async with nobody(sluice) as client:
            for path, file in read_files().items():
                answer = await client.get(f"/console/{path}")
                assert answer.status_code == 200, path
                assert answer.content == file.body
                assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["referrer-policy"] == "no-referrer"
                assert answer.headers["cache-control"] == "no-cache"
                assert answer.headers["content-type"].encode() == file.media_type
                assert answer.headers["x-request-id"].startswith("req_")
                assert "set-cookie" not in answer.headers

    async def test_the_first_page(self, sluice: Sluice) -> None:
        async with nobody(sluice) as client:
            answer = await client.get("/console/", headers={"accept-encoding": "identity"})
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert "content-encoding" not in answer.headers
            head = await client.head("/console/")
            assert (head.status_code, head.content) == (200, b"")

    async def test_a_kept_file_is_not_sent_again(self, sluice: Sluice) -> None:
        async with nobody(sluice) as client:
            first = await client.get("/console/main.js")
            again = await client.get("/console/main.js", headers={"if-none-match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            other = await client.get("/console/main.js", headers={"if-none-match": 'W/"other"'})
            assert other.status_code == 200

    @pytest.mark.parametrize("path", ["/", "/console"])
    async def test_browsers_are_led_to_it(self, sluice: Sluice, path: str) -> None:
        async with nobody(sluice) as client:
            answer = await client.get(path, headers=BROWSER)
            assert (answer.status_code, answer.headers["location"]) == (307, "/console/")

    async def test_programs_find_nothing_at_the_root(self, sluice: Sluice) -> None:
        answer = await sluice.http.get("/", headers={"accept": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")

    async def test_only_reading_is_allowed(self, sluice: Sluice) -> None:
        answer = await sluice.http.post("/console/")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")

    async def test_switched_off_there_is_nothing(self, tmp_path: Path) -> None:
        async with gateway(tmp_path, console=False) as sluice, nobody(sluice) as client:
            for path in ("/", "/console", "/console/", "/console/main.js"):
                answer = await client.get(path, headers=BROWSER)
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")

    async def test_a_reload_switches_it_off(self, tmp_path: Path) -> None:
        async with gateway(tmp_path) as sluice, nobody(sluice) as client:
            assert (await client.get("/console/")).status_code == 200
            configuration(tmp_path, console=False)
            assert (await sluice.admin.post("/admin/api/reload")).status_code == 200
            assert (await client.get("/console/")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/console/../config.yaml",
        "/console/..%2f..%2fconfig.yaml",
        "/console/%2e%2e/%2e%2e/config.yaml",
        "/console/pages/../../console.py",
        "/console//etc/passwd",
        "/console/..\\..\\config.yaml",
        "/console/main.js%00.html",
        "/console/pages",
        "/console/pages/",
        "/console/console.py",
        "/console/__init__.py",
        "/console/%c0%ae%c0%ae/config.yaml",
    ],
)
async def test_no_path_leads_out_of_the_table(sluice: Sluice, path: str) -> None:
    """Sent as they stand: a client library would put them straight."""
    host, _, port = sluice.url.removeprefix("http://").partition(":")
    async with RawClient((host, int(port))) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert (await client.answer()).status in (400, 404)


class TestFiles:
    """What no file may hold, whatever the policy of the page would say to it."""

    def test_all_of_them_are_served(self) -> None:
        found = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
        assert found == set(read_files())

    def test_they_are_small(self) -> None:
        files = read_files()
        assert sum(len(file.packed) for file in files.values()) < 90_000

    @pytest.mark.parametrize("page", [path.stem for path in FOLDER.glob("pages/*.js")])
    def test_a_page_needs_little(self, page: str) -> None:
        """What it loads with all that it imports, unpacked."""
        found = {FOLDER / "index.html", FOLDER / "app.css"}
        wanted = [FOLDER / "main.js", FOLDER / "pages" / f"{page}.js"]
        while wanted:
            path = wanted.pop()
            if path not in found:
                found.add(path)
                imported = re.findall(r'^import[^;]* from "(.+)";$', path.read_text(), re.MULTILINE)
                wanted += [(path.parent / name).resolve() for name in imported]
        assert sum(path.stat().st_size for path in found) < 100_000

    def test_nothing_is_inline_or_from_elsewhere(self) -> None:
        page = (FOLDER / "index.html").read_text()
        assert not re.search(r"<style|\son\w+=|\sstyle=|<script(?![^>]*\ssrc=)", page)
        for path in FOLDER.rglob("*.*"):
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?://(?!\S*\$\{)", text), path
            assert not re.search(r"@import|url\(", text), path

    def test_data_never_becomes_markup_or_code(self) -> None:
        for path in FOLDER.rglob("*.js"):
            text = path.read_text()
            banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
            assert not re.search(banned, text), path
            # What outlives the tab is no secret.
            assert "localStorage" not in text or path.name in ("i18n.js", "shell.js"), path

    def test_modules_are_short(self) -> None:
        for path in FOLDER.rglob("*.js"):
            if path.name != "zh.js":
                assert len(path.read_text().splitlines()) <= 300, path

    def test_every_text_is_there_in_chinese(self) -> None:
        dictionary = (FOLDER / "zh.js").read_text()
        known = set(re.findall(r'^  (?:"((?:[^"\\]|\\.)*)"|(\w+)):', dictionary, re.MULTILINE))
        names = {quoted or bare for quoted, bare in known}
        for path in FOLDER.rglob("*.js"):
            for text in re.findall(r'\bt\(\s*"((?:[^"\\]|\\.)*)"', path.read_text()):
                assert text in names, f"{path.name}: {text}"


class TestChatAsAKey:
    async def test_it_runs_and_is_billed_as_that_key(self, sluice: Sluice) -> None:
        made = (await sluice.admin.post("/admin/api/keys", json={"name": "one"})).json()
        body = {"model": "demo/echo", "messages": [{"role": "user", "content": "one two"}]}
        path = f"/admin/api/keys/{made['id']}/chat"
        answer = await sluice.admin.post(path, json=body)
        assert answer.json()["choices"][0]["message"]["content"] == "one two"
        assert (await sluice.receipt(answer))["key"] == made["id"]
        streamed = await sluice.admin.post(path, json=body | {"stream": True})
        assert streamed.text.endswith("data: [DONE]\n\n")
        shown = (await sluice.admin.get(f"/admin/api/keys/{made['id']}")).json()
        assert shown["last_used_at"] is not None

    async def test_its_limits_hold(self, sluice: Sluice) -> None:
        fields = {"name": "one", "limits": {"rpm": 1}, "models": ["demo/*"], "ips": ["192.0.2.1"]}
        made = (await sluice.admin.post("/admin/api/keys", json=fields)).json()
        path = f"/admin/api/keys/{made['id']}/chat"
        body = {"model": "demo/echo", "messages": [{"role": "user", "content": "hi"}]}
        # It is not from the operator's address that the key is barred.
        assert (await sluice.admin.post(path, json=body)).status_code == 200
        again = await sluice.admin.post(path, json=body)
        assert (again.status_code, again.json()["error"]["code"]) == (429, "rpm_exceeded")
        await sluice.admin.delete(f"/admin/api/keys/{made['id']}")
        revoked = await sluice.admin.post(path, json=body)
        assert (revoked.status_code, revoked.json()["error"]["code"]) == (401, "revoked_api_key")

    async def test_only_administrators_may(self, sluice: Sluice) -> None:
        (key,) = (await sluice.admin.get("/admin/api/keys")).json()["data"]
        body = {"model": "demo/echo", "messages": [{"role": "user", "content": "hi"}]}
        refused = await sluice.http.post(f"/admin/api/keys/{key['id']}/chat", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")

    async def test_what_is_not_there(self, sluice: Sluice) -> None:
        unknown = await sluice.admin.post("/admin/api/keys/key_x/chat", json={})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
        reading = await sluice.admin.get("/admin/api/keys/key_x/chat")
        assert (reading.status_code, reading.headers["allow"]) == (405, "POST")


class TestStats:
    async def test_hours_and_percentiles(self, sluice: Sluice) -> None:
        body = {"model": "demo/echo", "messages": [{"role": "user", "content": "one two"}]}
        for _ in range(3):
            assert (await sluice.http.post("/v1/chat/completions", json=body)).status_code == 200
        stats = (await sluice.admin.get("/admin/api/stats", params={"hours": 3})).json()
        assert (stats["hours"], stats["requests"], stats["failed"]) == (3, 3, 0)
        assert len(stats["data"]) == 3
        assert stats["data"][0]["total_ms"] is None
        assert sum(hour["requests"] for hour in stats["data"]) == 3
        assert 0 < stats["total_ms"]["p50"] <= stats["total_ms"]["p95"]
        parted = (await sluice.admin.get("/admin/api/stats", params={"hours": 3, "by": "model"})).json()
        assert sum(group["requests"] for group in parted["groups"]) == parted["requests"] == 3
        assert {group["model"] for group in parted["groups"]} == {"demo/echo"}
        assert "total_ms" not in parted

    @pytest.mark.parametrize("query", [{"hours": 0}, {"hours": 169}, {"by": "day"}, {"days": 1}], ids=str)
    async def test_a_wrong_query(self, sluice: Sluice, query: dict[str, int | str]) -> None:
        answer = await sluice.admin.get("/admin/api/stats", params=query)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(query)))
