"""Which class a provider's error is in, decided from its numbers, codes, words and status.

The order is from the most to the least telling. The tables follow the providers' documents as
summarised in docs/providers.md, "Errors"; names are compared in lower case.
"""

import re

from proxy.core.errors import ErrorClass
from proxy.upstream.errorbody import ErrorFacts

REQUEST, CONTEXT_LENGTH, MODERATION, AUTH, QUOTA, RATE, SERVER = ErrorClass


def _table(*rows: tuple[ErrorClass, str]) -> dict[str, ErrorClass]:
    return {name: error_class for error_class, names in rows for name in names.split()}


# Zhipu (four digits), Spark (1xxxx) and SiliconFlow (2xxxx, 3xxxx) do not overlap.
_NUMBERS = _table(
    (AUTH, "1000 1001 1002 1003 1004 30014"),
    (QUOTA, "1113 1304 1308 1309 1310 11200 11201 30001 30011 401007 401008 403004"),
    (REQUEST, "1210 1211 1212 1213 1214 1215 20012"),
    (CONTEXT_LENGTH, "1261 10907"),
    (MODERATION, "1301 10013 10014 10019"),
    (RATE, "1302 1303 1305 10007 11202 11203"),
)
_BASE_RESP_NUMBERS = _table(
    (RATE, "1002 1039"), (AUTH, "1004 2049"), (QUOTA, "1008"), (MODERATION, "1026 1027"), (REQUEST, "2013")
)

# Codes that mean the same whatever the status.
_CODES = _table(
    (QUOTA, "insufficient_quota exceeded_current_quota_error arrearage accountoverdueerror billing_error"),
    (QUOTA, "billing_hard_limit_reached billing_not_active insufficient_balance insufficient_credits"),
    (QUOTA, "quotaexceeded setlimitexceeded allocationquota.freetieronly"),
    (AUTH, "invalid_api_key incorrect_api_key_error invalid_authentication_error api_key_invalid"),
    (AUTH, "invalid_iam_token"),
    (CONTEXT_LENGTH, "context_length_exceeded tokens_too_long exceed_context_size_error"),
    (CONTEXT_LENGTH, "model_context_window_exceeded"),
    (MODERATION, "content_filter content_policy_violation data_inspection_failed datainspectionfailed"),
    (MODERATION, "unsafe_request responsibleaipolicyviolation moderation_blocked"),
    (REQUEST, "model_not_found invalid_model string_above_max_length"),
)
_CODE_ENDINGS = (("riskdetection", MODERATION), ("sensitivecontentdetected", MODERATION))

# Types and codes too general to hold against a status: they speak when the status is 200.
GENERAL_CODES = _table(
    (REQUEST, "invalid_request_error invalid_argument invalidparameter missingparameter bad_request"),
    (REQUEST, "not_found_error request_too_large badrequesterror notfounderror"),
    (AUTH, "authentication_error authenticationerror permission_error permission_denied unauthenticated"),
    (RATE, "rate_limit_error resource_exhausted"),
)
_PACE = re.compile(r"rate_?limit|throttling|too_?many_?requests")


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.VERBOSE)


