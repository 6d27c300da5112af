"""Every key of the file: what it may hold, what it means, its default.

The loader reads the file by this table, and the JSON Schema for editors is made from it.
docs/configuration.md says the same at length.
"""

from typing import Any

from proxy.config import urls, values
from proxy.config.kinds import Either, Key, ListOf, MapOf, Nullable, Record
from proxy.config.plans import complete_billing
from proxy.config.presets import PRESETS, REGIONS
from proxy.config.prices import MOST, PER
from proxy.config.scalars import (
    Choice,
    Flag,
    GeneratedSecret,
    Integer,
    Json,
    Number,
    ProviderSecret,
    Seconds,
    SecretText,
    Text,
)
from proxy.config.schema import REPAIRS, LimitDefaults, Log, Metrics, Server, Timeouts
from proxy.core.rewrite import Overrides

Given = dict[str, Any]

# Above any real count, and thousands of them still add up within 64 bits.
_MANY = 10**15
_COUNT = Nullable(Integer(1, _MANY))
_MONEY = Number(0, 10**9, places=9)
_GLOBS = Nullable(ListOf(Text("a model name", values.glob)))
_MODEL_NAMES = ListOf(Text("a model name", values.exact_model), least=1)
_AMOUNT = Number(0, MOST)

_SERVER = Record(
    Server,
    host=Key(Text("a host name or address", urls.host), "Address to listen on."),
    port=Key(Integer(0, 65_535), "Port to listen on; 0 takes any free one."),
    max_body_mib=Key(Integer(1, 1024), "Largest request body, in MiB."),
    trusted_proxies=Key(
        ListOf(Text("an address or CIDR block", values.network)),
        "Addresses and CIDR blocks whose X-Forwarded-For and X-Forwarded-Proto are believed.",
        default=[],
    ),
    allowed_hosts=Key(
        ListOf(Text("a host name", urls.allowed_host)),
        "Names under which clients may call. Empty: loopback names when host is loopback, any otherwise.",
        default=[],
    ),
    cors_origins=Key(
        ListOf(Text("an origin", urls.origin)),
        "Origins of web pages that may call the API, such as https://app.example.com.",
        default=[],
    ),
    max_header_kib=Key(Integer(4, 1024), "Largest request header section, in KiB; at most 100 headers."),
    max_connections=Key(Integer(1, 1_000_000), "Open client connections; more are answered 503."),
    header_timeout_s=Key(Seconds(), "Seconds in which a request's headers must have come."),
    body_timeout_s=Key(Seconds(), "Seconds in which a request's body must have come."),
    shutdown_grace_s=Key(Seconds("0"), "Seconds that running answers get when the server is stopped."),
)

_BILLING = Record(
    complete_billing,
    currency=Key(Text("a currency code", values.currency), "Currency of balances, costs and reports.", "USD"),
    exchange_rates=Key(
        MapOf(values.currency, Number(0, 10**9)),
        "What one unit of another currency is worth in the billing currency.",
        default={},
    ),
    mode=Key(Choice("track", "prepaid"), "track: count and price. prepaid: accounts need funds.", "track"),
    unpriced=Key(
        Choice("free", "reject"),
        "What happens to models without a price; by default free in track mode, reject in prepaid.",
    ),
    signup_tokens=Key(Integer(0, _MANY), "Tokens granted to each new account.", 0),
    credit_limit=Key(_MONEY, "How far below zero a wallet may stand at admission, in the currency.", 0),
)

_LIMITS = Record(
    LimitDefaults,
    timezone=Key(Text("a time zone", values.timezone), "Zone of the days of limits, quotas and reports."),
    default_plan=Key(Nullable(Text("a plan", values.name)), "Plan of new accounts; null: none."),
)

