// API keys: make, change, rotate, revoke.

import { admin, withQuery } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { modelFor, readTools, steps } from "../tools.js";
import { button, confirm, copyButton, drawer, empty, field, form, searchField, select, show, switches, table, time, toast } from "../ui.js";
import { keyForm, LIMITS, PERIODS } from "./key-form.js";
import { keyState } from "./key-state.js";

/** So many tools are shown beside a new key, one for each protocol; the others have their page. */
const FIRST_TOOLS = ["curl", "claude-code", "codex"];

export default async function keys({ element, query, keepQuery }) {
  const list = h("section", { class: "card" });
  const given = { q: query.get("q") ?? "", show: query.get("show") ?? "" };
  let known;
  const reload = () => show(list, load, (found) => results((known = found)));
  const create = button(t("Create a key"), () => openForm(null, reload), { class: "primary" });
  const set = (name) => (event) => {
    given[name] = event.target.value;
    keepQuery(given);
    if (known) replace(list, results(known));
  };
  const search = searchField(given.q, { oninput: set("q") });
  const shown = select("show", [["", t("In use")], ["all", t("All, revoked ones too")]], given.show, { onchange: set("show") });
  replace(
    element,
    heading(t("Keys"), t("What programs and people sign in with. Each has limits of its own and is paid for by its account."), create),
    h("div", { class: "filters" }, search, field(t("Show"), shown)),
    list,
  );

  async function load() {
    const today = format.day();
    const since = async (first) => new Map((await admin.get("/usage", { start_date: first, end_date: today, group_by: "key" })).data.map((item) => [item.key, item]));
    const [all, accounts, day, month] = await Promise.all([admin.all("/keys"), admin.all("/accounts"), since(today), since(`${today.slice(0, 8)}01`)]);
    return { all, owners: new Map(accounts.map((account) => [account.name, account])), day, month };
  }

  function results({ all, owners, day, month }) {
    const wanted = given.q.toLowerCase();
    const found = all.filter(
      (key) => (given.show === "all" || !key.revoked_at) && `${key.name} ${key.id} ${key.account} ${key.last4}`.toLowerCase().includes(wanted),
    );
    if (!all.length) return empty(t("No keys yet"), t("Create one, and set up a tool with it."), null);
    if (!found.length) return empty(t("No key matches"), t("Change the search, or show all keys."));
    return table(
      t("Keys"),
      [
        { title: t("Name"), class: "name full", cell: (key) => [h("div", { class: "name" }, key.name), h("code", { class: "quiet" }, `${key.prefix}…${key.last4}`)] },
        { title: t("State"), cell: (key) => keyState(key, owners.get(key.account)) },
        { title: t("Account"), cell: (key) => h("a", { href: `#/accounts/${encodeURIComponent(key.account)}` }, key.account) },
        { title: t("Limits"), cell: limits },
        { title: t("Today"), number: true, cell: (key) => [cost(day.get(key.id)), tokens(day.get(key.id))] },
        { title: t("This month"), number: true, cell: (key) => cost(month.get(key.id)) },
        { title: t("Last used"), cell: (key) => time(key.last_used_at) },
        { title: "", class: "full", cell: (key) => actions(key, reload) },
      ],
      found,
    );
  }
  await reload();
}

const cost = (sums) => (sums ? format.money(sums.total_cost_value) : h("span", { class: "quiet" }, "–"));
const tokens = (sums) => sums && h("div", { class: "quiet" }, t("{count} tokens", { count: format.short(sums.total_tokens) }));

function limits(key) {
  const set = LIMITS.filter(([name]) => key.limits[name] !== null).map(([name, title]) => `${format.short(key.limits[name])} ${t(title)}`);
  if (key.models) set.unshift(t("Models: {names}", { names: key.models.join(", ") || t("none") }));
  if (key.quota) set.push(`${format.money(key.quota.spent)} / ${format.money(key.quota.amount)} ${t(PERIODS[key.quota.period])}`);
  return set.length ? h("ul", {}, set.map((text) => h("li", {}, text))) : h("span", { class: "quiet" }, t("none of its own"));
}