_QUOTA_WORDS = _words(
    r"""
      insufficient[ _](?:account[ _])?(?:quota|balance|credits?|funds)
    | (?:balance|credits?)\b.{0,20}\b(?:insufficient|not\ enough|too\ low|exhausted|used\ up)
    | exceeded\ your\ current\ quota | quota.{0,20}(?:exhausted|used\ up)
    | (?:out\ of|no|n't\ have\ any|used\ all\ available)\ credits
    | spend(?:ing)?\ limit | specified\ api\ usage\ limits? | payment\ required
    | arrears? | overdue | in\ good\ standing
    | free[ -](?:tier|quota|trial).{0,40}(?:exhausted|used\ up)
    | 余额不足 | 欠费 | (?:额度|余额|配额).{0,6}(?:用尽|用完|不足|耗尽)
    """
)
_AUTH_WORDS = _words(
    r"""
      (?:invalid|incorrect|wrong|missing|expired|no)\ (?:x-)?api[ _-]?key
    | api[ _-]?key\ (?:is\ |was\ |has\ )?(?:not\ valid|invalid|incorrect|expired|missing|not\ found)
    | invalid\ (?:authentication|credentials) | authentication\ (?:failed|fails|error)
    """
)
_CONTEXT_WORDS = _words(
    r"""
      context[ _]?(?:length|window|size) | maximum\ (?:context|prompt|input)\b | max(?:imum)?\ message\ tokens
    | (?:prompt|input|messages?|request)\b.{0,60}\btoo\ long\b | range\ of\ input\ length
    | input\ (?:length|token\ count)\b.{0,40}\bexceed | exceeded\ model\ token\ limit
    | inputs?\W{0,3}tokens.{0,60}must\ be\ <= | reduce\ the\ length\ of | too\ many\ (?:input|prompt)\ tokens
    """
)
_MODERATION_WORDS = _words(
    r"""
      content\ (?:management\ )?polic | data\ (?:may\ contain|inspection) | inappropriate\ content
    | content[ _]filter | flagged\b.{0,40}\bmoderation | moderation\b.{0,60}\bflagged
    | considered\ high\ risk | safety\ (?:system|polic) | 敏感 | 违规
    """
)


#: What a message quotes. An apostrophe within a word opens nothing.
QUOTED = re.compile(r"""(?<!\w)'[^'\n]{0,500}'(?!\w)|"[^"\n]{0,500}"|`[^`\n]{0,500}`""")


def classify(status: int | None, facts: ErrorFacts, *, asks_to_wait: bool = False) -> ErrorClass:
    """Return the class of an error; `status` is None when neither HTTP nor the body names one.

    `asks_to_wait`: it said when to come again. Google words a per-minute limit as an exceeded
    quota; what is over in a minute is a matter of rate.
    """
    codes = [code.lower() for code in (facts.code, facts.type) if code]
    return (
        _by_number(facts)
        or (QUOTA if status == 402 else None)
        or _by_code(status, codes)
        or _by_words(status, facts, asks_to_wait)
        or _by_status(status, codes)
    )


def _by_number(facts: ErrorFacts) -> ErrorClass | None:
    if facts.base_resp:
        return _BASE_RESP_NUMBERS.get(facts.code or "", SERVER)
    return _NUMBERS.get(facts.code or "")


def _by_code(status: int | None, codes: list[str]) -> ErrorClass | None:
    for code in codes:
        if code in _CODES:
            return _CODES[code]
        for ending, error_class in _CODE_ENDINGS:
            if code.endswith(ending):
                return error_class
        # Groq says 413 and rate_limit_exceeded of a request that is larger than a whole minute's tokens.
        if status != 413 and _PACE.search(code):
            return RATE
    return None


def _by_words(status: int | None, facts: ErrorFacts, asks_to_wait: bool) -> ErrorClass | None:
    # What is quoted is the client's: a made-up model name must not put a key of ours to rest.
    said, message = QUOTED.sub(" ", facts.message), facts.message
    if facts.param is None and status not in (404, 422):
        if not (status == 429 and asks_to_wait) and _QUOTA_WORDS.search(said):
            return QUOTA
        if status in (None, 400, 403) and _AUTH_WORDS.search(said):
            return AUTH
    if status in (None, 400, 403, 413, 422, 500) and _CONTEXT_WORDS.search(message):
        return CONTEXT_LENGTH
    if status in (None, 400, 403, 422) and _MODERATION_WORDS.search(message):
        return MODERATION
    return None


def _by_status(status: int | None, codes: list[str]) -> ErrorClass:
    if status is None:
        return next((GENERAL_CODES[code] for code in codes if code in GENERAL_CODES), SERVER)
    if status in _STATUSES:
        return _STATUSES[status]
    return REQUEST if 400 <= status < 500 else SERVER


# 408 and 425 are about timing, 498 is Groq's lack of capacity, 499 a proxy's "client closed".
_STATUSES = {401: AUTH, 403: AUTH, 407: SERVER, 408: SERVER, 425: SERVER, 429: RATE, 451: MODERATION}
_STATUSES |= {498: SERVER, 499: SERVER}
