// The newest requests, as they come; one of them opens its receipt.

import { admin, withQuery } from "../api.js";
import { h, rememberFocus, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { badge, empty, field, paged, poll, select, show, table, time } from "../ui.js";
import { finishText, receiptPage } from "./receipt.js";

const PAGE = 50;
const STATUSES = ["ok", "upstream_error", "timeout", "truncated", "client_gone", "revoked", "shutdown", "crash"];
const FILTERS = { model: "Model", provider: "Provider", account: "Account", key: "Key", status: "End" };

export default async function requests({ element, rest, query, setQuery, signal }) {
  if (rest[0]) return receiptPage(element, rest[0]);
  if (!session.isAdmin) {
    return replace(element, heading(t("Requests")), empty(t("A receipt has its own address"), t("The test chat links to the receipt of each answer.")));
  }
  const filters = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, query.get(name) ?? ""]));
  const choices = { status: STATUSES.map((name) => [name, finishText(name)]) };
  const list = h("section", { class: "card" });
  const note = h("div", { "aria-live": "polite" });
  const bar = h("div", { class: "filters" });
  const pause = h("button", { type: "button", onclick: () => press(!paused) });
  let paused;
  const press = (now) => {
    paused = now;
    replace(pause, paused ? t("Go on") : t("Pause"));
  };
  press(false);
  replace(bar, controls(filters, choices, setQuery));
  replace(element, heading(t("Requests"), t("Newest first, every 5 seconds. Prompts and answers are not stored."), pause), bar, note, list);

  let names;
  let shown;
  const read = (cursor) => admin.get("/requests", { ...filters, limit: PAGE, cursor });
  const load = async () => {
    const [page, keys, accounts, models, providers] = await Promise.all([read(), admin.all("/keys"), admin.all("/accounts"), admin.get("/models"), admin.get("/providers")]);
    names = new Map(keys.map((key) => [key.id, key.name]));
    choices.key = [...names];
    choices.account = accounts.map(({ name }) => [name, name]);
    choices.model = models.data.map(({ id }) => [id, id]);
    choices.provider = providers.data.map(({ name }) => [name, name]);
    const refocus = rememberFocus();
    replace(bar, controls(filters, choices, setQuery));
    refocus();
    return page;
  };
  const older = (cursor) => {
    press(true);
    shown = ""; // Going on begins with the newest again.
    return read(cursor);
  };
  const idsOf = (page) => page.data.map((item) => item.id).join();
  const render = (page) => {
    shown = idsOf(page);
    if (page.data.length || page.next_cursor) return paged(page, (items) => listed(items, names, filters), older);
    return Object.values(filters).some(Boolean)
      ? empty(t("No request matches"), t("Change or clear the filters."), h("a", { href: "#/requests" }, t("Clear the filters")))
      : empty(t("No requests yet"), t("They appear here as soon as a program calls the gateway."), h("a", { href: "#/chat" }, t("Send one with the test chat")));
  };
  await show(list, load, render);
  return void poll(signal, note, async () => {
    if (paused) return;
    const page = names ? await read() : await load();
    if (paused || idsOf(page) === shown) return;
    const refocus = rememberFocus();
    replace(list, render(page));
    refocus(list.closest("main"));
  });
}

/** What can be chosen, and what was: each can be taken back by itself. */
function controls(filters, choices, setQuery) {
  const given = Object.keys(FILTERS).filter((name) => filters[name]);
  const selects = Object.entries(FILTERS).map(([name, title]) => {
    const options = new Map([["", t("any")], [filters[name], filters[name] || t("any")], ...(choices[name] ?? [])]);
    return field(t(title), select(name, [...options], filters[name], { onchange: (event) => setQuery({ [name]: event.target.value }) }));
  });
  const chips = given.map((name) => {
    const [, text] = choices[name]?.find(([value]) => value === filters[name]) ?? [null, filters[name]];
    return h("a", { class: "chip", href: where({ ...filters, [name]: "" }), "aria-label": t("Without {filter}", { filter: `${t(FILTERS[name])} ${text}` }) }, `${t(FILTERS[name])}: ${text} ✕`);
  });
  return [selects, given.length > 0 && h("div", { class: "chips" }, chips, h("a", { href: "#/requests" }, t("Clear the filters")))];
}

const where = (filters) => withQuery("#/requests", filters);

function listed(items, names, filters) {
  return table(t("Requests"), columns(names, filters), items, { onopen: (item) => (location.hash = `#/requests/${item.id}`) });
}

function columns(names, filters) {
  /** What filters the list by itself. */
  const only = (name, item, text) => h("a", { class: "only", href: where({ ...filters, [name]: item[name] }) }, text);
  return [
    { title: t("Time"), cell: (item) => h("a", { href: `#/requests/${item.id}` }, time(item.created)) },
    { title: t("End"), cell: outcome },
    { title: t("Model"), class: "name full", cell: (item) => [h("div", {}, only("model", item, item.model)), item.provider && h("div", { class: "quiet" }, only("provider", item, `${item.provider}/${item.upstream_model}`))] },
    { title: t("Key"), cell: (item) => only("key", item, names.get(item.key) ?? item.key) },
    { title: t("Tokens in / out"), number: true, cell: (item) => `${format.number(item.usage.input_tokens)} / ${format.number(item.usage.output_tokens)}` },
    { title: t("Cost"), number: true, cell: (item) => format.money(item.cost) },
    { title: t("First output"), number: true, cell: (item) => format.milliseconds(item.timings.first_output_ms) },
    { title: t("Whole"), number: true, cell: (item) => format.milliseconds(item.timings.total_ms) },
  ];
}

export function outcome(item) {
  const good = item.finish === "ok" && item.status < 400;
  const kind = good ? "good" : item.finish === "client_gone" ? "" : "bad";
  return badge(kind, good ? String(item.status) : `${item.status} ${finishText(item.finish)}`, item.error ?? "");
}
