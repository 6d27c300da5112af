// The model plaza: what can be called, what it costs, who serves it.

import { admin, get } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { badge, copyButton, empty, field, input, select, show, switches, table } from "../ui.js";

const SORTS = { name: "Name", input: "Input price", output: "Output price", context: "Context" };
const CARDS = 120;

export default async function models({ element, query, setQuery }) {
  const list = h("section", { "aria-label": t("Models") });
  const bar = h("div", { class: "filters" });
  const view = query.get("view") === "rows" ? "rows" : "cards";
  const look = switches(t("View"), [["cards", t("Cards")], ["rows", t("Rows")]], view, (name) => setQuery({ view: name }));
  replace(element, heading(t("Models"), t("What programs may write as model, and what a million tokens of it cost."), look), bar, list);
  const load = async () => (session.isAdmin ? (await admin.get("/models")).data : (await get("/v1/models")).data);
  let all = [];
  const given = { q: query.get("q") ?? "", provider: query.get("provider") ?? "", category: query.get("category") ?? "", sort: query.get("sort") ?? "name", show: query.get("show") ?? "" };
  const draw = () => replace(list, results(all, given, view));
  await show(list, load, (found) => {
    all = found;
    replace(bar, filters(all, given, draw, setQuery));
    return results(all, given, view);
  });
}

function filters(all, given, draw, setQuery) {
  const names = (values) => [["", t("any")], ...[...new Set(values)].filter(Boolean).sort().map((name) => [name, name])];
  const set = (name) => (event) => setQuery({ [name]: event.target.value });
  const search = input("q", {
    type: "search",
    value: given.q,
    oninput: (event) => ((given.q = event.target.value), draw()),
    onchange: set("q"),
  });
  return [
    field(t("Search"), search, null, "grow"),
    field(t("Provider"), select("provider", names(all.flatMap((model) => model.providers)), given.provider, { onchange: set("provider") })),
    field(t("Category"), select("category", names(all.map((model) => model.category)), given.category, { onchange: set("category") })),
    field(t("Price"), select("show", [["", t("any")], ["priced", t("with a price")], ["unpriced", t("without a price")]], given.show, { onchange: set("show") })),
    field(t("Sort by"), select("sort", Object.entries(SORTS).map(([name, text]) => [name, t(text)]), given.sort, { onchange: set("sort") })),
  ];
}

function results(all, given, view) {
  if (!all.length) return empty(t("No models"), t("Configure a provider, or ask for a key that may use more."));
  const wanted = given.q.toLowerCase();
  const found = all
    .filter(
      (model) =>
        (!wanted || `${model.id} ${model.category ?? ""} ${model.providers.join(" ")}`.toLowerCase().includes(wanted)) &&
        (!given.provider || model.providers.includes(given.provider)) &&
        (!given.category || model.category === given.category) &&
        (!given.show || (given.show === "priced") === Boolean(model.pricing)),
    )
    .sort(order(given.sort));
  if (!found.length) return empty(t("No model matches"), t("Change the search or the filters."));
  const count = h("p", { class: "quiet", role: "status" }, t("{count} models", { count: format.number(found.length) }));
  const shown = found.slice(0, CARDS);
  const more = found.length > shown.length && h("p", { class: "quiet" }, t("The first {count} are shown; search for the others.", { count: CARDS }));
  return h("div", { class: "list" }, count, view === "rows" ? h("div", { class: "card" }, rows(shown)) : h("div", { class: "plaza" }, shown.map(card)), more);
}

function order(sort) {
  const price = (member) => (model) => (model.pricing ? Number(model.pricing[member]) : Infinity);
  const value = { input: price("input_per_million"), output: price("output_per_million"), context: (model) => -(model.context_window ?? 0) }[sort];
  return (one, other) => (value ? value(one) - value(other) || 0 : 0) || one.id.localeCompare(other.id);
}

const each = (model, member) => (model.pricing ? format.money(model.pricing[member], model.pricing.currency) : "–");

function card(model) {
  const active = !model.routes || model.routes.some((route) => route.active);
  return h(
    "article",
    { class: "card" },
    h("header", {}, h("h3", {}, model.id), !active && badge("warn", t("no active provider"))),
    h(
      "div",
      { class: "price" },
      model.pricing
        ? [h("div", {}, h("span", { class: "hint" }, t("Input")), h("b", {}, each(model, "input_per_million"))), h("div", {}, h("span", { class: "hint" }, t("Output")), h("b", {}, each(model, "output_per_million")))]
        : h("p", { class: "quiet" }, model.id.includes("*") ? t("A pattern: the price is that of the route") : t("No price is known")),
    ),
    h(
      "div",
      { class: "chips" },
      model.category && h("span", { class: "chip" }, model.category),
      model.context_window && h("span", { class: "chip" }, t("{count} context", { count: format.short(model.context_window) })),
      model.max_output_tokens && h("span", { class: "chip" }, t("{count} output", { count: format.short(model.max_output_tokens) })),
    ),
    h("p", { class: "hint" }, model.alias ? t("Another name of {name}", { name: model.alias }) : providers(model)),
    model.pricing && source(model),
    h(
      "div",
      { class: "actions" },
      copyButton(model.id, t("Copy the name")),
      active && !model.id.includes("*") && h("a", { href: `#/chat?model=${encodeURIComponent(model.id)}` }, t("Try it")),
    ),
  );
}

function providers(model) {
  if (!model.providers.length) return t("No provider");
  return t("Served by {names}", { names: model.providers.join(" → ") });
}

function source(model) {
  const from = model.price_source ?? null;
  if (!from && !model.pricing.cached_input) return null;
  const text = from ? t("Price: {source}", { source: from }) + (model.price_date ? `, ${model.price_date}` : "") : null;
  return text && h("p", { class: "hint" }, text);
}

function rows(found) {
  return table(
    t("Models"),
    [
      { title: t("Name"), class: "name full", cell: (model) => model.id },
      { title: t("Category"), cell: (model) => model.category ?? "–" },
      { title: t("Context"), number: true, cell: (model) => (model.context_window ? format.short(model.context_window) : "–") },
      { title: t("Input"), number: true, cell: (model) => each(model, "input_per_million") },
      { title: t("Output"), number: true, cell: (model) => each(model, "output_per_million") },
      { title: t("Providers"), cell: (model) => model.providers.join(" → ") },
      { title: "", class: "full", cell: (model) => copyButton(model.id) },
    ],
    found,
  );
}
