"""What each provider says, what class it is in, and what the client gets."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.schema import Provider, ProviderKey
from proxy.core.errors import (
    ErrorClass,
    UpstreamAnswer,
    UpstreamError,
    UpstreamFailure,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRefused,
)
from proxy.core.secret import Secret
from proxy.upstream.failures import failure_from, failure_in_answer, failure_in_stream

PROVIDER = Provider("acme", keys=(ProviderKey(Secret("sk-upstream-0123456789abcdef")),))

REQUEST, CONTEXT, MODERATION, AUTH, QUOTA, RATE, SERVER = ErrorClass


def openai(message: str = "m", **members: object) -> bytes:
    return json.dumps({"error": {"message": message, **members}}).encode()


def fail(status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> UpstreamFailure:
    return failure_from(PROVIDER, status, headers, body)


# provider and case: HTTP status, body, class. 200 means: an error in an answer with a good status.
CASES: dict[str, tuple[int, bytes, ErrorClass]] = {
    "deepseek format": (400, openai(type="invalid_request_error", param=None, code=None), REQUEST),
    "deepseek key": (401, openai("Authentication Fails", type="authentication_error"), AUTH),
    "deepseek balance": (402, openai("Insufficient Balance", type="unknown_error"), QUOTA),
    "deepseek parameters": (422, openai(), REQUEST),
    "deepseek concurrency": (429, openai(), RATE),
    "deepseek overloaded": (503, openai(), SERVER),
    "ali parameter": (400, openai(code="InvalidParameter"), REQUEST),
    "ali native shape": (400, b'{"code":"InvalidParameter","message":"m","request_id":"r"}', REQUEST),
    "ali unpaid": (400, openai("Access denied, please make sure your account is in good standing."), QUOTA),
    "ali unpaid code": (403, openai(code="Arrearage"), QUOTA),
    "ali free tier": (403, openai(code="AllocationQuota.FreeTierOnly"), QUOTA),
    "ali moderation": (400, openai(code="data_inspection_failed"), MODERATION),
    "ali key": (401, openai(code="invalid_api_key"), AUTH),
    "ali access": (403, openai(code="access_denied"), AUTH),
    "ali model": (404, openai(code="model_not_found"), REQUEST),
    "ali rate": (429, openai(code="Throttling.RateQuota"), RATE),
    "ali quota": (429, openai(code="insufficient_quota"), QUOTA),
    "ali too long": (400, openai("Range of input length should be [1, 129024]"), CONTEXT),
    "volc parameter": (400, openai(code="MissingParameter"), REQUEST),
    "volc moderation": (400, openai(code="InputTextRiskDetection"), MODERATION),
    "volc key": (401, openai(code="AuthenticationError"), AUTH),
    "volc unpaid": (403, openai(code="AccountOverdueError"), QUOTA),
    "volc endpoint": (404, openai(code="InvalidEndpointOrModel.NotFound"), REQUEST),
    "volc rate": (429, openai(code="ModelAccountRpmRateLimitExceeded"), RATE),
    "volc quota": (429, openai(code="QuotaExceeded"), QUOTA),
    "volc limit set": (429, openai(code="SetLimitExceeded"), QUOTA),
    "volc internal": (500, openai(code="InternalServiceError"), SERVER),
    "tencent key": (401, openai(code="401002", source="gateway"), AUTH),
    "tencent plan": (402, openai(code="401007"), QUOTA),
    "tencent moderation": (451, openai(), MODERATION),
    "tencent upstream": (502, openai(), SERVER),
    "baidu too long": (400, openai(code="tokens_too_long"), CONTEXT),
    "baidu key": (401, openai(code="invalid_iam_token"), AUTH),
    "baidu model": (401, openai("No permission to use the model", code="invalid_model"), REQUEST),
    "baidu moderation": (403, openai(code="unsafe_request"), MODERATION),
    "baidu rate": (429, openai(code="rpm_rate_limit_exceeded"), RATE),
    "baidu v1": (400, b'{"error_code":336003,"error_msg":"the max length"}', REQUEST),
    "moonshot moderation": (400, openai("considered high risk", type="content_filter"), MODERATION),
    "moonshot too long": (400, openai("Your request exceeded model token limit: 8192"), CONTEXT),
    "moonshot key": (401, openai(type="invalid_authentication_error"), AUTH),
    "moonshot no money": (429, openai(type="exceeded_current_quota_error"), QUOTA),
    "moonshot rate": (429, openai(type="rate_limit_reached_error"), RATE),
    "moonshot overloaded": (429, openai(type="engine_overloaded_error"), RATE),
    "zhipu key": (401, openai(code="1002"), AUTH),
    "zhipu unpaid": (429, openai("余额不足或无可用资源包,请充值。", code="1113"), QUOTA),
    "zhipu unpaid, in words": (429, openai("您的账户已欠费"), QUOTA),
    "zhipu rate": (429, openai(code="1302"), RATE),
    "zhipu window": (429, openai(code="1308"), QUOTA),
    "zhipu model": (400, openai(code="1211"), REQUEST),
    "zhipu too long": (400, openai(code="1261"), CONTEXT),
    "zhipu moderation": (400, openai(code="1301"), MODERATION),
    "iflytek flow": (200, b'{"code":11202,"message":"m","sid":"s"}', RATE),
    "iflytek moderation": (200, b'{"code":10013,"message":"m","sid":"s"}', MODERATION),
    "iflytek too long": (200, b'{"code":10907,"message":"m","sid":"s"}', CONTEXT),
    "iflytek not authorised": (200, b'{"error":{"message":"m","code":"11200"}}', QUOTA),
    "iflytek unknown number": (200, b'{"code":10012,"message":"engine","sid":"s"}', SERVER),
    "minimax rate": (200, b'{"base_resp":{"status_code":1002,"status_msg":"m"}}', RATE),
    "minimax key": (200, b'{"base_resp":{"status_code":2049,"status_msg":"m"},"choices":null}', AUTH),
    "minimax balance": (200, b'{"base_resp":{"status_code":1008,"status_msg":"m"}}', QUOTA),
    "minimax moderation": (200, b'{"base_resp":{"status_code":1026,"status_msg":"m"}}', MODERATION),
    "minimax parameters": (200, b'{"base_resp":{"status_code":2013,"status_msg":"m"}}', REQUEST),
    "minimax internal": (200, b'{"base_resp":{"status_code":1000,"status_msg":"m"}}', SERVER),
    "siliconflow model": (400, b'{"code":20012,"message":"Model does not exist.","data":null}', REQUEST),
    "siliconflow key": (401, b'"Invalid token"', AUTH),
    "siliconflow balance": (
        403,
        b'{"code":30001,"message":"Sorry, your account balance is insufficient","data":null}',
        QUOTA,
    ),
    "siliconflow busy": (503, b'{"code":50505,"message":"Model service overloaded.","data":null}', SERVER),
    "siliconflow gateway": (504, b"Gateway Timeout", SERVER),
    "stepfun balance": (402, openai(type="quota"), QUOTA),
    "stepfun moderation": (451, openai(type="censorship_blocked"), MODERATION),
    "openai key": (401, openai(code="invalid_api_key", type="invalid_request_error"), AUTH),
    "openai project": (403, openai(code="model_not_found"), REQUEST),
    "openai rate": (429, openai(code="rate_limit_exceeded", type="tokens"), RATE),
    "openai quota": (429, openai(code="insufficient_quota", type="insufficient_quota"), QUOTA),
    "openai too long": (400, openai(code="context_length_exceeded"), CONTEXT),
    "openai field too long": (
        400,
        openai("Invalid messages: string too long", code="string_above_max_length"),
        REQUEST,
    ),
    "openai output": (400, openai("max_tokens is too large: 99999", param="max_tokens"), REQUEST),
    "anthropic too long": (
        400,
        b'{"type":"error","error":{"type":"invalid_request_error",'
        b'"message":"prompt is too long: 210000 tokens > 200000 maximum"},"request_id":"r"}',
        CONTEXT,
    ),
    "anthropic credit": (400, openai("Your credit balance is too low to access the API."), QUOTA),
    "anthropic usage limit": (400, openai("You have reached your specified API usage limits."), QUOTA),
    "anthropic large": (413, openai(type="request_too_large"), REQUEST),
    "anthropic permission": (403, openai(type="permission_error"), AUTH),
    "anthropic overloaded": (529, openai(type="overloaded_error"), SERVER),
    "anthropic stream event": (
        200,
        b'{"type":"error","error":{"type":"overloaded_error","message":"O"}}',
        SERVER,
    ),
    "gemini key": (
        400,
        b'[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.",'
        b'"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]',
        AUTH,
    ),
    "gemini argument": (
        400,
        b'[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]',
        REQUEST,
    ),
    "gemini per minute": (
        429,
        b'[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan",'
        b'"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"34s"}]}}]',
        RATE,
    ),
    "gemini too long": (
        400,
        openai("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
        CONTEXT,
    ),
    "openrouter credits": (402, openai("Insufficient credits", code=402), QUOTA),
    "openrouter moderation": (
        403,
        openai("The model requires moderation and your input was flagged", code=403),
        MODERATION,
    ),
    "openrouter timeout": (408, openai(code=408), SERVER),
    "openrouter mid-stream": (200, openai("Provider disconnected", code=502), SERVER),
    "openrouter rate, in a 200": (200, openai("m", code=429), RATE),
    "groq capacity": (498, openai(code="capacity_exceeded"), SERVER),
    "groq too large": (
        413,
        openai("Request too large: tokens per minute", code="rate_limit_exceeded"),
        REQUEST,
    ),
    "groq tool use": (400, openai(code="tool_use_failed"), REQUEST),
    "mistral findings": (
        422,
        b'{"detail":[{"loc":["body","x"],"msg":"Extra inputs","type":"extra"}]}',
        REQUEST,
    ),
    "mistral in a 200": (200, b'{"object":"error","message":"m","type":"invalid_request_error"}', REQUEST),
    "xai key": (
        400,
        b'{"code":"Client specified an invalid argument","error":"Incorrect API key provided"}',
        AUTH,
    ),
    "xai credits": (403, b'{"code":"no","error":"Your team doesn\'t have any credits yet"}', QUOTA),
    "together too long": (403, openai("`inputs` tokens + `max_new_tokens` must be <= 4097"), CONTEXT),
    "cerebras": (400, b'{"message":"m","type":"invalid_request_error","param":"p","code":"wrong"}', REQUEST),
    "azure moderation": (400, openai(code="content_filter", innererror={}), MODERATION),
    "azure deployment": (404, openai(code="DeploymentNotFound"), REQUEST),
    "ollama model": (404, b'{"error":"model \'x\' not found, try pulling it first"}', REQUEST),
    "vllm too long": (400, b'{"object":"error","message":"maximum context length is 4096 tokens"}', CONTEXT),
    "llamacpp loading": (503, openai("Loading model", code=503), SERVER),
    "llamacpp too long": (400, openai(type="exceed_context_size_error"), CONTEXT),
    "a server that says 500 of a long prompt": (500, openai("input exceeds the context window"), CONTEXT),
    "quota in a 200": (200, openai("insufficient_quota: pay"), QUOTA),
    "bare message in a 200": (200, b'{"message":"something broke"}', SERVER),
    "bare detail in a 200": (200, b'{"detail":"Not Found"}', SERVER),
    "key in a 200": (200, openai("Invalid API key"), AUTH),
    "quota in plain text in a 200": (200, b"insufficient balance", QUOTA),
    "nginx": (502, b"<html><head><title>502 Bad Gateway</title></head></html>", SERVER),
    "proxy authentication": (407, b"", SERVER),
    "redirect": (302, b"", SERVER),
    "conflict": (409, openai(), REQUEST),
    "no body": (500, b"", SERVER),
}


@pytest.mark.parametrize(("status", "body", "error_class"), CASES.values(), ids=CASES)
def test_class(status: int, body: bytes, error_class: ErrorClass) -> None:
    failure = fail(status, body) if status != 200 else failure_in_answer(PROVIDER, body)
    assert failure is not None
    assert failure.error_class is error_class


# class: type of the failure, its status, its code; for a 4xx that fits the class
RESULTS: dict[ErrorClass, tuple[type[UpstreamFailure], set[int], set[str], bool]] = {
    AUTH: (UpstreamError, {502}, {"upstream_auth_failed"}, True),
    QUOTA: (UpstreamQuotaExhausted, {503}, {"upstream_quota_exhausted"}, True),
    RATE: (UpstreamRateLimited, {429}, {"upstream_rate_limited"}, True),
    SERVER: (UpstreamError, {502}, {"upstream_error"}, True),
    CONTEXT: (UpstreamRefused, {400, 413, 422}, {"context_length_exceeded"}, False),
}


@pytest.mark.parametrize(("status", "body", "error_class"), CASES.values(), ids=CASES)
def test_result(status: int, body: bytes, error_class: ErrorClass) -> None:
    failure = fail(status, body) if status != 200 else failure_in_answer(PROVIDER, body)
    assert failure is not None
    if error_class in RESULTS:
        kind, statuses, codes, retryable = RESULTS[error_class]
        assert type(failure) is kind
        assert failure.status in statuses
        assert failure.code in codes
        assert failure.retryable is retryable
    else:
        assert type(failure) is UpstreamRefused
        assert failure.status == (status if 400 <= status < 500 and status != 401 else 400)
        assert failure.type == "invalid_request_error"
    assert failure.message
    assert ("upstream" in failure.details) is (error_class is not AUTH)


def test_a_refusal_keeps_status_code_words_and_parameter() -> None:
    failure = fail(422, openai("temperature must be below 2", code="bad_value", param="temperature"))
    assert (failure.status, failure.code, failure.message, failure.param) == (
        422,
        "bad_value",
        "temperature must be below 2",
        "temperature",
    )
    assert failure.details == {
        "upstream": UpstreamAnswer("acme", 422, "bad_value", "temperature must be below 2")
    }
    assert failure.should_retry is False


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, b"<h1>Not Found</h1>", "not_found"),
        (413, b"", "body_too_large"),
        (415, b"", "unsupported_media_type"),
        (400, openai(type="invalid_request_error"), "invalid_value"),
        (404, openai(type="resource_not_found_error"), "resource_not_found_error"),
        (400, openai(code="x" * 65), "invalid_value"),
        (400, openai(code={"a": 1}), "invalid_value"),
        (400, openai(code=True), "invalid_value"),
    ],
)
def test_a_refusal_always_has_a_code(status: int, body: bytes, code: str) -> None:
    failure = fail(status, body)
    assert (failure.status, failure.code) == (status, code)


def test_a_refusal_without_words_has_a_message() -> None:
    assert fail(400, b"").message == "The provider acme refused the request."


def test_the_status_of_http_outranks_that_of_the_body() -> None:
    assert fail(404, openai(code=400)).status == 404


def test_a_refused_key_gives_nothing_of_the_providers_text_away() -> None:
    failure = fail(
        401, openai("Incorrect API key provided: sk-upstream-0123****cdef", code="invalid_api_key")
    )
    assert failure.details == {}
    assert failure.should_retry is False
    assert failure.message == (
        "The provider acme refused the key that the gateway has for it. "
        "The gateway's operator must check it (providers.acme)."
    )


@pytest.mark.parametrize(
    ("status", "region", "hint"),
    [
        (401, "cn", " Its keys hold for one region only, here cn; other regions: intl, us."),
        (401, None, " Its keys hold for one region only; other regions: intl, us."),
        (403, "cn", ""),
    ],
)
def test_a_refused_key_hints_at_the_other_region(status: int, region: str | None, hint: str) -> None:
    provider = Provider("ali", region=region, other_regions=("intl", "us"))
    failure = failure_from(provider, status, (), b"")
    assert failure.message.endswith("(providers.ali)." + hint)


def test_rates_tell_when_to_come_again() -> None:
    assert fail(429, openai(), ((b"retry-after", b"7"),)).retry_after_s == 7
    assert fail(429, openai("Please try again in 6m0s.")).retry_after_s == 360
    assert fail(429, openai()).retry_after_s is None
    assert fail(503, openai(), ((b"retry-after", b"7"),)).retry_after_s == 7


def test_a_redirect_is_told_as_one() -> None:
    failure = fail(308, b"", ((b"location", b"https://elsewhere.example/"),))
    assert "redirect" in failure.message
    assert "elsewhere" not in failure.message


def test_keys_are_masked_everywhere() -> None:
    own, other = "sk-upstream-0123456789abcdef", "sk-somebody-else-0123456789"
    failure = fail(400, openai(f"bad: {own}, {other}", code=other))
    shown = msgspec.json.encode(failure.details).decode() + failure.message + failure.code
    assert own not in shown
    assert other not in shown
    assert "bad: ***" in failure.message


def test_header_secrets_are_masked() -> None:
    provider = Provider("acme", headers={"x-token": Secret("hunter2hunter2")})
    failure = failure_from(provider, 400, (), openai("no hunter2hunter2 here"))
    assert failure.message == "no *** here"


def test_an_upstream_text_has_a_bound() -> None:
    for text in ("x " * 5000, "é " * 5000, '"' * 5000, "\x01" * 5000):
        failure = fail(400, openai(text, code="c" * 64))
        assert 1000 < len(msgspec.json.encode(failure.details["upstream"])) <= 2048


@pytest.mark.parametrize("text", ["1m", "x-", "wait ", "prompt ", "<title", "eyJaaaaaaaa.", "额度"])
def test_hostile_texts_take_no_time_to_speak_of(text: str) -> None:
    """Patterns that backtrack without bound would run into the suite's timeout."""
    for body in (openai(text * 30_000), (text * 30_000).encode()):
        assert fail(400, body).status == 400


