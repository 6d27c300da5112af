// API keys: make, change, rotate, revoke.

import { admin } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { heading } from "../shell.js";
import { badge, confirm, copyButton, drawer, empty, field, form, input, select, show, table, time, toast } from "../ui.js";
import { keyForm, LIMITS } from "./key-form.js";

export default async function keys({ element, query, setQuery }) {
  const list = h("section", { class: "card" });
  const reload = () => show(list, load, render);
  const create = h("button", { type: "button", class: "primary", onclick: () => openForm(null, reload) }, t("Create a key"));
  const search = input("search", { type: "search", value: query.get("q") ?? "", onchange: (event) => setQuery({ q: event.target.value }) });
  const shown = select("show", [["active", t("In use")], ["all", t("All, revoked ones too")]], query.get("show") ?? "active", {
    onchange: (event) => setQuery({ show: event.target.value }),
  });
  replace(
    element,
    heading(t("Keys"), t("What programs and people sign in with. Each has limits of its own and is paid for by its account."), create),
    h("div", { class: "filters" }, field(t("Search"), search, null, "grow"), field(t("Show"), shown)),
    list,
  );

  async function load() {
    const range = { start_date: `${format.day().slice(0, 8)}01`, end_date: format.day(), group_by: "key" };
    const [all, month] = await Promise.all([admin.all("/keys"), admin.get("/usage", range)]);
    const wanted = (query.get("q") ?? "").toLowerCase();
    const found = all.filter(
      (key) =>
        (query.get("show") === "all" || !key.revoked_at) &&
        (!wanted || `${key.name} ${key.id} ${key.account} ${key.last4}`.toLowerCase().includes(wanted)),
    );
    return { found, any: all.length, costs: new Map(month.data.map((item) => [item.key, item])) };
  }

  function render({ found, any, costs }) {
    if (!any) return empty(t("No keys yet"), t("Create one, and set up a tool with it."), null);
    if (!found.length) return empty(t("No key matches"), t("Change the search, or show all keys."));
    return table(
      t("Keys"),
      [
        { title: t("Name"), class: "name full", cell: (key) => [h("div", { class: "name" }, key.name), h("code", { class: "quiet" }, `${key.prefix}…${key.last4}`)] },
        { title: t("State"), cell: state },
        { title: t("Account"), cell: (key) => h("a", { href: `#/accounts/${encodeURIComponent(key.account)}` }, key.account) },
        { title: t("Models"), cell: (key) => (key.models ? key.models.join(", ") || t("none") : t("all")) },
        { title: t("Limits"), cell: limits },
        { title: t("This month"), number: true, cell: (key) => [format.money(costs.get(key.id)?.total_cost_value ?? "0"), h("div", { class: "quiet" }, t("{count} requests", { count: format.short(costs.get(key.id)?.requests ?? 0) }))] },
        { title: t("Last used"), cell: (key) => time(key.last_used_at) },
        { title: "", class: "full", cell: (key) => actions(key, reload) },
      ],
      found,
    );
  }
  await reload();
}

function state(key) {
  if (key.revoked_at) return badge("", t("revoked"), format.dateTime(key.revoked_at));
  if (!key.enabled) return badge("warn", t("disabled"));
  if (key.expires_at && new Date(key.expires_at) < new Date()) return badge("warn", t("expired"), format.dateTime(key.expires_at));
  if (key.quota && Number(key.quota.spent) >= Number(key.quota.amount)) return badge("warn", t("quota spent"));
  return badge("good", t("active"));
}

function limits(key) {
  const set = LIMITS.filter(([name]) => key.limits[name] !== null).map(([name, title]) => `${format.short(key.limits[name])} ${t(title)}`);
  if (key.quota) set.push(`${format.money(key.quota.spent)} / ${format.money(key.quota.amount)} ${t(PERIOD[key.quota.period])}`);
  return set.length ? h("ul", {}, set.map((text) => h("li", {}, text))) : h("span", { class: "quiet" }, t("none of its own"));
}

export const PERIOD = { day: "a day", week: "a week", month: "a month", total: "in total" };

function actions(key, reload) {
  if (key.revoked_at) return null;
  const path = `/keys/${key.id}`;
  const named = (text) => ({ type: "button", class: "small", "aria-label": `${text}: ${key.name}` });
  return h(
    "div",
    { class: "actions" },
    h("button", { ...named(t("Edit")), onclick: () => openForm(key, reload) }, t("Edit")),
    h("button", { ...named(t("Rotate")), onclick: () => rotate(key, reload) }, t("Rotate")),
    h(
      "button",
      {
        ...named(t("Revoke")),
        class: "small danger",
        onclick: () =>
          confirm(
            t("Revoke {name}?", { name: key.name }),
            t("Its running requests end within a second, and it never works again. This cannot be undone; its records stay."),
            t("Revoke"),
            async () => (await admin.remove(path), toast(t("{name} is revoked.", { name: key.name })), reload()),
          ),
      },
      t("Revoke"),
    ),
  );
}

async function openForm(key, reload) {
  const accounts = await admin.all("/accounts");
  drawer(key ? t("Edit {name}", { name: key.name }) : t("Create a key"), (close, dialog) =>
    keyForm(key, accounts, async (fields) => {
      const done = key ? await admin.patch(`/keys/${key.id}`, fields) : await admin.post("/keys", fields);
      if (key) close();
      else replace(dialog.querySelector(".drawer-body"), secret(done, t("Key {name} is made.", { name: done.name }), close));
      reload();
    }),
  );
}

function rotate(key, reload) {
  drawer(t("Rotate {name}", { name: key.name }), (close, dialog) => {
    const grace = select("grace", [["0", t("immediately")], ["3600", t("in an hour")], ["86400", t("in a day")], ["604800", t("in a week")]], "3600");
    return form([h("p", {}, t("The key gets a new secret; limits and records stay.")), field(t("The old secret ends"), grace)], t("Rotate"), async (data) => {
      const done = await admin.post(`/keys/${key.id}/rotate`, { grace_s: Number(data.get("grace")) });
      replace(dialog.querySelector(".drawer-body"), secret(done, t("{name} has a new secret.", { name: key.name }), close));
      reload();
    });
  });
}

function secret(key, title, close) {
  const curl = `curl ${location.origin}/v1/chat/completions \\\n  -H "Authorization: Bearer ${key.key}" -H "Content-Type: application/json" \\\n  -d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hello!"}]}'`;
  return [
    h(
      "div",
      { class: "notice good", role: "status" },
      h("p", { class: "strong" }, title),
      h("p", {}, t("Copy it now: it is kept here only as a hash and cannot be shown again.")),
      h("div", { class: "secret" }, h("code", { "data-secret": true }, key.key), copyButton(key.key, t("Copy the key"))),
    ),
    h("h3", {}, t("Use it")),
    definitionOf([["OpenAI", `${location.origin}/v1`], ["Anthropic", location.origin]]),
    h("pre", { class: "code", tabindex: "0" }, curl),
    h("div", { class: "actions" }, copyButton(curl, t("Copy the command")), h("a", { href: "#/setup", onclick: close }, t("Set up a tool"))),
    h("div", { class: "actions" }, h("button", { type: "button", class: "primary", onclick: close }, t("Done"))),
  ];
}

const definitionOf = (items) =>
  h("dl", {}, items.map(([name, url]) => h("div", {}, h("dt", {}, t("Base URL, {name} SDK", { name })), h("dd", {}, h("code", {}, url)))));
