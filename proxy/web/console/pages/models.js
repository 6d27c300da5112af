// The model plaza: what can be called, what it costs, who serves it.

import { admin, get, withQuery } from "../api.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { badge, copyButton, empty, field, searchField, select, show, switches, table } from "../ui.js";
import { each, prices, source } from "./price.js";
import { stateOf } from "./provider-state.js";

const SORTS = { "": "Name", input: "Input price", output: "Output price", context: "Context" };
const CARDS = 120;
const ROUTES = 6;

export default async function models({ element, query, keepQuery }) {
  const list = h("section", { "aria-label": t("Models") });
  const bar = h("div", { class: "filters" });
  const given = Object.fromEntries(["q", "provider", "category", "show", "sort", "view"].map((name) => [name, query.get(name) ?? ""]));
  let all;
  const change = (name, value) => {
    given[name] = value;
    keepQuery({ [name]: value });
    if (all) replace(list, results(all, given));
  };
  const search = searchField(given.q, { oninput: (event) => change("q", event.target.value) });
  const look = switches(t("View"), [["", t("Cards")], ["rows", t("Rows")]], given.view === "rows" ? "rows" : "", (name) => change("view", name));
  replace(bar, search, filters([], given, change));
  replace(element, heading(t("Models"), t("What programs may write as model, and what a million tokens of it cost."), look), bar, list);
  const load = session.isAdmin ? operators : async () => (await get("/v1/models")).data;
  await show(list, load, (found) => {
    all = found;
    replace(bar, search, filters(all, given, change));
    return results(all, given);
  });
}

/** Every model, each route with the state of its provider. */
async function operators() {
  const [models, providers] = await Promise.all([admin.get("/models"), admin.get("/providers")]);
  const known = new Map(providers.data.map((provider) => [provider.name, provider]));
  for (const route of models.data.flatMap((model) => model.routes)) route.holder = known.get(route.provider);
  return models.data;
}

function filters(all, given, change) {
  const names = (values) => [["", t("any")], ...[...new Set(values)].filter(Boolean).sort().map((name) => [name, name])];
  const choice = (title, name, options) => field(title, select(name, options, given[name], { onchange: (event) => change(name, event.target.value) }));
  return [
    choice(t("Provider"), "provider", names(all.flatMap((model) => model.providers))),
    choice(t("Category"), "category", names(all.map((model) => model.category))),
    choice(t("Price"), "show", [["", t("any")], ["priced", t("with a price")], ["unpriced", t("without a price")]]),
    choice(t("Sort by"), "sort", Object.entries(SORTS).map(([name, text]) => [name, t(text)])),
  ];
}

function results(all, given) {
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
  return h("div", { class: "list" }, count, given.view === "rows" ? h("div", { class: "card" }, rows(shown)) : h("div", { class: "plaza" }, shown.map(card)), more);
}

function order(sort) {
  const price = (member) => (model) => (model.pricing ? Number(model.pricing[member]) : Infinity);
  const value = { input: price("input_per_million"), output: price("output_per_million"), context: (model) => -(model.context_window ?? 0) }[sort];
  return (one, other) => (value ? value(one) - value(other) || 0 : 0) || one.id.localeCompare(other.id);
}

const active = (model) => !model.routes?.length || model.routes.some((route) => route.active);
const trial = (model) => active(model) && !model.id.includes("*") && h("a", { href: withQuery("#/chat", { model: model.id }) }, t("Try it"));

function card(model) {
  const chips = [
    model.category,
    model.context_window && t("{count} context", { count: format.short(model.context_window) }),
    model.max_output_tokens && t("{count} output", { count: format.short(model.max_output_tokens) }),
  ].filter(Boolean);
  return h(
    "article",
    { class: "card" },
    h("header", {}, h("h3", {}, model.id), !active(model) && badge("warn", t("no active provider"))),
    h(
      "div",
      { class: "price" },
      model.pricing
        ? prices(model)
        : h("p", { class: "quiet" }, model.id.includes("*") ? t("A pattern: the price is that of the route") : t("No price is known")),
    ),
    chips.length > 0 && h("div", { class: "chips" }, chips.map((text) => h("span", { class: "chip" }, text))),
    model.alias && h("p", { class: "hint" }, t("Another name of {name}", { name: model.alias })),
    providers(model),
    model.pricing && source(model),
    h(
      "div",
      { class: "actions" },
      copyButton(model.id, t("Copy the name")),
      trial(model),
    ),
  );
}

/** Who serves a model, in their order; for operators with the state of each. */
function providers(model) {
  if (!model.routes) return h("p", { class: "hint" }, t("Served by {names}", { names: model.providers.join(" → ") }));
  if (!model.routes.length) return null;
  return h(
    "ul",
    { class: "served", "aria-label": t("Providers") },
    model.routes.slice(0, ROUTES).map((route) => h("li", { class: "spread" }, h("span", {}, route.provider), stateOf(route.holder, route.model))),
    model.routes.length > ROUTES && h("li", { class: "hint" }, t("and {count} more", { count: model.routes.length - ROUTES })),
  );
}

function rows(found) {
  return table(
    t("Models"),
    [
      { title: t("Name"), class: "name full", cell: (model) => model.id },
      { title: t("Category"), cell: (model) => model.category ?? "–" },
      { title: t("Context"), number: true, cell: (model) => (model.context_window ? format.short(model.context_window) : "–") },
      { title: t("Input"), number: true, cell: (model) => each(model, "input") },
      { title: t("Output"), number: true, cell: (model) => each(model, "output") },
      { title: t("Providers"), cell: providers },
      { title: "", class: "full", cell: (model) => h("div", { class: "actions" }, copyButton(model.id), trial(model)) },
    ],
    found,
  );
}
