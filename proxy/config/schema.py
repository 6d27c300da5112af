"""The configuration as the rest of the house sees it: frozen, complete, with every default.

Field names and defaults are those of the YAML file; docs/configuration.md describes each, and
`proxy/config/load.py` reads the file into these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

from proxy.core.entities import Limits
from proxy.core.pricing import ONE, Ratio
from proxy.core.rewrite import Overrides
from proxy.core.routing import Model
from proxy.core.secret import Secret


@dataclass(frozen=True, slots=True)
class Server:
    host: str = "127.0.0.1"
    port: int = 8484
    max_body_mib: int = 32
    trusted_proxies: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_header_kib: int = 32
    max_connections: int = 10_000
    header_timeout_s: float = 10
    body_timeout_s: float = 60
    shutdown_grace_s: float = 30


@dataclass(frozen=True, slots=True)
class Log:
    level: str = "info"  # debug | info | warning | error
    format: str = "text"  # text | json


@dataclass(frozen=True, slots=True)
class Metrics:
    public: bool = False


@dataclass(frozen=True, slots=True)
class Billing:
    """`exchange_rates` maps a currency to what one unit of it is worth in `currency`."""

    currency: str = "USD"
    exchange_rates: Mapping[str, Ratio] = field(default_factory=dict)
    mode: str = "track"  # track | prepaid
    unpriced: str = "free"  # free | reject
    signup_tokens: int = 0
    credit_limit_nanos: int = 0


@dataclass(frozen=True, slots=True)
class LimitDefaults:
    timezone: str = "UTC"
    default_plan: str | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionOffer:
    price_nanos: int
    credit_nanos: int
    days: int


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    limits: Limits = field(default_factory=Limits)
    models: tuple[str, ...] | None = None
    providers: tuple[str, ...] | None = None
    discount: Ratio = ONE
    subscription: SubscriptionOffer | None = None


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """One of our credentials at a provider, with its own limits there."""

    key: Secret
    rpm: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_byte_s` None means 120 streamed and 600 unstreamed."""

    connect_s: float = 10
    first_byte_s: float | None = None
    idle_s: float = 120
    total_s: float = 1800


#: What `Provider.repair` may name, and what each does to answers; nothing is done unasked.
REPAIRS: Mapping[str, str] = MappingProxyType(
    {
        "tool_index": "numbers tool calls that come without an index, or not as a list",
        "missing_done": "a stream that closes without a finish reason or [DONE] counts as complete",
        "reasoning_alias": "renames reasoning to reasoning_content",
        "think_tags": "moves a leading <think>…</think> from content to reasoning_content",
    }
)


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider, its preset's values already filled in.

    `keys` is empty for a provider that needs none. `missing_variables` names the environment
    variables whose emptiness keeps the provider inactive; empty means active.
    `auth` is how a key travels: bearer, x-api-key, api-key or none.
    `models` None means: any model name. `paths` overrides single endpoint URLs (absolute, or
    relative to the base URL), keyed by endpoint: "rerank", "embeddings", …
    `base_url` is set unless the protocol is echo; `messages_base_url` and `responses_base_url` are
    set where the provider speaks that protocol itself.
    `lists_models`: `GET /models` there answers with the names that can be called.
    `reasoning_apart`: reported output tokens exclude reasoning tokens, which must be added.
    """

    name: str
    preset: str | None = None
    protocol: str = "openai"  # openai | anthropic | echo
    base_url: str | None = None
    messages_base_url: str | None = None
    responses_base_url: str | None = None
    auth: str = "bearer"
    keys: tuple[ProviderKey, ...] = ()
    missing_variables: tuple[str, ...] = ()
    headers: Mapping[str, Secret] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    region: str | None = None
    other_regions: tuple[str, ...] = ()  # for the hint on a 401
    free: bool = False  # costs 0 unless priced
    paths: Mapping[str, str] = field(default_factory=dict)
    http_proxy: Secret | None = None
    ca_file: Path | None = None
    concurrency: int | None = None
    stream_usage: str = "auto"  # auto | never
    on_disconnect: str = "cancel"  # cancel | drain
    retry_on_read_timeout: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    repair: tuple[str, ...] = ()
    overrides: Overrides = field(default_factory=Overrides)
    lists_models: bool = True
    reasoning_apart: bool = False

    @property
    def active(self) -> bool:
        return not self.missing_variables

    @property
    def addresses(self) -> tuple[str | None, ...]:
        """What makes it the same server as before: its protocol and its base URLs."""
        return self.protocol, self.base_url, self.messages_base_url, self.responses_base_url


@dataclass(frozen=True, slots=True)
class Source:
    """Where the values stand in the file. Paths are keys and list indexes: ("server", "port")."""

    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict)
    secrets_in_clear: tuple[tuple[str | int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """One whole, valid configuration."""

    path: Path
    server: Server = field(default_factory=Server)
    database: Path = Path("sluice.db")  # absolute after loading
    admin_key: Secret | None = None
    api_key: Secret | None = None
    console: bool = True
    log: Log = field(default_factory=Log)
    metrics: Metrics = field(default_factory=Metrics)
    billing: Billing = field(default_factory=Billing)
    limits: LimitDefaults = field(default_factory=LimitDefaults)
    plans: Mapping[str, Plan] = field(default_factory=dict)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    context_fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: Source = field(default_factory=Source, compare=False, repr=False)

    def line(self, *path: str | int) -> int | None:
        """Return the line of the file on which a value stands, None for one that it leaves out."""
        return self.source.lines.get(path)


def ratio(value: Decimal) -> Ratio:
    """Return a decimal of the file as an exact ratio."""
    return Ratio(*value.as_integer_ratio())
