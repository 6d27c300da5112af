"""Names to deployments."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import BadRequest, SluiceError
from proxy.core.pricing import Price
from proxy.core.routing import Catalog, Deployment, Model, Skipped


@dataclass(frozen=True)
class Provider:
    models: tuple[str, ...] | None = None
    missing_variables: tuple[str, ...] = ()


PRICE = Price("USD", 1, 1, 1, 1, 1)
PROVIDERS: Mapping[str, Provider] = {
    "deepseek": Provider(),
    "volc": Provider(missing_variables=("ARK_API_KEY",)),
    "ali": Provider(models=("qwen3-*", "deepseek-v4-pro", "text-embedding-v4")),
    "openai": Provider(),
    "azure": Provider(missing_variables=("AZURE_API_KEY", "AZURE_RESOURCE")),
    "demo": Provider(),
}


def model(name: str, *routes: str | Deployment, alias: str | None = None) -> Model:
    return Model(name, tuple(map(deployment, routes)), alias)


def deployment(route: str | Deployment) -> Deployment:
    if isinstance(route, Deployment):
        return route
    provider, _, upstream = route.partition("/")
    return Deployment(provider, upstream)


MODELS = [
    model(
        "deepseek-v4-pro",
        Deployment("volc", "ep-123", priority=2),
        Deployment("ali", "deepseek-v4-pro", priority=3, weight=5),
        Deployment("deepseek", "deepseek-v4-pro", price=PRICE),
    ),
    model("ep-only", "volc/ep-1", "azure/ep-2"),
    model("hidden", "ali/other"),
    model("half-hidden", "ali/other", "volc/other"),
    model("gpt-*", "openai/*"),
    model("gpt-5*", Deployment("azure", "five*-x", priority=2), Deployment("openai", "gpt-5*", price=PRICE)),
    model("*-latest", "openai/chat-*"),
    model("openai/special", "demo/special"),
    model("claude-sonnet-4-5", alias="deepseek-v4-pro"),
    model("claude-*", alias="sonnet"),
    model("sonnet", alias="gpt-4o"),
    model("direct", alias="demo/echo"),
    model("broken", alias="nowhere"),
]
CATALOG = Catalog({item.name: item for item in MODELS}, PROVIDERS)


def routes(name: str, pinned: str | None = None, catalog: Catalog = CATALOG) -> list[str]:
    resolution = catalog.resolve(name, pinned)
    assert resolution.name == name
    return [f"{item.provider}/{item.model}" for item in resolution.deployments]


def refused(name: str, pinned: str | None = None, catalog: Catalog = CATALOG) -> SluiceError:
    with pytest.raises(SluiceError) as caught:
        catalog.resolve(name, pinned)
    caught.value.message.encode()
    return caught.value


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deepseek-v4-pro", ["deepseek/deepseek-v4-pro", "ali/deepseek-v4-pro"]),
        ("deepseek/anything", ["deepseek/anything"]),
        ("openai/org/model", ["openai/org/model"]),
        ("openai/special", ["demo/special"]),
        ("demo/whatever 😀", ["demo/whatever 😀"]),
        ("gpt-4o", ["openai/4o"]),
        ("gpt-5-mini", ["openai/gpt-5-mini"]),
        ("kimi-latest", ["openai/chat-kimi"]),
        ("ali/qwen3-max", ["ali/qwen3-max"]),
        ("claude-sonnet-4-5", ["deepseek/deepseek-v4-pro", "ali/deepseek-v4-pro"]),
        ("claude-haiku", ["openai/4o"]),
        ("direct", ["demo/echo"]),
    ],
)
def test_names_lead_to_deployments(name: str, expected: list[str]) -> None:
    assert routes(name) == expected


@pytest.mark.parametrize(
    ("name", "names", "entry", "served"),
    [
        ("deepseek-v4-pro", ["deepseek-v4-pro"], "deepseek-v4-pro", "deepseek-v4-pro"),
        ("gpt-4o", ["gpt-4o"], "gpt-*", "gpt-4o"),
        ("claude-haiku", ["claude-haiku", "sonnet", "gpt-4o"], "gpt-*", "gpt-4o"),
        ("direct", ["direct", "demo/echo"], None, None),
        ("ali/qwen3-max", ["ali/qwen3-max"], None, None),
    ],
)
def test_the_way_to_the_entry_is_kept(
    name: str, names: list[str], entry: str | None, served: str | None
) -> None:
    resolution = CATALOG.resolve(name)
    assert list(resolution.names) == names
    assert (resolution.model and resolution.model.name) == entry
    assert resolution.served_name == served


def test_filling_a_wildcard_keeps_the_rest_of_the_deployment() -> None:
    resolution = CATALOG.resolve("gpt-5-mini")
    assert resolution.deployments == (Deployment("openai", "gpt-5-mini", price=PRICE),)
    assert resolution.skipped == (
        Skipped(
            Deployment("azure", "five-mini-x", priority=2),
            "azure is inactive: AZURE_API_KEY and AZURE_RESOURCE are empty",
        ),
    )


def test_what_is_skipped_says_why() -> None:
    skipped = {item.deployment.provider: item.reason for item in CATALOG.resolve("deepseek-v4-pro").skipped}
    assert skipped == {"volc": "volc is inactive: ARK_API_KEY is empty"}
    pinned = CATALOG.resolve("deepseek-v4-pro", "ali").skipped
    assert [item.reason for item in pinned] == ["the provider ali is pinned"] * 2
    half = Catalog({"m": model("m", "ali/other", "demo/m")}, PROVIDERS).resolve("m").skipped
    assert [item.reason for item in half] == ["the models of ali do not include it"]


def test_an_exact_name_is_resolved_once() -> None:
    assert CATALOG.resolve("deepseek-v4-pro") is CATALOG.resolve("deepseek-v4-pro")


@pytest.mark.parametrize(
    ("name", "pinned", "expected"),
    [
        ("deepseek-v4-pro", "ali", ["ali/deepseek-v4-pro"]),
        ("claude-sonnet-4-5", "deepseek", ["deepseek/deepseek-v4-pro"]),
        ("ali/qwen3-max", "ali", ["ali/qwen3-max"]),
        ("qwen3-max", "ali", ["ali/qwen3-max"]),
        ("Org/model", "openai", ["openai/Org/model"]),
        ("broken", "demo", ["demo/nowhere"]),
    ],
)
def test_a_pinned_provider_is_the_only_one(name: str, pinned: str, expected: list[str]) -> None:
    assert routes(name, pinned) == expected


@pytest.mark.parametrize("name", ["deepseek-v4-pro", "no such model"])
def test_an_unknown_provider_cannot_be_pinned(name: str) -> None:
    error = refused(name, "nobody\r\n")
    assert isinstance(error, BadRequest)
    assert (error.status, error.code, error.param) == (400, "invalid_provider", "provider")
    assert r"'nobody\r\n'" in error.message


@pytest.mark.parametrize(
    ("name", "pinned"),
    [
        ("deepseek-v4-pro", "openai"),
        ("deepseek/deepseek-v4-pro", "ali"),
        ("glm-5", "ali"),
        ("ali/glm-5", "ali"),
        ("hidden", "ali"),
        ("ep-only", "deepseek"),
    ],
)
def test_a_provider_that_does_not_serve_the_model_cannot_be_pinned(name: str, pinned: str) -> None:
    error = refused(name, pinned)
    assert (error.status, error.code, error.param) == (400, "provider_model_mismatch", "provider")


@pytest.mark.parametrize(
    ("name", "pinned", "says"),
    [
        ("ep-only", None, "volc is inactive, because ARK_API_KEY is empty; azure is inactive"),
        ("ep-only", "volc", "volc is inactive, because ARK_API_KEY is empty."),
        ("volc/ep-9", None, "ARK_API_KEY"),
        ("azure/ep-9", None, "AZURE_API_KEY and AZURE_RESOURCE are empty"),
        ("half-hidden", None, "volc is inactive, because ARK_API_KEY is empty."),
        ("deepseek-v4-por", None, "Did you mean 'deepseek-v4-pro'"),
        ("ali/deepseek-v4-por", None, "'ali/deepseek-v4-pro'"),
        ("ali/glm-5", None, "There is no model 'ali/glm-5'"),
        ("hidden", None, "There is no model 'hidden'"),
        ("broken", None, "There is no model 'broken'"),
        ("xyz", None, "GET /v1/models"),
        ("openai/", None, "There is no model"),
        ("", None, "There is no model ''"),
        ("a\r\nb\0", None, r"'a\r\nb\x00'"),
        ("😀" * 5000, None, f"There is no model '{'😀' * 128}'…"),
    ],
)
def test_unknown_and_unusable_models_are_not_found(name: str, pinned: str | None, says: str) -> None:
    error = refused(name, pinned)
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")
    assert says in error.message
    assert len(error.message) < 500


def test_a_name_that_cannot_be_used_is_not_advised() -> None:
    assert "Did you mean 'hidden'" not in refused("hidden").message


@pytest.mark.parametrize("name", ["a", "b", "x"])
def test_aliases_in_a_circle_lead_nowhere(name: str) -> None:
    circle = [model("a", alias="b"), model("b", alias="a"), model("*", alias="gone")]
    catalog = Catalog({item.name: item for item in circle}, PROVIDERS)
    assert refused(name, catalog=catalog).code == "model_not_found"


def test_without_models_every_provider_is_reachable() -> None:
    assert routes("demo/any", catalog=Catalog({}, PROVIDERS)) == ["demo/any"]


def test_of_equal_priority_the_order_of_the_file_holds() -> None:
    same = model("m", "openai/b", "demo/a", Deployment("deepseek", "first", priority=0), "openai/c")
    expected = ["deepseek/first", "openai/b", "demo/a", "openai/c"]
    assert routes("m", catalog=Catalog({"m": same}, PROVIDERS)) == expected


@given(
    st.text(st.sampled_from("deepsk-v4pro/gt5*al i\0"), max_size=20), st.sampled_from([None, *PROVIDERS, "?"])
)
def test_any_name_is_resolved_or_refused(name: str, pinned: str | None) -> None:
    try:
        resolution = CATALOG.resolve(name, pinned)
    except SluiceError as error:
        status = error.status
    else:
        status = 200
    assert status in (200, 400, 404)
    if status != 200:
        return
    assert resolution.deployments
    assert all(pinned in (None, item.provider) for item in resolution.deployments)
    priorities = [item.priority for item in resolution.deployments]
    assert priorities == sorted(priorities)
