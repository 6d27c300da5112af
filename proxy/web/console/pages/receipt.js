// The receipt of one request: what was tried, what was used, what it cost and why.

import { get, own } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { badge, copyButton, definition, show } from "../ui.js";
import { priceLines } from "./price.js";
import { why } from "./reasons.js";

const FINISH = {
  ok: "complete",
  upstream_error: "provider failed",
  timeout: "timed out",
  truncated: "broken off",
  client_gone: "client left",
  revoked: "key revoked",
  shutdown: "gateway stopped",
  crash: "gateway crashed",
};
const BILLING = {
  settled: "by the usage that the provider reported",
  estimated: "by an estimate, since usage was not reported in full",
  void: "nothing: there was no answer to pay for",
};

export const finishText = (finish) => t(FINISH[finish] ?? finish);

export async function receiptPage(element, id) {
  const body = h("div", { class: "columns halves" });
  const back = session.isAdmin ? h("a", { href: "#/requests" }, t("All requests")) : h("a", { href: "#/chat" }, t("Test chat"));
  replace(element, heading(t("Receipt"), null, back), body);
  await show(body, () => read(id), receipt);
}

async function read(id) {
  const item = await get(`${own()}/requests/${encodeURIComponent(id)}`);
  const path = session.isAdmin ? `/admin/api/keys/${item.key}` : "/v1/key";
  const { name } = await get(path).catch(() => ({ name: item.key }));
  return { ...item, name };
}

function receipt(item) {
  const good = item.finish === "ok" && item.status < 400;
  const card = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), children);
  return [
    card(
      t("Request"),
      definition([
        [t("Id"), h("span", { class: "secret" }, h("span", { class: "mono" }, item.id), copyButton(item.id))],
        [t("Time"), h("time", { datetime: item.created }, format.dateTime(item.created))],
        [t("Model"), item.model],
        [t("Answered by"), item.provider ? `${item.provider}/${item.upstream_model}` : t("nobody")],
        [t("Key"), session.isAdmin ? h("a", { href: `#/requests?key=${item.key}` }, item.name) : item.name],
        [t("Account"), item.account],
        [t("Endpoint"), `${item.endpoint}${item.stream ? ` (${t("streamed")})` : ""}`],
        [t("End"), [badge(good ? "good" : "bad", `${item.status} · ${finishText(item.finish)}`), why(item).map((text) => h("p", {}, text))]],
        item.error && [t("Error code"), h("code", {}, item.error)],
      ]),
    ),
    card(t("Time line"), timeline(item)),
    card(t("Cost"), cost(item)),
    card(t("Tokens"), tokens(item)),
  ];
}

/** Every attempt as a bar on one scale, from the request's coming to its end. */
function timeline(item) {
  const begin = new Date(item.created).getTime();
  const { first_output_ms: firstOutput, total_ms: total = 0 } = item.timings;
  const share = (time) => `${100 * Math.max(0, Math.min(1, time / Math.max(total, 1)))}%`;
  const piece = (kind, from, to) => {
    const part = h("i", { class: kind });
    part.style.left = share(from);
    part.style.width = share(to - from);
    return part;
  };
  const bars = item.attempts.map((attempt, index) => {
    const start = Math.max(0, new Date(attempt.started).getTime() - begin);
    const first = start + (attempt.first_byte_ms ?? attempt.total_ms ?? 0);
    const end = start + (attempt.total_ms ?? 0);
    const failed = attempt.error !== null || (attempt.status ?? 500) >= 400;
    return h(
      "li",
      { class: "turn" },
      h("p", {}, h("b", {}, `${index + 1}. ${attempt.provider}/${attempt.model}`), " ", h("span", { class: "quiet" }, `${attempt.provider_key ?? ""} ${attempt.error ?? attempt.status ?? "–"}`)),
      h("div", { class: "track", "aria-hidden": "true" }, piece(failed ? "failed" : "wait", start, Math.min(first, end)), !failed && piece("content", first, end), index === item.attempts.length - 1 && firstOutput !== undefined && piece("mark-output", firstOutput, firstOutput)),
      h(
        "p",
        { class: "facts" },
        h("span", {}, t("began after {time}", { time: format.milliseconds(start) })),
        attempt.first_byte_ms !== null && h("span", {}, t("first byte after {time}", { time: format.milliseconds(attempt.first_byte_ms) })),
        attempt.total_ms !== null && h("span", {}, t("took {time}", { time: format.milliseconds(attempt.total_ms) })),
      ),
    );
  });
  const swatch = (kind, text) => h("li", {}, h("i", { class: `swatch ${kind}` }), text);
  return [
    bars.length ? h("ol", { class: "timeline" }, bars) : h("p", { class: "quiet" }, t("No provider was asked.")),
    bars.length > 0 &&
      h(
        "ul",
        { class: "legend" },
        swatch("wait", t("until the first byte")),
        swatch("content", t("answer")),
        firstOutput !== undefined && swatch("mark-output", t("first output after {time}", { time: format.milliseconds(firstOutput) })),
        h("li", {}, t("end after {time}", { time: format.milliseconds(total) })),
      ),
  ];
}

function tokens({ usage, estimated }) {
  return [
    definition([
      [t("Input"), format.number(usage.input_tokens)],
      [t("of it from the cache"), format.number(usage.cached_tokens)],
      [t("of it written to the cache"), format.number(usage.cache_write_tokens)],
      [t("Output"), format.number(usage.output_tokens)],
      [t("of it reasoning"), format.number(usage.reasoning_tokens)],
      [t("Total"), h("b", {}, format.number(usage.total_tokens))],
    ]),
    estimated && h("p", { class: "notice warn" }, t("Partly or wholly estimated: the provider did not report it.")),
  ];
}

function cost(item) {
  const { usage, price } = item;
  const lines = [];
  if (price && item.billing !== "void") {
    const plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens;
    const parts = [
      [plain, price.input],
      [usage.cached_tokens, price.cached_input],
      [usage.cache_write_tokens, price.cache_write],
      [usage.output_tokens - usage.reasoning_tokens, price.output],
      [usage.reasoning_tokens, price.reasoning],
    ].filter(([count, each]) => count && each !== undefined);
    lines.push(`(${parts.map(([count, each]) => `${count} × ${each}`).join(" + ") || "0"}) / 1,000,000 ${price.currency}`);
    if (Number(price.per_request)) lines.push(`+ ${price.per_request} ${price.currency}`);
    if (item.discount !== "1") lines.push(`× ${item.discount} (${t("discount")})`);
    if (price.exchange_rate) lines.push(`× ${price.exchange_rate} (${t("exchange rate")} ${price.currency} → ${session.currency})`);
  }
  const paid = [
    Number(item.paid.tokens) && [t("from token grants"), t("{count} tokens", { count: format.number(item.paid.tokens) })],
    Number(item.paid.subscription) && [t("from the subscription"), format.exact(item.paid.subscription)],
    Number(item.paid.wallet) && [t("from the wallet"), format.exact(item.paid.wallet)],
  ].filter(Boolean);
  return [
    h("p", { class: "amount" }, format.exact(item.cost)),
    definition([
      [t("Charged"), t(BILLING[item.billing] ?? item.billing)],
      [t("Price per million tokens"), price ? priceLines(price).map(([title, amount]) => h("p", {}, `${title} ${amount}`)) : t("none: the model has no price")],
      lines.length && [t("Formula"), h("span", { class: "mono formula" }, `${lines.join("\n")}\n= ${item.cost}`)],
      ...paid,
    ]),
  ];
}
