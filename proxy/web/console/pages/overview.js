// What happened: four figures, one chart, what needs attention, who used most.

import { admin, withQuery } from "../api.js";
import { chart } from "../chart.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { empty, field, input, show, switches, table } from "../ui.js";
import { FIGURES, hours, reader } from "./overview-data.js";
import { attention } from "./attention.js";

const PERIODS = [
  ["24h", "24 hours"],
  ["7d", "7 days"],
  ["30d", "30 days"],
  ["custom", "Dates"],
];

export default async function overview({ element, query, setQuery, keepQuery, signal }) {
  const periods = session.isAdmin ? PERIODS : PERIODS.slice(1);
  const period = periods.some(([name]) => name === query.get("period")) ? query.get("period") : periods[0][0];
  const groups = [["none", t("All")], ["model", t("Model")], ["provider", t("Provider")]];
  if (session.isAdmin) groups.push(["key", t("Key")], ["account", t("Account")]);
  const chosen = {
    figure: query.get("figure") in FIGURES ? query.get("figure") : "requests",
    by: groups.some(([name]) => name === query.get("by")) ? query.get("by") : "model",
  };
  const range = dates(period, query);
  const read = reader(range, session.isAdmin ? namesOfKeys() : new Map());

  const title = session.isAdmin ? t("Overview") : t("Usage");
  const sentence = session.isAdmin ? null : t("All keys of your account together.");
  const choose = switches(t("Period"), periods.map(([name, text]) => [name, t(text)]), period, (name) => setQuery({ period: name }));
  // Both redraw nothing but the chart.
  const choice = (member, name, options) =>
    switches(name, options, chosen[member], (value) => {
      chosen[member] = value;
      keepQuery({ [member]: value });
      return draw();
    });
  const named = Object.entries(FIGURES).map(([name, item]) => [name, t(item.title)]);
  const figures = h("div", {}, summary());
  const plot = h("div", { class: "plot" });
  const main = h("section", { class: "card" }, h("header", {}, choice("figure", t("Figure"), named), choice("by", t("Breakdown"), groups)), plot);
  const side = session.isAdmin && h("section", { class: "card", "aria-label": t("Needs attention") });
  const times = session.isAdmin && h("section", { class: "card" });
  const tables = (session.isAdmin ? ["model", "key", "provider", "account"] : ["model", "provider"]).map((kind) => [kind, h("section", { class: "card" })]);
  replace(
    element,
    heading(title, sentence, choose),
    period === "custom" && custom(range, setQuery),
    figures,
    h("div", { class: session.isAdmin ? "wide-left" : "" }, main, side),
    times,
    h("div", { class: "columns halves" }, tables.map(([, card]) => card)),
  );

  function draw() {
    const { title: shown, format: exact, axis } = FIGURES[chosen.figure];
    return show(plot, () => read.chart(chosen), (data) => {
      replace(figures, summary(data));
      return chart({ ...data, title: t(shown), format: exact, axis });
    });
  }
  // What is above comes first: all at once would keep the chart waiting for the tables.
  await Promise.all([
    draw(),
    side && show(side, () => attention(signal), (list) => [h("h2", {}, t("Needs attention")), list]),
  ]);
  await Promise.all([
    ...tables.map(([kind, card]) => show(card, () => read.top(kind), (rows) => top(kind, rows))),
    times && show(times, () => admin.get("/stats", { hours: 24 }), latency),
  ]);
}

/** The days of a period, both included; null for the last 24 hours. */
function dates(period, query) {
  if (period === "24h") return null;
  const range = { from: format.day(period === "7d" ? 6 : 29), to: format.day() };
  if (period !== "custom") return range;
  return { from: query.get("from") ?? range.from, to: query.get("to") ?? range.to };
}

function custom({ from, to }, setQuery) {
  const dated = (name, value) =>
    input(name, { type: "date", value, onchange: (event) => event.target.value && setQuery({ [name]: event.target.value }) });
  return h("div", { class: "filters" }, field(t("From"), dated("from", from)), field(t("To"), dated("to", to)));
}

/** The names of the keys; of those that share one, all but one with the end of the key. */
async function namesOfKeys() {
  try {
    const keys = await admin.all("/keys");
    const first = new Map(keys.map((key) => [key.name, key.id]));
    return new Map(keys.map((key) => [key.id, first.get(key.name) === key.id ? key.name : `${key.name} …${key.last4}`]));
  } catch {
    return new Map();
  }
}

/** The figures with their change; before they are known, their places. */
function summary(data) {
  const items = Object.entries(FIGURES).map(([name, item]) => {
    const value = data?.now[name];
    const share = name === "failed" && value > 0 && ` · ${format.percent(value, data.now.requests)}`;
    return h(
      "div",
      { class: "figure" },
      h("span", { class: "quiet" }, t(item.title), share),
      h("b", {}, data ? item.axis(value) : "–"),
      h("span", { class: "hint" }, data && difference(value, data.before[name])),
    );
  });
  return h("div", { class: "figures" }, items);
}

function difference(now, before) {
  if (!before) return now ? t("nothing in the period before") : t("as in the period before");
  const change = Math.round((100 * (now - before)) / before);
  return t("{change} % against the period before", { change: `${change > 0 ? "+" : change < 0 ? "−" : "±"}${Math.abs(change)}` });
}

function latency(stats) {
  const line = (what, share) => stats.data.map((item) => item[what]?.[share] ?? null);
  const one = (title, what) =>
    h(
      "div",
      { class: "card" },
      h("header", {}, h("h3", {}, title), stats[what] && h("span", { class: "quiet" }, `p50 ${format.milliseconds(stats[what].p50)} · p95 ${format.milliseconds(stats[what].p95)}`)),
      chart({
        title,
        ...hours(stats.data),
        kind: "lines",
        height: 150,
        format: format.milliseconds,
        axis: format.milliseconds,
        series: [
          { name: "p50", values: line(what, "p50") },
          { name: "p95", values: line(what, "p95") },
        ],
      }),
    );
  return [
    h("h2", {}, t("Latency of the last 24 hours")),
    h("div", { class: "columns" }, one(t("Whole answer"), "total_ms"), one(t("First output"), "first_output_ms")),
  ];
}

const TITLES = { model: "Top models", key: "Top keys", provider: "Top providers", account: "Top accounts" };

function top(kind, all) {
  const measure = all.some((item) => Number(item.cost) > 0) ? "cost" : "tokens";
  const most = Math.max(...all.map((item) => Number(item[measure])), 1e-9);
  const rows = all.slice(0, 8);
  const name = (item) => {
    const bar = h("i", {});
    bar.style.width = `${(100 * item[measure]) / most}%`;
    const leads = session.isAdmin && item.id;
    return [h(leads ? "a" : "span", { class: "name", href: leads && withQuery("#/requests", { [kind]: item.id }) }, item.name), h("span", { class: "inline-bar" }, bar)];
  };
  const body = rows.length
    ? table(
        t(TITLES[kind]),
        [
          { title: t("Name"), cell: name },
          { title: t("Requests"), number: true, cell: (item) => format.short(item.requests) },
          { title: t("Tokens"), number: true, cell: (item) => format.short(item.tokens) },
          { title: t("Cost"), number: true, cell: (item) => format.money(item.cost) },
        ],
        rows,
      )
    : empty(t("No requests yet"), t("Send one with the test chat, or set up a tool."));
  return [h("h2", {}, t(TITLES[kind])), body];
}
