// Why something failed, in a sentence: by the code of the error, or by how the request ended.

import { h } from "../dom.js";
import { t, tag } from "../i18n.js";
import { time } from "../ui.js";

const REASONS = {
  no_available_provider: "Every provider of this model was resting or disabled, so none was asked.",
  overloaded: "Too many requests were waiting for a provider, so none was asked.",
  ledger_unavailable: "The database could not be written, so no provider was asked.",
  upstream_auth_failed: "The provider refused the key that is configured for it.",
  upstream_quota_exhausted: "Balance or quota at the provider is spent.",
  upstream_rate_limited: "The provider limits the rate of requests.",
  upstream_connect_failed: "The provider could not be reached.",
  upstream_reset: "The provider closed the connection.",
  upstream_invalid_response: "What the provider answered could not be read.",
  upstream_error: "The provider reported a failure.",
  upstream_stream_truncated: "The answer broke off before its end.",
  upstream_connect_timeout: "The provider could not be reached.",
  upstream_first_byte_timeout: "The provider did not begin to answer in time.",
  upstream_idle_timeout: "The answer broke off before its end.",
  upstream_total_timeout: "The answer took longer than it may.",
};
const ENDS = {
  client_gone: "The client left before the end.",
  revoked: "The key was revoked or disabled meanwhile.",
  shutdown: "The gateway was stopped meanwhile.",
  crash: "The gateway crashed meanwhile.",
};

/** Return the sentences that say why a request ended as it did; none where there is nothing to say. */
export function why({ attempts, error, finish, status }) {
  const tried = attempts.length;
  if (finish === "ok") return tried > 1 ? [t("Answered after failures: {count}.", { count: tried - 1 })] : [];
  if (ENDS[finish]) return [t(ENDS[finish])];
  const reason = REASONS[error] ?? (status < 500 ? "The provider refused this request." : REASONS.upstream_error);
  // What is repeated without asking again is the failure for which the provider rests.
  const resting = !tried && error?.startsWith("upstream_");
  return resting ? [t(REASONS.no_available_provider), t(reason)] : [t(reason)];
}

/** A failure: what its code means where English is not read, then the gateway's own words. */
export function failure({ code, message, at }) {
  const meaning = tag() !== "en" && REASONS[code];
  return h("p", { class: "hint" }, meaning && `${t(meaning)} `, `${code}: ${message} `, at && ["(", time(at), ")"]);
}