# Good answers, some of which look like errors at first sight.
GOOD = {
    "chat": {"id": "1", "choices": [{"message": {"role": "assistant", "content": '"error"'}}]},
    "chunk": {"id": "1", "choices": [{"delta": {"content": "error"}}]},
    "responses": {"id": "1", "object": "response", "error": None, "output": []},
    "spark": {"code": 0, "message": "Success", "sid": "s", "choices": []},
    "spark without choices": {"code": 0, "message": "Success", "sid": "s"},
    "minimax": {"base_resp": {"status_code": 0, "status_msg": ""}, "choices": []},
    "message beside a result": {"message": "ok", "results": []},
    "message beside data": {"code": 200, "message": "ok", "data": [1]},
    "text": {"text": "error", "detail": None},
    "empty": {},
    "embeddings": {"object": "list", "data": [{"embedding": [0.1]}]},
    "array": [{"id": 1}],
    "empty array": [],
    "number": 7,
}


def test_a_stream_reports_its_failure_by_an_error_or_by_a_finish_reason() -> None:
    assert failure_in_stream(PROVIDER, openai("m", code=429)).error_class is RATE
    response = b'{"type":"response.failed","response":{"status":"failed","error":%b}}'
    failed = failure_in_stream(PROVIDER, response % b'{"code":"rate_limit_exceeded","message":"slow"}')
    assert failed.error_class is RATE
    assert "slow" in failed.message
    failure = failure_in_stream(PROVIDER, b'{"choices":[{"delta":{},"finish_reason":"network_error"}]}')
    assert type(failure) is UpstreamError
    assert (failure.code, failure.error_class) == ("upstream_error", SERVER)


