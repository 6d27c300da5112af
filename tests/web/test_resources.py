"""JSON endpoints: methods, bodies, queries, pages, errors."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import httpx2
import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Scope

from proxy.core.errors import BadRequest, PermissionRefused
from proxy.web.resources import Page, Resource, answer, page_of, read_object, read_query

LIMIT = 200


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=1)] = 1


class Body(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    inner: Inner | None = None


async def take(request: Request) -> Response:
    return answer(msgspec.to_builtins(await read_object(request, Body, LIMIT)), 201)


async def query(request: Request) -> Response:
    return answer(msgspec.to_builtins(read_query(request, Page)))


def gate(scope: Scope) -> None:
    if (b"x-stranger", b"1") in scope["headers"]:
        raise PermissionRefused("ip_not_allowed", "Strangers stay outside.")


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    app = Router([Route("/things", Resource(gate, GET=query, POST=take))])
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        yield client


async def test_every_answer_has_an_id_and_is_kept_by_no_cache(http: httpx2.AsyncClient) -> None:
    first, second = await http.get("/things"), await http.get("/things")
    assert first.json() == {"limit": 100, "cursor": None}
    assert first.headers["content-type"] == "application/json"
    assert first.headers["cache-control"] == "no-store"
    assert first.headers["x-request-id"].startswith("req_")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_the_gate_comes_before_anything_else(http: httpx2.AsyncClient) -> None:
    refused = await http.delete("/things", headers={"x-stranger": "1"})
    assert refused.status_code == 403
    error = refused.json()["error"]
    assert error["code"] == "ip_not_allowed"
    assert error["request_id"] == refused.headers["x-request-id"]


async def test_other_methods_are_told_which_there_are(http: httpx2.AsyncClient) -> None:
    refused = await http.put("/things")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, POST"
    assert refused.json()["error"]["code"] == "method_not_allowed"
    assert (await http.head("/things")).status_code == 200


async def test_anthropics_clients_get_their_envelope(http: httpx2.AsyncClient) -> None:
    refused = await http.put("/things", headers={"anthropic-version": "2023-06-01"})
    assert refused.json()["type"] == "error"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_value", "name"),
        (b"{}", "invalid_value", "name"),
        (b'{"name": 1}', "invalid_value", "name"),
        (b'{"name": "n", "nmae": 1}', "invalid_value", "nmae"),
        (b'{"name": "n", "a`b\\n": 1}', "invalid_value", "a`b\n"),
        (b'{"name": "n", "inner": {"count": 0}}', "invalid_value", "inner.count"),
        (b'{"name": "n", "inner": {"cuont": 1}}', "invalid_value", "inner.cuont"),
        (b'["name"]', "invalid_value", None),
        (b'{"name": "n"', "invalid_json", None),
        (b'{"name": "\xff"}', "invalid_json", None),
        (b'{"name": NaN}', "invalid_json", None),
        (b"[" * 150, "invalid_value", None),
    ],
    ids=repr,
)
async def test_a_wrong_body_is_named(
    http: httpx2.AsyncClient, body: bytes, code: str, param: str | None
) -> None:
    refused = await http.post("/things", content=body)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    if param is not None:
        assert error["message"].startswith(f"{param}: ")


async def test_a_right_body(http: httpx2.AsyncClient) -> None:
    made = await http.post("/things", json={"name": "n", "inner": {}})
    assert (made.status_code, made.json()) == (201, {"name": "n", "inner": {"count": 1}})


async def test_bodies_are_bounded_and_json(http: httpx2.AsyncClient) -> None:
    large = await http.post("/things", content=b" " * (LIMIT + 1))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "body_too_large")
    form = await http.post("/things", data={"name": "n"})
    assert (form.status_code, form.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=all", "limit"),
        ("limt=5", "limt"),
        ("limit=5&limit=6", "limit"),
    ],
)
async def test_a_wrong_query_is_named(http: httpx2.AsyncClient, parameters: str, param: str) -> None:
    refused = await http.get(f"/things?{parameters}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_a_right_query(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/things?limit=5&cursor=null")).json() == {"limit": 5, "cursor": "null"}


class TestPages:
    ITEMS = ("e", "d", "c", "b", "a")

    def page(self, **query: Any) -> tuple[Sequence[str], str | None]:
        return page_of(self.ITEMS, str, Page(**query))

    @pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6])
    def test_pages_together_are_the_list(self, limit: int) -> None:
        found: list[str] = []
        cursor = None
        while True:
            items, cursor = self.page(limit=limit, cursor=cursor)
            assert 0 < len(items) <= limit
            found += items
            if cursor is None:
                break
        assert tuple(found) == self.ITEMS

    def test_nothing_has_one_empty_page(self) -> None:
        assert page_of([], str, Page()) == ([], None)

    def test_a_foreign_cursor_is_refused(self) -> None:
        with pytest.raises(BadRequest) as raised:
            self.page(cursor="x")
        assert raised.value.param == "cursor"


async def test_nobody_is_answered_who_has_gone() -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/things", "headers": [], "query_string": b""}
    await Resource(gate, POST=take)(scope, receive, send)
    assert sent == []
