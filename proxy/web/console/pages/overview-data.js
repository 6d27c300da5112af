// Reads the figures of a period, by day or by hour, and of the period before.

import { admin, get, own } from "../api.js";
import * as format from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";

/** `day`: its member in a day's sums, `hour`: in an hour's. */
export const FIGURES = {
  requests: { title: "Requests", day: "requests", hour: "requests", format: format.number, axis: format.short },
  tokens: { title: "Tokens", day: "total_tokens", hour: "tokens", format: format.number, axis: format.short },
  cost: { title: "Cost", day: "total_cost_value", hour: "cost", format: (value) => format.money(value), axis: (value) => format.money(value) },
  failed: { title: "Errors", day: "failed", hour: "failed", format: format.number, axis: format.short },
};
const NAMED = 5;

const sum = (items, member) => items.reduce((total, item) => total + Number(item[member]), 0);
const figures = (items, column) =>
  Object.fromEntries(Object.entries(FIGURES).map(([name, item]) => [name, sum(items, item[column])]));

/** The last 24 hours, the running one included. `names`, here and below: a promise of the keys' names by their ids. */
export async function readHours(by, figure, names) {
  const member = FIGURES[figure].hour;
  const [stats, known] = await Promise.all([admin.get("/stats", { hours: 48, by: by === "none" ? "" : by }), names]);
  const [before, now] = [stats.data.slice(0, 24), stats.data.slice(24)];
  const places = new Map(now.map((item, index) => [item.hour, index]));
  const series = new Map();
  const values = (name) => series.get(name) ?? series.set(name, now.map(() => 0)).get(name);
  for (const item of stats.groups ?? []) {
    if (places.has(item.hour)) values(label(by, item[by], known))[places.get(item.hour)] += Number(item[member]);
  }
  if (!stats.groups) series.set(t("All"), now.map((item) => Number(item[member])));
  return {
    now: figures(now, "hour"),
    before: figures(before, "hour"),
    labels: now.map((item) => format.hourLabel(item.hour)),
    series: [...series].map(([name, found]) => ({ name, values: found })),
  };
}

/** Days from the daily sums; the biggest names one by one, what is left of each day as "other". */
export async function readDays({ from, to, by, figure, names }) {
  const member = FIGURES[figure].day;
  const length = (Date.parse(to) - Date.parse(from)) / 86400e3 + 1;
  const path = `${own()}/usage`;
  const read = (query) => get(path, { start_date: from, end_date: to, group_by: "day", ...query });
  const [known, report, before, grouped] = await Promise.all([
    names,
    read({}),
    get(path, { start_date: format.addDays(from, -length), end_date: format.addDays(from, -1), group_by: "day" }),
    by === "none" ? { data: [] } : get(path, { start_date: from, end_date: to, group_by: by }),
  ]);
  const days = Array.from({ length }, (_, index) => format.addDays(from, index));
  const values = (data) => {
    const found = new Map(data.map((item) => [item.day, Number(item[member])]));
    return days.map((day) => found.get(day) ?? 0);
  };
  const whole = values(report.data);
  const named = grouped.data
    .filter((item) => item[by] && Number(item[member]) > 0)
    .sort((one, other) => Number(other[member]) - Number(one[member]))
    .slice(0, NAMED);
  const parts = await Promise.all(named.map((item) => read({ [by]: item[by] })));
  const series = named.map((item, index) => ({ name: label(by, item[by], known), values: values(parts[index].data) }));
  const rest = whole.map((value, index) => Math.max(0, value - series.reduce((total, item) => total + item.values[index], 0)));
  // What is left of an amount may be a rounding error of this page's arithmetic.
  if (rest.some((value) => value > 1e-9)) series.push({ name: by === "none" ? t("All") : t("other"), values: rest, other: by !== "none" });
  return { now: figures(report.data, "day"), before: figures(before.data, "day"), labels: days.map(format.dayLabel), series };
}

/**
 * Return a function that reads who used most: by model, provider, key or account, as {name, requests, tokens, cost},
 * dearest first. `range` is null for the last 24 hours; `names`, a promise, those of the keys by their ids.
 */
export function reader(range, names) {
  const read = range ? ofDays(range) : ofHours;
  return async (kind) => {
    const [rows, known] = await Promise.all([read(kind), names]);
    return rows.map((item) => ({ ...item, name: label(kind, item.name, known) }));
  };
}

function ofDays({ from, to }) {
  const ask = (kind) => get(`${own()}/usage`, { start_date: from, end_date: to, group_by: kind });
  const first = ask(session.isAdmin ? "key" : "model"); // has sums by model and provider in any case
  return async (kind) => {
    if (kind === "model" || kind === "provider") {
      return (await first)[`by_${kind}`].map((item) => ({ name: item[kind], requests: item.requests, tokens: item.tokens, cost: item.cost_value }));
    }
    const { data } = await (kind === "key" ? first : ask(kind));
    return data.map((item) => ({ name: item[kind], requests: item.requests, tokens: item.total_tokens, cost: item.total_cost_value }));
  };
}

async function ofHours(kind) {
  const found = new Map();
  for (const item of (await admin.get("/stats", { hours: 24, by: kind })).groups) {
    const row = found.get(item[kind]) ?? { name: item[kind], requests: 0, tokens: 0, cost: 0 };
    for (const figure of ["requests", "tokens", "cost"]) row[figure] += Number(item[figure]);
    found.set(item[kind], row);
  }
  return [...found.values()].sort((one, other) => other.cost - one.cost || other.tokens - one.tokens);
}

function label(by, name, names) {
  if (by === "key") return names.get(name) ?? name;
  return name || (session.isAdmin ? t("none reached") : "–");
}