_PLAN = Record[Given](
    dict,
    rpm=Key(_COUNT, "Requests per minute; null: no limit.", None),
    tpm=Key(_COUNT, "Tokens per minute; null: no limit.", None),
    rpd=Key(_COUNT, "Requests per day; null: no limit.", None),
    tpd=Key(_COUNT, "Tokens per day; null: no limit.", None),
    concurrency=Key(_COUNT, "Requests at the same time; null: no limit.", None),
    max_context=Key(_COUNT, "Estimated input tokens of one request; null: no limit.", None),
    max_output=Key(_COUNT, "Output tokens of one request; null: no limit.", None),
    models=Key(_GLOBS, "Globs of the models that may be used; null: all.", None),
    providers=Key(
        Nullable(ListOf(Text("a provider", values.name))), "Providers that may be used; null: all.", None
    ),
    discount=Key(Number(0, 1), "Factor on every cost: 0.8 takes off a fifth.", 1),
    subscription=Key(
        Record[Given](
            dict,
            price=Key(_MONEY, "What subscribing takes from the wallet, in the currency.", required=True),
            credit=Key(_MONEY, "Money to spend during the subscription.", required=True),
            days=Key(Integer(1, 3660), "Days until the subscription ends.", required=True),
        ),
        "Terms under which an account can subscribe to the plan.",
    ),
)

_URL = Text("a URL", urls.base_url)

_OVERRIDES = Record(
    Overrides,
    set=Key(MapOf(values.member, Json()), "Members set in every request body.", {}),
    default=Key(MapOf(values.member, Json()), "Members set where the client sent none.", {}),
    remove=Key(ListOf(Text("a member", values.member)), "Members removed from every body.", []),
)

_PROVIDER = Record[Given](
    dict,
    preset=Key(
        Choice(*PRESETS, wanted="the name of a preset"),
        "What is known of the provider: addresses, authentication, oddities. By default its own name.",
    ),
    protocol=Key(Choice("openai", "anthropic", "echo"), "What the provider speaks; by default the preset's."),
    base_url=Key(_URL, "What an OpenAI SDK takes (an Anthropic SDK with protocol anthropic)."),
    messages_base_url=Key(_URL, "What an Anthropic SDK takes, where the provider speaks Messages too."),
    responses_base_url=Key(_URL, "What an OpenAI SDK takes for Responses, where the provider speaks it."),
    region=Key(Choice(*REGIONS), "Which of the preset's hosts; by default its first."),
    resource=Key(Text("a name", values.resource), "Name of the Azure resource."),
    api_key=Key(ProviderSecret(), "The key; by default the preset's usual environment variable."),
    api_keys=Key(
        ListOf(
            Either(
                ProviderSecret(),
                Record[Given](
                    dict,
                    key=Key(ProviderSecret(), "The key.", required=True),
                    rpm=Key(_COUNT, "Requests per minute with this key; null: no limit.", None),
                    concurrency=Key(_COUNT, "Requests at the same time with this key; null: no limit.", None),
                ),
            ),
            least=1,
        ),
        "Several keys, used in turn.",
    ),
    headers=Key(
        MapOf(values.header_name, SecretText(values.header_value)),
        "Headers added to every request; their values are secrets.",
        {},
    ),
    models=Key(_GLOBS, "Globs of the models that it may be asked for, by its own names; null: all.", None),
    http_proxy=Key(SecretText(urls.proxy_url), "HTTP proxy through which the provider is called."),
    ca_file=Key(Text("a path"), "PEM file of further root certificates, relative to this file."),
    concurrency=Key(_COUNT, "Requests at the same time at this provider; null: no limit.", None),
    stream_usage=Key(Choice("auto", "never"), "Whether streams are asked for their usage.", "auto"),
    on_disconnect=Key(
        Choice("cancel", "drain"),
        "When a client leaves: cancel the answer, or read on up to 60 s for its usage.",
        "cancel",
    ),
    retry_on_read_timeout=Key(Flag(), "Whether to try elsewhere when an answer does not begin.", False),
    timeouts=Key(
        Record(
            Timeouts,
            connect_s=Key(Seconds(), "Seconds to connect."),
            first_byte_s=Key(
                Nullable(Seconds()),
                "Seconds until the answer's first byte; null: 120 for streams, 600 for other answers.",
            ),
            idle_s=Key(Seconds(), "Seconds between two pieces of an answer."),
            total_s=Key(Seconds(), "Seconds for a whole answer."),
        ),
        "Time limits of one attempt.",
    ),
    repair=Key(ListOf(Choice(*REPAIRS)), "Oddities to mend in answers; by default the preset's."),
    overrides=Key(_OVERRIDES, "Changes to every request body."),
)

