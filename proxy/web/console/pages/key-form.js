// Every field of an API key, the common ones first.

import { h } from "../dom.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { field, form, input, select } from "../ui.js";

/** Name in the API, short unit, label. */
export const LIMITS = [
  ["rpm", "requests/min", "Requests per minute"],
  ["tpm", "tokens/min", "Tokens per minute"],
  ["rpd", "requests/day", "Requests per day"],
  ["tpd", "tokens/day", "Tokens per day"],
  ["concurrency", "at once", "Requests at once"],
  ["max_context", "tokens in", "Input tokens of a request"],
  ["max_output", "tokens out", "Output tokens of a request"],
];

export const PERIODS = { day: "a day", week: "a week", month: "a month", total: "in total" };

const lines = (text) => text.split(/[\n,]/).map((line) => line.trim()).filter(Boolean);

/** A form for a new key (`key` null) or a change; `submit` gets the body for the API. */
export function keyForm(key, accounts, submit) {
  const names = [...new Set(["default", ...accounts.map((account) => account.name)])];
  const name = input("name", { required: true, maxlength: 100, value: key?.name ?? "" });
  const account = select("account", names.map((item) => [item, item]), key?.account ?? "default");
  const list = (member, value) => h("textarea", { name: member, rows: 2, spellcheck: "false", value: value?.join("\n") ?? "" });
  const count = (member) => input(member, { type: "number", min: 1, step: 1, inputmode: "numeric", value: key?.limits[member] ?? "" });
  const amount = input("amount", { inputmode: "decimal", pattern: "[0-9]+([.][0-9]{1,9})?", value: key?.quota ? trimmed(key.quota.amount) : "" });
  const period = select("period", Object.entries(PERIODS).map(([name, text]) => [name, t(text)]), key?.quota?.period ?? "month");
  const expires = input("expires", { type: "datetime-local", value: key?.expires_at ? local(key.expires_at) : "" });
  const enabled = h("input", { type: "checkbox", name: "enabled", checked: key?.enabled ?? true });
  const children = [
    field(t("Name"), name, t("Whom or what it is for")),
    field(t("Account"), account, t("Pays for it, and is what its usage is summed up under")),
    field(t("Allowed models"), list("models", key?.models), t("One a line, * stands for anything: fast, deepseek/*. Empty allows all.")),
    h(
      "div",
      { class: "fields" },
      field(t("Quota, {currency}", { currency: session.currency }), amount, t("Empty: no quota")),
      field(t("Period"), period),
    ),
    field(t("Expires"), expires, t("Your local time. Empty: never")),
    key && h("div", { class: "actions" }, field(t("Enabled"), enabled)),
    h(
      "details",
      { open: Boolean(key && LIMITS.some(([member]) => key.limits[member] !== null)) },
      h("summary", {}, t("Limits")),
      h("div", { class: "fields" }, LIMITS.map(([member, , title]) => field(t(title), count(member)))),
    ),
    h(
      "details",
      { open: Boolean(key?.providers || key?.ips) },
      h("summary", {}, t("Providers and addresses")),
      h(
        "div",
        { class: "list" },
        field(t("Providers"), list("providers", key?.providers), t("One a line. Empty allows all.")),
        field(t("Addresses"), list("ips", key?.ips), t("Addresses or blocks like 10.0.0.0/8, one a line. Empty allows all.")),
      ),
    ),
  ];
  const element = form(children, key ? t("Save") : t("Create a key"), (data) => submit(key ? changes(before, body(key, data)) : body(key, data)));
  const before = body(key, new FormData(element));
  return element;
}

/** What was changed, and nothing else: another administrator may have changed the rest meanwhile. */
function changes(before, after) {
  const limits = differing(before.limits, after.limits);
  const fields = differing({ ...before, limits: null }, { ...after, limits: null });
  return Object.keys(limits).length ? { ...fields, limits } : fields;
}

const differing = (before, after) =>
  Object.fromEntries(Object.entries(after).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name])));

function body(key, data) {
  const fields = {
    name: data.get("name").trim(),
    account: data.get("account"),
    models: listed(key, "models", data),
    providers: listed(key, "providers", data),
    ips: listed(key, "ips", data),
    limits: Object.fromEntries(LIMITS.map(([member]) => [member, data.get(member) ? Number(data.get(member)) : null])),
    quota: data.get("amount").trim() ? { amount: data.get("amount").trim(), period: data.get("period") } : null,
    expires_at: data.get("expires") ? new Date(data.get("expires")).toISOString() : null,
  };
  if (key) fields.enabled = data.get("enabled") === "on";
  return fields;
}

/** An empty field allows all; a list that was empty in the database, and so allows nothing, stays. */
function listed(key, member, data) {
  const given = lines(data.get(member));
  if (given.length) return given;
  return key?.[member]?.length === 0 ? [] : null;
}

const trimmed = (amount) => amount.replace(/\.?0+$/, "");

function local(text) {
  const date = new Date(text);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60e3).toISOString().slice(0, 16);
}
