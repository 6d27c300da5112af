// What happened: four figures, one chart, what needs attention, who used most.

import { admin } from "../api.js";
import { chart } from "../chart.js";
import { h, replace } from "../dom.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";
import { heading } from "../shell.js";
import { empty, field, input, show, switches, table } from "../ui.js";
import { FIGURES, readDays, reader, readHours } from "./overview-data.js";
import { attention } from "./attention.js";

const PERIODS = [
  ["24h", "24 hours"],
  ["7d", "7 days"],
  ["30d", "30 days"],
  ["custom", "Dates"],
];

export default async function overview({ element, query, setQuery }) {
  const periods = session.isAdmin ? PERIODS : PERIODS.slice(1);
  const period = periods.some(([name]) => name === query.get("period")) ? query.get("period") : periods[0][0];
  const figure = query.get("figure") in FIGURES ? query.get("figure") : "requests";
  const groups = [["none", t("All")], ["model", t("Model")], ["provider", t("Provider")]];
  if (session.isAdmin) groups.push(["key", t("Key")], ["account", t("Account")]);
  const by = groups.some(([name]) => name === query.get("by")) ? query.get("by") : "model";
  const range = dates(period, query);
  const names = session.isAdmin ? namesOfKeys() : Promise.resolve(new Map());

  const title = session.isAdmin ? t("Overview") : t("Usage");
  const sentence = session.isAdmin ? null : t("All keys of your account together.");
  const choose = switches(t("Period"), periods.map(([name, text]) => [name, t(text)]), period, (name) => setQuery({ period: name }));
  const figures = h("div");
  const main = h("section", { class: "card" });
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
    h("div", { class: "columns" }, tables.map(([, card]) => card)),
  );

  const draw = (data) => {
    replace(figures, summary(data));
    const { title: shown, format: exact, axis } = FIGURES[figure];
    return [
      h(
        "header",
        {},
        switches(t("Figure"), Object.entries(FIGURES).map(([name, item]) => [name, t(item.title)]), figure, (name) => setQuery({ figure: name })),
        switches(t("Breakdown"), groups, by, (name) => setQuery({ by: name })),
      ),
      chart({ title: t(shown), labels: data.labels, series: data.series, format: exact, axis }),
    ];
  };
  const most = reader(range, names);
  await Promise.all([
    show(main, () => (range ? readDays({ ...range, by, figure, names }) : readHours(by, figure, names)), draw),
    side && show(side, attention, (list) => [h("h2", {}, t("Needs attention")), list]),
    ...tables.map(([kind, card]) => show(card, () => most(kind), (rows) => top(kind, rows))),
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

async function namesOfKeys() {
  try {
    return new Map((await admin.all("/keys")).map((key) => [key.id, key.name]));
  } catch {
    return new Map();
  }
}

function summary({ now, before }) {
  const items = Object.entries(FIGURES).map(([name, item]) => {
    const value = now[name];
    const change = difference(value, before[name]);
    return h(
      "div",
      { class: "figure" },
      h("span", { class: "quiet" }, t(item.title)),
      h("b", {}, item.axis(value)),
      h("span", { class: "hint" }, name === "failed" ? t("{share} of requests", { share: format.percent(value, now.requests) }) : change),
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
  const labels = stats.data.map((item) => format.hourLabel(item.hour));
  const line = (what, share) => stats.data.map((item) => item[what]?.[share] ?? null);
  const one = (title, what) =>
    h(
      "div",
      { class: "card" },
      h("header", {}, h("h3", {}, title), stats[what] && h("span", { class: "quiet" }, `p50 ${format.milliseconds(stats[what].p50)} · p95 ${format.milliseconds(stats[what].p95)}`)),
      chart({
        title,
        labels,
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

const TITLES = { model: "Models", key: "Keys", provider: "Providers", account: "Accounts" };

function top(kind, all) {
  const most = Math.max(...all.map((item) => item.tokens), 1);
  const rows = all.slice(0, 8);
  const name = (item) => {
    const bar = h("i", {});
    bar.style.width = `${(100 * item.tokens) / most}%`;
    return [h("span", { class: "name" }, item.name), h("span", { class: "inline-bar" }, bar)];
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
