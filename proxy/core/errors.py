"""Every error that a client can see, one tree.

    SluiceError                      status, type, code, message
    ├── BadRequest              400  invalid_json, missing_model, invalid_value, …
    ├── AuthenticationFailed    401  missing_api_key, invalid_api_key, expired_, revoked_, disabled_api_key
    ├── InsufficientQuota       402  insufficient_balance, in_flight_budget_exhausted, model_not_priced
    ├── PermissionRefused       403  model_not_allowed, provider_not_allowed, ip_not_allowed, …
    ├── RequestRefused          404, 405, 408, 409, 413, 415, 421, 431: what HTTP itself refuses
    ├── RateLimited             429  rpm_, tpm_, rpd_, tpd_, concurrency_exceeded, …
    ├── InternalError           500  internal_error
    ├── Unavailable             503  no_available_provider, overloaded, ledger_unavailable, shutting_down
    └── UpstreamFailure         what a provider did wrong
        ├── UpstreamError       502  upstream_connect_failed, upstream_reset, upstream_error, …
        ├── UpstreamTimeout     504  upstream_connect_timeout, upstream_first_byte_timeout, …
        ├── UpstreamRateLimited 429  upstream_rate_limited
        ├── UpstreamQuotaExhausted 503  upstream_quota_exhausted
        └── UpstreamRefused     the provider's own 4xx, passed on with its status and code

What the caller did wrong and what the provider did wrong are different classes. `web/errors.py`
renders them, in the dialect of the endpoint. The codes are documented in docs/errors.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class SluiceError(Exception):
    """An error with an HTTP form. `code` is from the table in docs/errors.md."""

    status = 500
    type = "server_error"
    #: What the `x-should-retry` header tells SDKs; None leaves the decision to them.
    should_retry: bool | None = None

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
        should_retry: bool | None = None,
        details: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        #: Seconds until another try can succeed; rendered as `Retry-After`, rounded up.
        self.retry_after_s = retry_after_s
        #: Further members of the error object, such as `upstream` or `resets_at`.
        self.details = dict(details or {})
        #: Further response headers, such as the rate-limit headers.
        self.headers = dict(headers or {})
        if status is not None:
            self.status = status
        if should_retry is not None:
            self.should_retry = should_retry


class BadRequest(SluiceError):
    status = 400
    type = "invalid_request_error"
    should_retry = False


class AuthenticationFailed(SluiceError):
    status = 401
    type = "authentication_error"
    should_retry = False


class InsufficientQuota(SluiceError):
    status = 402
    type = "insufficient_quota"
    should_retry = False


class PermissionRefused(SluiceError):
    status = 403
    type = "permission_error"
    should_retry = False


class RequestRefused(SluiceError):
    """404, 405, 408, 409, 413, 415, 421 and 431; the status is always given."""

    status = 404
    type = "invalid_request_error"
    should_retry = False


class RateLimited(SluiceError):
    status = 429
    type = "rate_limit_error"
    should_retry = True


class InternalError(SluiceError):
    status = 500
    type = "server_error"


class Unavailable(SluiceError):
    status = 503
    type = "server_error"
    should_retry = True


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """What a provider said when it refused: for `error.upstream`, already masked and bounded."""

    provider: str
    status: int | None = None
    code: str | None = None
    message: str | None = None


class Progress(IntEnum):
    """How far an attempt got: what retries and billing rest on."""

    NOT_CONNECTED = 0
    CONNECTED = 1  # not one byte of the request was sent
    SENT = 2  # some or all of the request may have been read by the provider
    HEADERS = 3  # the status and headers of the answer were received
    BODY = 4  # at least one byte of its body, too


class ErrorClass(StrEnum):
    """Whom a provider's error is about: what resting, retrying and falling back rest on.

    docs/providers.md, "Errors"
    """

    REQUEST = "request"  # this request; passed on
    CONTEXT_LENGTH = "context_length"  # this request: too long for this model, perhaps not for another
    MODERATION = "moderation"  # this request's content
    AUTH = "auth"  # our key
    QUOTA = "quota"  # our money or allowance there
    RATE = "rate"  # our pace
    SERVER = "server"  # the provider itself, or the way to it


class UpstreamFailure(SluiceError):
    """A provider failed or refused. `finish` is the word that the usage record keeps."""

    status = 502
    type = "upstream_error"
    finish = "upstream_error"
    error_class = ErrorClass.SERVER
    should_retry = True
    #: Whether another deployment may be tried, as long as no content reached the client.
    retryable = True
    #: Set by the transport.
    progress = Progress.NOT_CONNECTED

    def tell_provider(self, provider: str) -> None:
        """Say whose failure it is, where nothing better is known: `error.upstream`, but never for auth."""
        if self.error_class is not ErrorClass.AUTH:
            self.details.setdefault("upstream", UpstreamAnswer(provider))

    def again(self, retry_after_s: float) -> "UpstreamFailure":
        """Return the same failure for another request, which need not be sent to learn of it."""
        repeated = type(self)(
            self.code,
            self.message,
            param=self.param,
            status=self.status,
            retry_after_s=retry_after_s or self.retry_after_s,
            should_retry=self.should_retry,
            details=self.details,
        )
        repeated.error_class = self.error_class
        return repeated


class UpstreamError(UpstreamFailure):
    status = 502


class UpstreamTruncated(UpstreamError):
    """The answer broke off: reset, closed early, or shorter than it promised."""

    finish = "truncated"


class UpstreamTimeout(UpstreamFailure):
    status = 504
    finish = "timeout"


class UpstreamRateLimited(UpstreamFailure):
    status = 429
    type = "rate_limit_error"
    error_class = ErrorClass.RATE
    should_retry = True


class UpstreamQuotaExhausted(UpstreamFailure):
    status = 503
    type = "server_error"
    error_class = ErrorClass.QUOTA
    should_retry = False


class UpstreamRefused(UpstreamFailure):
    """The provider's own 4xx about this request: passed on with its status, never retried."""

    status = 400
    type = "invalid_request_error"
    error_class = ErrorClass.REQUEST
    retryable = False
    should_retry = False