@pytest.mark.parametrize("answer", GOOD.values(), ids=GOOD)
def test_good_answers_are_no_errors(answer: object) -> None:
    for body in (json.dumps(answer).encode(), b"\n\n " + json.dumps(answer).encode()):
        assert failure_in_answer(PROVIDER, body) is None


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"<html>hello</html>", b'{"a": ', b"{" * 3000 + b'"error', b"\xff\xfe"]
)
def test_what_is_not_json_is_an_invalid_response(body: bytes) -> None:
    failure = failure_in_answer(PROVIDER, body)
    assert type(failure) is UpstreamError
    assert failure.code == "upstream_invalid_response"
    assert failure.retryable


def test_half_an_emoji_is_json() -> None:
    assert failure_in_answer(PROVIDER, rb'{"choices":[{"message":{"content":"\ud83d"}}]}') is None
    failure = failure_in_answer(
        PROVIDER, rb'{"error":{"message":"slow \ud83d","code":"rate_limit_exceeded"}}'
    )
    assert failure is not None
    assert failure.error_class is RATE
    assert "slow \ufffd" in failure.message


MEMBERS = st.sampled_from(
    [
        *("error", "errors", "code", "message", "msg", "type", "detail", "details", "loc", "param", "status"),
        *("object", "base_resp", "status_code", "metadata", "raw", "retryDelay", "reason"),
    ]
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(MEMBERS, inner),
    max_leaves=12,
)


@given(json_values, st.integers(200, 599))
def test_any_json_is_read(value: object, status: int) -> None:
    body = json.dumps(value).encode()
    failure = fail(status, body) if status >= 300 else failure_in_answer(PROVIDER, body)
    if failure is not None:
        assert 400 <= failure.status < 600
        assert failure.message
        assert len(msgspec.json.encode(failure.details)) <= 2100


@given(st.binary(max_size=200), st.integers(300, 599))
def test_any_bytes_are_read(body: bytes, status: int) -> None:
    failure = fail(status, body)
    assert 400 <= failure.status < 600
    assert failure.message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, openai("The model `insufficient_quota` does not exist.")),
        (
            400,
            openai("Invalid value: 'insufficient_quota'. Supported values are: 'low'.", code="invalid_value"),
        ),
        (400, openai("Invalid value: 'invalid api key'.", param="reasoning_effort")),
        (422, openai("out of credits is no valid effort")),
    ],
)
def test_what_a_client_made_up_puts_no_key_to_rest(status: int, body: bytes) -> None:
    assert failure_from(PROVIDER, status, [], body).error_class is REQUEST
