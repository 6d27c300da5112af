"""From what a provider says to the error that the client gets and the class that routing acts on.

docs/providers.md, "Errors"
"""

import time
from collections.abc import Iterable

import msgspec

from proxy.config.schema import Provider
from proxy.core.answerjson import decoded
from proxy.core.errors import (
    ErrorClass,
    UpstreamAnswer,
    UpstreamError,
    UpstreamFailure,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRefused,
)
from proxy.upstream.errorbody import ErrorFacts, error_in, read_error
from proxy.upstream.errorclasses import (
    AUTH,
    CONTEXT_LENGTH,
    GENERAL_CODES,
    MODERATION,
    QUOTA,
    RATE,
    REQUEST,
    SERVER,
    classify,
)
from proxy.upstream.masking import mask
from proxy.upstream.retryhints import retry_after_s

Headers = Iterable[tuple[bytes, bytes]]

# `error.upstream` has 2 KiB in all; the rest is for its other members.
MAX_MESSAGE_BYTES = 1800

# For refusals without a code of their own.
_CODE_OF_STATUS = {404: "not_found", 413: "body_too_large", 415: "unsupported_media_type"}


def failure_from(provider: Provider, status: int, headers: Headers, body: bytes) -> UpstreamFailure:
    """Return the failure that an answer with an error status means; `headers` have lower-case names."""
    return _failure(provider, status, headers, read_error(body))


def failure_in_answer(provider: Provider, body: bytes) -> UpstreamFailure | None:
    """Return the failure that a whole JSON answer with status 200 carries, if any.

    What should be JSON and is not is a failure too: `upstream_invalid_response`.
    """
    try:
        facts = error_in(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        facts = read_error(body)
        if classify(None, facts) in (SERVER, REQUEST):
            return UpstreamError(
                "upstream_invalid_response",
                f"The provider {provider.name} answered with something that is not JSON.",
                details={"upstream": _answer(provider, 200, facts)},
            )
    return None if facts is None else _failure(provider, 200, (), facts)


def failure_in_stream(provider: Provider, data: bytes) -> UpstreamFailure:
    """Return what the data of an event means by which a provider reported a failure in its stream.

    That is an error object, a failed response of the Responses protocol, or a finish reason such as
    `error`.
    """
    failure = failure_in_answer(provider, data) or failure_in_answer(provider, _response_in(data))
    if failure is not None:
        return failure
    return UpstreamError("upstream_error", f"The provider {provider.name} broke its answer off as failed.")


class _ResponseEvent(msgspec.Struct):
    response: msgspec.Raw = msgspec.Raw(b"{}")


_RESPONSE_EVENT = msgspec.json.Decoder(_ResponseEvent)


def _response_in(event: bytes) -> bytes:
    try:
        return bytes(decoded(_RESPONSE_EVENT, event).response)
    except msgspec.MsgspecError:
        return b"{}"


def _failure(provider: Provider, status: int, headers: Headers, facts: ErrorFacts) -> UpstreamFailure:
    said = status if status >= 300 else facts.status
    wait_s = retry_after_s(headers, facts.message, facts.retry_delay, now_s=time.time())
    error_class = classify(said, facts, asks_to_wait=wait_s is not None)
    if error_class is AUTH:
        return _auth_failure(provider, said)
    answer = _answer(provider, status, facts)
    if error_class in (REQUEST, CONTEXT_LENGTH, MODERATION):
        return _refusal(answer, facts.param, _own_status(said, error_class), error_class)
    says = f": {answer.message}" if answer.message else "."
    details = {"upstream": answer}
    if error_class is QUOTA:
        text = f"The quota or balance of the gateway's account at {provider.name} is used up{says}"
        return UpstreamQuotaExhausted("upstream_quota_exhausted", text, retry_after_s=wait_s, details=details)
    if error_class is RATE:
        text = f"The provider {provider.name} limits the rate of the gateway's requests{says}"
        return UpstreamRateLimited("upstream_rate_limited", text, retry_after_s=wait_s, details=details)
    if 300 <= status < 400:
        says = ", a redirect, which is not followed: its base_url must be corrected."
    text = f"The provider {provider.name} failed with HTTP {said or status}{says}"
    return UpstreamError("upstream_error", text, retry_after_s=wait_s, details=details)


def _refusal(
    answer: UpstreamAnswer, param: str | None, status: int, error_class: ErrorClass
) -> UpstreamRefused:
    """The provider's own error about this request, with its code and words."""
    code = answer.code
    if error_class is CONTEXT_LENGTH:
        code = "context_length_exceeded"
    elif code is None or code.lower() in GENERAL_CODES:
        code = _CODE_OF_STATUS.get(status, "invalid_value")
    refusal = UpstreamRefused(
        code,
        answer.message or f"The provider {answer.provider} refused the request.",
        param=param,
        status=status,
        details={"upstream": answer},
    )
    refusal.error_class = error_class
    return refusal


def _auth_failure(provider: Provider, status: int | None) -> UpstreamError:
    """A refused key of ours. None of the provider's own text: it may quote the key."""
    text = (
        f"The provider {provider.name} refused the key that the gateway has for it. "
        f"The gateway's operator must check it (providers.{provider.name})."
    )
    if status == 401 and provider.other_regions:
        here = f", here {provider.region}" if provider.region else ""
        text += (
            f" Its keys hold for one region only{here}; other regions: {', '.join(provider.other_regions)}."
        )
    failure = UpstreamError("upstream_auth_failed", text, should_retry=False)
    failure.error_class = AUTH
    return failure


def _answer(provider: Provider, status: int, facts: ErrorFacts) -> UpstreamAnswer:
    secrets = [key.key.reveal() for key in provider.keys]
    secrets += [value.reveal() for value in provider.headers.values()]
    message = mask(facts.message, secrets)
    while len(msgspec.json.encode(message)) > MAX_MESSAGE_BYTES:
        message = message[: len(message) * 3 // 4]
    code = facts.code or facts.type
    return UpstreamAnswer(provider.name, status, mask(code, secrets) if code else None, message or None)


def _own_status(status: int | None, error_class: ErrorClass) -> int:
    """Return the status that a refused request keeps.

    Those that would speak of the client's key, funds or pace, and those that are no client error
    at all, become 400; so does any other for a context length, which tools know by its 400.
    """
    if status is None or not 400 <= status < 500 or status in (401, 402, 407, 408, 429):
        return 400
    return 400 if error_class is CONTEXT_LENGTH and status not in (413, 422) else status
