"""The example and docs/configuration.md show every key and its default."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy.config.check import findings
from proxy.config.description import FILE
from proxy.config.kinds import UNSAID, Either, Key, Kind, ListOf, MapOf, Nullable, Record
from proxy.config.load import parse
from proxy.config.nodes import Items, Node, Table, parse_yaml
from proxy.config.presets import PRESETS
from proxy.config.references import References
from proxy.config.schema import REPAIRS, Billing, Config, LimitDefaults, Log, Metrics, Server, Timeouts
from proxy.config.template import starting_configuration

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLE = starting_configuration().decode()
# A line such as "#port: 1" is a setting that is switched off; "# words" are a comment.
SWITCHED_ON = re.sub(r"^( *)#(?=\S|  )", r"\1", EXAMPLE, flags=re.MULTILINE)


def described(kind: Kind[Any], path: str = "") -> Iterator[tuple[str, Record[Any], str]]:
    """Yield each key as path, record and name. Routes have models' prices and providers' overrides."""
    match kind:
        case Record():
            for name, key in kind.keys.items():
                place = f"{path}.{name}".removeprefix(".").replace("routes[].price.", "price.")
                place = place.replace("models.NAME.routes[].overrides.", "providers.NAME.overrides.")
                yield place, kind, name
                yield from described(key.kind, place)
        case MapOf():
            yield from described(kind.kind, f"{path}.NAME")
        case ListOf():
            yield from described(kind.kind, f"{path}[]")
        case Nullable():
            yield from described(kind.kind, path)
        case Either():
            yield from described(kind.long, path)


def written(kind: Kind[Any], node: Node, path: str = "") -> Iterator[str]:
    """Yield the path of each key that a file holds."""
    match kind, node:
        case Record(), Table():
            for key, child in node.entries:
                place = f"{path}.{key.text}".removeprefix(".")
                yield place
                yield from written(kind.keys[key.text].kind, child, place)
        case MapOf(), Table():
            for _, child in node.entries:
                yield from written(kind.kind, child, f"{path}.NAME")
        case ListOf(), Items():
            for child in node.nodes:
                yield from written(kind.kind, child, f"{path}[]")
        case Nullable(), _:
            yield from written(kind.kind, node, path)
        case Either(), Table():
            yield from written(kind.long, node, path)


KEYS: dict[str, tuple[Record[Any], str]] = {path: (record, name) for path, record, name in described(FILE)}


def shown_default(record: Record[Any], name: str) -> str:
    key: Key = record.keys[name]
    default = record.default(name)
    if key.required or default is UNSAID:
        return "required" if key.required else ""
    if isinstance(default, tuple):
        default = list(default)
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def rows(section: str) -> list[list[str]]:
    """Return the cells of the tables in a section of the page."""
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def documented() -> Iterator[tuple[str, str]]:
    """Yield path and default of each key in the page's tables."""
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        heading = section.splitlines()[0]
        if heading == "Top level" or heading.startswith("`"):
            prefix = "" if heading == "Top level" else heading.strip("`") + "."
            for cells in rows(section.split("\n## ")[0]):
                yield prefix + cells[0].strip("`"), cells[2]


def example(**environ: str) -> Config:
    return parse(EXAMPLE.encode(), Path("/config.yaml"), environ)


def test_the_page_has_every_key_and_its_default() -> None:
    assert dict(documented()) == {path: shown_default(*place) for path, place in KEYS.items()}


def test_the_page_has_every_preset() -> None:
    def shown(name: str) -> list[str]:
        row = PRESETS[name]
        protocols = [
            word
            for word, path in (("Messages", row.messages), ("Responses", row.responses))
            if path is not None
        ]
        variables = ", ".join(f"`{variable}`" for variable in row.variables)
        return [f"`{name}`", ", ".join(row.aliases), ", ".join(row.regions), variables, ", ".join(protocols)]

    table = rows(PAGE.split("\n| preset |")[1].split("\n\n")[0])
    assert table == [shown(row.name) for name, row in PRESETS.items() if name == row.name]


def test_the_page_has_every_repair() -> None:
    assert [cells[0].strip("`") for cells in rows(PAGE.split("### Repairs")[1].split("###")[0])] == list(
        REPAIRS
    )
    with_repairs = {name for name, row in PRESETS.items() if row.repair and name == row.name}
    listed = PAGE.split("Presets with repairs: ")[1].split("\n\n")[0]
    assert set(re.findall("`([a-z]+)`", listed)) == with_repairs


def test_the_page_has_every_finding() -> None:
    listed = [cells[0].strip("`") for cells in rows(PAGE.split("| finding |")[1])]
    assert listed == ["unpriced", "free_output", "key_in_clear", "unreachable", "plain_http", "no_funds"]


def test_the_example_has_every_key() -> None:
    shown = set(written(FILE, parse_yaml(References(SWITCHED_ON, {}, Path()).hidden)))
    inside_tiers = {path for path in KEYS if ".tiers[]." in path and not path.endswith("above_input_tokens")}
    assert KEYS.keys() - shown == inside_tiers - shown


def test_the_example_starts_with_nothing_set() -> None:
    config = example()
    assert [name for name, provider in config.providers.items() if provider.active] == ["demo"]
    assert config.models["echo"].deployments[0].provider == "demo"
    assert {one.kind for one in findings(config).findings} == {"unpriced", "unreachable"}


def test_the_example_uses_each_provider_whose_variable_is_set() -> None:
    variables = re.findall(r"\$\{(\w+):-\}", EXAMPLE)
    for variable in variables:
        active = {name for name, one in example(**{variable: "a-key"}).providers.items() if one.active}
        assert len(active) == (1 if variable.startswith(("SLUICE", "AZURE")) else 2), variable


def test_the_example_shows_defaults() -> None:
    config = example()
    assert config.server == Server()
    assert (config.log, config.metrics, config.limits) == (Log(), Metrics(), LimitDefaults())
    assert config.database == Path("/sluice.db")
    assert config.billing == Billing(exchange_rates=config.billing.exchange_rates)


def test_what_is_switched_off_in_the_example_is_right(tmp_path: Path) -> None:
    (tmp_path / "corporate-ca.pem").touch()
    config = parse(SWITCHED_ON.encode(), tmp_path / "config.yaml", {})
    custom = config.providers["custom"]
    assert custom.timeouts == Timeouts(first_byte_s=120)
    assert [key.key.reveal() for key in custom.keys] == ["first", "second"]
    assert config.models["deepseek-v4-pro"].price is not None
    assert {"ollama", "office", "azure"} <= config.providers.keys()


def test_lines_of_the_example_fit_a_screen() -> None:
    assert [line for line in EXAMPLE.splitlines() if len(line) > 124] == []
