// The newest requests, as they come; one of them opens its receipt.

import { admin } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { badge, empty, field, input, paged, problem, select, show, table, time } from "../ui.js";
import { finishText, receiptPage } from "./receipt.js";

const EVERY_MS = 5000;
const PAGE = 50;
const FILTERS = ["model", "provider", "account", "key", "status"];
const STATUSES = ["ok", "upstream_error", "timeout", "truncated", "client_gone", "revoked", "shutdown", "crash"];

export default async function requests({ element, rest, query, setQuery, signal }) {
  if (rest[0]) return receiptPage(element, rest[0]);
  if (!session.isAdmin) {
    replace(element, heading(t("Requests")), empty(t("A receipt has its own address"), t("The test chat links to the receipt of each answer.")));
    return undefined;
  }
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const list = h("section", { class: "card" });
  const note = h("div", { "aria-live": "polite" });
  let paused = false;
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: toggle }, t("Pause"));
  replace(element, heading(t("Requests"), t("Newest first, every 5 seconds. Prompts and answers are not stored."), pause), bar(filters, setQuery), note, list);

  let names = new Map();
  let first = "";
  const load = async () => {
    const [page, keys] = await Promise.all([admin.get("/requests", { ...filters, limit: PAGE }), admin.all("/keys")]);
    names = new Map(keys.map((key) => [key.id, key.name]));
    return page;
  };
  const render = (page) => {
    first = page.data[0]?.id ?? "";
    return rows(page, names, filters);
  };
  await show(list, load, render);

  const timer = setInterval(async () => {
    if (paused || document.hidden || list.contains(document.activeElement) || list.dataset.more) return;
    try {
      const page = await admin.get("/requests", { ...filters, limit: PAGE });
      if (signal.aborted || list.dataset.more || (page.data[0]?.id ?? "") === first) return;
      replace(list, render(page));
      replace(note);
    } catch (error) {
      replace(note, problem(error));
    }
  }, EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));

  function toggle() {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? t("Go on") : t("Pause");
  }

  function rows(page, keyNames, given) {
    if (!page.data.length) {
      return FILTERS.some((name) => given[name])
        ? empty(t("No request matches"), t("Change or clear the filters."), h("a", { href: "#/requests" }, t("Clear the filters")))
        : empty(t("No requests yet"), t("They appear here as soon as a program calls the gateway."), h("a", { href: "#/chat" }, t("Send one with the test chat")));
    }
    return paged(page, (items) => listed(items, keyNames), (cursor) => {
      list.dataset.more = "yes"; // From here on the list stands still.
      return admin.get("/requests", { ...given, limit: PAGE, cursor });
    });
  }
  return undefined;
}

function listed(items, names) {
  return table(t("Requests"), columns(names), items, { onopen: (item) => (location.hash = `#/requests/${item.id}`) });
}

function columns(names) {
  return [
    { title: t("Time"), cell: (item) => h("a", { href: `#/requests/${item.id}` }, time(item.created)) },
    { title: t("End"), cell: outcome },
    { title: t("Model"), class: "name full", cell: (item) => [h("div", {}, item.model), item.provider && h("div", { class: "quiet" }, `${item.provider}/${item.upstream_model}`)] },
    { title: t("Key"), cell: (item) => names.get(item.key) ?? item.key },
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

function bar(filters, setQuery) {
  const text = (name, title) =>
    field(title, input(name, { value: filters[name], onchange: (event) => setQuery({ [name]: event.target.value.trim() }) }));
  const status = select("status", [["", t("any")], ...STATUSES.map((name) => [name, finishText(name)])], filters.status, {
    onchange: (event) => setQuery({ status: event.target.value }),
  });
  return h(
    "div",
    { class: "filters" },
    text("model", t("Model")),
    text("provider", t("Provider")),
    text("account", t("Account")),
    text("key", t("Key id")),
    field(t("End"), status),
    FILTERS.some((name) => filters[name]) && h("a", { href: "#/requests" }, t("Clear the filters")),
  );
}