_AMOUNTS = {
    "input": Key(_AMOUNT, "Price of input tokens; by default 0."),
    "output": Key(_AMOUNT, "Price of output tokens; by default 0."),
    "cached_input": Key(_AMOUNT, "Price of input read from a cache; by default that of input."),
    "cache_write": Key(_AMOUNT, "Price of input written to a cache; by default that of input."),
    "reasoning": Key(_AMOUNT, "Price of reasoning tokens; by default that of output."),
    "per_request": Key(_AMOUNT, "Price of each request, besides its tokens; by default 0."),
}

_PRICE = Record[Given](
    dict,
    **_AMOUNTS,
    currency=Key(Text("a currency code", values.currency), "Its currency; by default the billing currency."),
    per=Key(Choice(*PER), "How many tokens the amounts are for.", required=True),
    tiers=Key(
        ListOf(
            Record[Given](
                dict,
                above_input_tokens=Key(Integer(1, _MANY), "Holds for more input tokens.", required=True),
                **_AMOUNTS,
            )
        ),
        "Prices of requests with more input, the smallest first; what one leaves out is as above.",
        default=[],
    ),
)

_ROUTE = Either(
    Text("provider/model", values.route),
    Record[Given](
        dict,
        provider=Key(Text("a provider", values.name), "A provider of this file.", required=True),
        model=Key(Text("a model", values.model), "Its name for the model; by default the entry's own."),
        priority=Key(Integer(0, 1000), "Lower is tried first.", 1),
        weight=Key(Integer(1, 1000), "Share among routes of one priority.", 1),
        price=Key(_PRICE, "Price on this route, instead of the model's."),
        overrides=Key(_OVERRIDES, "Changes to request bodies on this route, after the provider's."),
    ),
)

_MODEL = Record[Given](
    dict,
    routes=Key(ListOf(_ROUTE, least=1), "Where it is answered: provider/model, or a mapping."),
    alias=Key(Text("a model", values.exact_model), "Another name to take instead."),
    category=Key(Text(), "general, fast, long-context, reasoning, vision, embedding, or your own word."),
    context_window=Key(_COUNT, "Input and output tokens that fit together.", None),
    max_output=Key(_COUNT, "Output tokens at most; a larger max_tokens is lowered to it.", None),
    price=Key(_PRICE, "What it costs; by default the preset's price."),
)

#: The whole file, without its `x-` keys.
FILE = Record[Given](
    dict,
    server=Key(_SERVER, "The HTTP server."),
    database=Key(Text("a path"), "SQLite file, relative to this file.", "sluice.db"),
    admin_key=Key(
        Nullable(GeneratedSecret()), "Key of the admin API and the console; empty: generated at first start."
    ),
    api_key=Key(Nullable(GeneratedSecret()), "Value of the first API key; empty: generated at first start."),
    console=Key(Flag(), "Whether the console is served at /console/.", True),
    log=Key(
        Record(
            Log,
            level=Key(Choice("debug", "info", "warning", "error"), "What is logged at least."),
            format=Key(Choice("text", "json"), "Lines for people, or JSON."),
        ),
        "The log, on standard error.",
    ),
    metrics=Key(
        Record(Metrics, public=Key(Flag(), "Whether /metrics needs no admin key.")), "Prometheus metrics."
    ),
    billing=Key(_BILLING, "Currency, and what happens without funds."),
    limits=Key(_LIMITS, "What holds for the limits of all."),
    plans=Key(MapOf(values.name, _PLAN), "Plans for accounts, by name.", {}),
    providers=Key(MapOf(values.name, _PROVIDER), "Who answers, by name.", {}),
    models=Key(
        MapOf(values.model, _MODEL),
        "Names that clients use; one may hold a *. Every model is also reachable as provider/model.",
        {},
    ),
    fallbacks=Key(
        MapOf(values.model, _MODEL_NAMES), "Models to try, in order, when all routes of one fail.", {}
    ),
    context_fallbacks=Key(
        MapOf(values.model, _MODEL_NAMES), "Models to try, in order, when a request is too long for one.", {}
    ),
)