function actions(key, reload) {
  if (key.revoked_at) return null;
  const named = (text) => ({ class: "small", "aria-label": `${text}: ${key.name}` });
  return h(
    "div",
    { class: "actions" },
    button(t("Edit"), () => openForm(key, reload), named(t("Edit"))),
    button(t("Rotate"), () => rotate(key, reload), named(t("Rotate"))),
    button(t("Revoke"), () => revoke(key, reload), named(t("Revoke"))),
  );
}

function revoke(key, reload) {
  confirm(
    t("Revoke {name}?", { name: key.name }),
    t("Its running requests end within a second, and it never works again. This cannot be undone; its records stay."),
    t("Revoke"),
    async () => (await admin.remove(`/keys/${key.id}`), toast(t("{name} is revoked.", { name: key.name })), reload()),
  );
}

async function openForm(key, reload) {
  const accounts = await admin.all("/accounts");
  drawer(key ? t("Edit {name}", { name: key.name }) : t("Create a key"), (close, dialog) =>
    keyForm(key, accounts, async (fields) => {
      const done = key ? await admin.patch(`/keys/${key.id}`, fields) : await admin.post("/keys", fields);
      if (key) close();
      else secret(dialog, done, t("Key {name} is made.", { name: done.name }));
      reload();
    }),
  );
}

function rotate(key, reload) {
  drawer(t("Rotate {name}", { name: key.name }), (close, dialog) => {
    const grace = select("grace", [["0", t("immediately")], ["3600", t("in an hour")], ["86400", t("in a day")], ["604800", t("in a week")]], "3600");
    return form([h("p", {}, t("The key gets a new secret; limits and records stay.")), field(t("The old secret ends"), grace)], t("Rotate"), async (data) => {
      const done = await admin.post(`/keys/${key.id}/rotate`, { grace_s: Number(data.get("grace")) });
      secret(dialog, done, t("{name} has a new secret.", { name: key.name }));
      reload();
    });
  });
}

/** Show in a dialog the secret of a key, this once, and how tools are set up with it. */
function secret(dialog, key, title) {
  const close = () => dialog.close();
  const said = h("p", { role: "alert" });
  const hold = (event) => {
    if (event.type === "keydown" && event.key !== "Escape") return;
    event.preventDefault();
    replace(said, t("Copy the key first, or press Done: it cannot be shown again."));
  };
  const holding = ["cancel", "keydown"]; // A second Escape would close it without asking.
  const release = () => {
    replace(said);
    holding.forEach((type) => dialog.removeEventListener(type, hold));
  };
  holding.forEach((type) => dialog.addEventListener(type, hold));
  const copy = copyButton(key.key, t("Copy the key"), release);
  const examples = h("div", { class: "list" });
  const load = async () => {
    const model = await modelFor(key);
    return { model, tools: (await readTools({ model })).filter((tool) => FIRST_TOOLS.includes(tool.name)) };
  };
  show(examples, load, ({ model, tools }) => {
    const content = h("div", { class: "list" });
    const choose = (name) => replace(content, steps(tools.find((tool) => tool.name === name), key.key), elsewhere({ tool: name, model }));
    const choice = switches(t("Tool"), tools.map((tool) => [tool.name, tool.title]), tools[0].name, choose);
    choose(tools[0].name);
    return [choice, content];
  });
  const elsewhere = (query) => {
    const leave = () => ((session.toolKey = key.key), close());
    return h("p", {}, h("a", { href: withQuery("#/setup", query), onclick: leave }, t("Set up a tool")), " ", h("span", { class: "hint" }, t("all tools, and a check that it works")));
  };
  replace(
    dialog.querySelector(".drawer-body"),
    h(
      "div",
      { class: "notice good", role: "status" },
      h("p", { class: "strong" }, title),
      h("p", {}, t("Copy it now: it is kept here only as a hash and cannot be shown again.")),
      h("div", { class: "secret" }, h("code", { "data-secret": true }, key.key), copy),
      said,
    ),
    h("h3", {}, t("Use it")),
    examples,
    h("div", { class: "actions" }, button(t("Done"), close, { class: "primary" })),
  );
  copy.focus();
}
