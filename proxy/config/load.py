"""From the YAML file to a whole, valid configuration.

The text becomes nodes; the nodes are read by the description of the keys; what depends on other
keys is completed; the parts are checked against each other. Each step names all the problems it
finds before the next one begins.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from proxy.config.description import FILE
from proxy.config.files import Files
from proxy.config.models import complete_model
from proxy.config.nodes import Table, parse_yaml
from proxy.config.plans import complete_plan
from proxy.config.presets import PRESETS
from proxy.config.problems import MOST_PRINTED, ConfigError, Invalid, Problem, Unusable, Wrong
from proxy.config.providers import complete_provider
from proxy.config.reading import Reading
from proxy.config.references import References
from proxy.config.rules import contradictions
from proxy.config.schema import Billing, Config, Server, Source
from proxy.core.routing import Model

T = TypeVar("T")
Given = Mapping[str, Any]

# A configuration of a thousand models has some 200 KiB.
MAX_BYTES = 1 << 20


class ConfigFile:
    """A configuration file, which may be read again. `host` and `port` take the place of its own."""

    def __init__(
        self, path: Path, environ: Mapping[str, str], *, host: str | None = None, port: int | None = None
    ) -> None:
        self.path = path
        self._environ = environ
        self._host = host
        self._port = port
        self._files = Files()

    def read(self) -> Config:
        """Return the configuration. Raises ConfigError."""
        self._files = Files()
        return load(self.path, self._environ, host=self._host, port=self._port, files=self._files)

    def changed(self) -> bool:
        """Return whether the file, or one that it names, has changed since it was last read."""
        return self._files.look() != self._files.stamps

    def look(self) -> object:
        """Return how its files look now; something else once one of them changes."""
        return self._files.look()


def load(
    path: Path,
    environ: Mapping[str, str],
    *,
    host: str | None = None,
    port: int | None = None,
    files: Files | None = None,
) -> Config:
    """Return the configuration in a file; `host` and `port` take the place of the file's.

    `files` is told which files were read. Raises ConfigError.
    """
    files = files or Files()
    try:
        data = files.read(path, MAX_BYTES + 1)
    except FileNotFoundError:
        command = f"python -m proxy init{'' if path.name == 'config.yaml' else f' {path}'}"
        raise _whole_file(path, f"there is no such file; to write one, run `{command}`") from None
    except OSError as error:
        raise _whole_file(path, f"cannot be read: {error.strerror}") from None
    return parse(data, path, environ, host=host, port=port, files=files)


def parse(
    data: bytes,
    path: Path,
    environ: Mapping[str, str],
    *,
    host: str | None = None,
    port: int | None = None,
    files: Files | None = None,
) -> Config:
    """Return the configuration in `data`, the content of the file `path`.

    Raises ConfigError.
    """
    if len(data) > MAX_BYTES:
        raise _whole_file(path, f"larger than {MAX_BYTES >> 20} MiB")
    path = path.absolute()
    references = References(_text(data, path), environ, path.parent, files)
    reading = Reading(references)
    try:
        given = FILE.read(_document(references.hidden), (), reading)
        config = _completed(given, reading, path, environ)
    except Invalid as error:
        raise ConfigError(path.name, [error.problem]) from None
    except Unusable:
        raise ConfigError(path.name, reading.problems) from None
    config = replace(config, server=_listening(config.server, host, port))
    for place, message in islice(contradictions(config), MOST_PRINTED + 1):
        reading.report(place, message)
    if reading.problems:
        raise ConfigError(path.name, reading.problems)
    return config


def _listening(server: Server, host: str | None, port: int | None) -> Server:
    return replace(
        server, host=server.host if host is None else host, port=server.port if port is None else port
    )


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = Problem(data.count(b"\n", 0, error.start) + 1, "", "not UTF-8 text")
        raise ConfigError(path.name, [problem]) from None


def _document(text: str) -> Table:
    """Return the file's mapping without its `x-` keys, which are a place for anchors."""
    root = parse_yaml(text)
    if not isinstance(root, Table):
        raise Invalid(root.line, (), f"expected a mapping of keys, not {root.type}")
    return Table(root.line, tuple(entry for entry in root.entries if not entry[0].text.startswith("x-")))


def _completed(given: Given, reading: Reading, path: Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration, with what its parts take from presets and from each other.

    Raises Unusable.
    """
    parts = dict(given)
    billing = parts.get("billing", Billing())
    provider = partial(complete_provider, environ=environ, folder=path.parent)
    models = _each("models", partial(complete_model, billing=billing), parts.get("models", {}), reading)
    listed = parts.get("providers", {})
    parts["plans"] = _each("plans", complete_plan, parts.get("plans", {}), reading)
    parts["providers"] = _each("providers", provider, {**listed, **_implied(models, listed)}, reading)
    parts["models"] = models
    if reading.problems:
        raise Unusable
    parts["database"] = path.parent / parts.get("database", Config(path).database)
    source = Source(reading.lines, tuple(reading.secrets_in_clear))
    return Config(path=path, source=source, **parts)


def _implied(models: Mapping[str, Model], listed: Container[str]) -> dict[str, Given]:
    """Return the presets that routes name though `providers` does not list them, with nothing given."""
    used = (route.provider for model in models.values() for route in model.deployments)
    return {name: {} for name in used if name in PRESETS and name not in listed}


def _each(section: str, complete: Callable[[str, Any], T], given: Given, reading: Reading) -> dict[str, T]:
    completed = {}
    for name, value in given.items():
        try:
            completed[name] = complete(name, value)
        except Wrong as error:
            reading.report((section, name, *error.path), str(error))
    return completed


def _whole_file(path: Path, message: str) -> ConfigError:
    return ConfigError(path.name, [Problem(0, "", message)])
