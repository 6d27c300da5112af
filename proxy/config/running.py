"""What of a changed file can be in force at once, and what waits for a restart."""

from dataclasses import replace

from proxy.config.problems import ConfigError, Problem, dotted
from proxy.config.rules import contradictions
from proxy.config.schema import Config


def as_running(config: Config, running: Config) -> tuple[Config, tuple[str, ...]]:
    """Return a configuration with the address and database of a running server, and what differs in them.

    Raises ConfigError when the rest of it does not go together with these.
    """
    server = replace(config.server, host=running.server.host, port=running.server.port)
    kept = replace(config, server=server, database=running.database)
    pairs = {
        "server.host": (config.server.host, running.server.host),
        "server.port": (config.server.port, running.server.port),
        "database": (config.database, running.database),
    }
    waiting = tuple(name for name, (wanted, used) in pairs.items() if wanted != used)
    if waiting:
        problems = [
            Problem(config.line(*place) or 0, dotted(place), f"{message} ({', '.join(waiting)}: as running)")
            for place, message in contradictions(kept)
        ]
        if problems:
            raise ConfigError(config.path.name, problems)
    return kept, waiting
